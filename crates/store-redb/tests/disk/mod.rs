//! A disk that loses, tears and reorders what was not synced, fills up, and breaks, as a test tells it to.

use std::{
    io::{self, ErrorKind},
    ops::Bound,
    sync::{Arc, Mutex},
};

use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};
use skiff_store_redb::Disk;

/// Power fails by sectors.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Writes that make the file longer fail.
    Full,
    /// Everything fails but reads.
    Broken,
    /// The power fails in this many steps; then everything fails.
    PowerOffIn(usize),
}

#[derive(Debug, Default)]
struct State {
    /// What a reader of the open file sees.
    seen: Vec<u8>,
    /// What survives for certain.
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    fault: Fault,
    syncs: usize,
}

#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub fn set(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    pub fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    /// What the file takes.
    pub fn bytes(&self) -> usize {
        self.0.lock().unwrap().seen.len()
    }

    /// The disk as the next boot finds it: of what was not synced, any part, in any order, the last one of each
    /// sector that survives wins.
    pub fn after_power_loss(&self, mut roll: impl FnMut(usize) -> usize) -> SimDisk {
        let mut state = self.0.lock().unwrap();
        // Whoever still has the old disk open must not go on with it.
        state.fault = Fault::Broken;
        let mut durable = state.durable.clone();
        let mut left = state.unsynced.clone();
        let keep_of_8 = roll(9);
        while !left.is_empty() {
            // Mostly in order, sometimes not.
            let at = if roll(4) == 0 { roll(left.len()) } else { 0 };
            match left.remove(at) {
                Unsynced::Length(length) if roll(8) < keep_of_8 => apply(&mut durable, &Unsynced::Length(length)),
                Unsynced::Length(_) => {}
                Unsynced::Write(offset, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if roll(8) < keep_of_8 {
                            let offset = offset + (n * SECTOR) as u64;
                            apply(&mut durable, &Unsynced::Write(offset, sector.to_vec()));
                        }
                    }
                }
            }
        }
        let state = State { seen: durable.clone(), durable, ..State::default() };
        SimDisk(Arc::new(Mutex::new(state)))
    }
}

fn apply(file: &mut Vec<u8>, change: &Unsynced) {
    match change {
        Unsynced::Length(length) => file.resize(usize::try_from(*length).unwrap(), 0),
        Unsynced::Write(offset, data) => {
            let (start, end) = (usize::try_from(*offset).unwrap(), usize::try_from(*offset).unwrap() + data.len());
            if file.len() < end {
                file.resize(end, 0);
            }
            file[start..end].copy_from_slice(data);
        }
    }
}

impl State {
    fn change(&mut self, change: Unsynced) -> io::Result<()> {
        let length = match &change {
            Unsynced::Length(length) => *length,
            Unsynced::Write(offset, data) => offset + data.len() as u64,
        };
        self.step()?;
        if self.fault == Fault::Full && length > self.seen.len() as u64 {
            return Err(ErrorKind::StorageFull.into());
        }
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Fault::PowerOffIn(0) | Fault::Broken => Err(io::Error::other("the disk is gone")),
            Fault::PowerOffIn(steps) => {
                *steps -= 1;
                Ok(())
            }
            Fault::None | Fault::Full => Ok(()),
        }
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let part = state.seen.get(start..start + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Unsynced::Length(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        state.syncs += 1;
        state.durable = state.seen.clone();
        state.unsynced.clear();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().change(Unsynced::Write(offset, data.to_vec()))
    }
    // One process: nobody to lock out.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Disk for SimDisk {
    fn path(&self) -> String {
        "the simulated disk".into()
    }
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(self.clone())
    }
}
