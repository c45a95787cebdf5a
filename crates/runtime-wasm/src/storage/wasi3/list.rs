//! What is in a directory, for WASI 0.3: read at once on a thread for blocking calls, counted, and given in a stream. (The WASI
//! crate's own would hold that thread until its guest has read all.)

use std::{
    fs::File,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};
use wasmtime::{
    StoreContextMut,
    component::{Destination, FutureReader, StreamProducer, StreamReader, StreamResult, VecBuffer},
};
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::{
    charge::{Account, Charge},
    guest::Host,
};

/// What one name takes at most.
const ENTRY_BYTES: u64 = 320;
/// Names that are given at once.
const GIVEN_MAX: usize = 256;

type Ended = FutureReader<Result<(), ErrorCode>>;

pub fn begin(
    mut store: StoreContextMut<'_, Host>,
    directory: Result<Arc<File>, ErrorCode>,
    account: &Account,
) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
    let (end, ended) = oneshot::channel();
    let entries = match directory {
        Ok(directory) => {
            let charge = account.nothing();
            let reading = spawn_blocking(move || read(&directory, charge));
            let listing = Listing { state: State::Reading(reading), end: Some(end) };
            StreamReader::new(&mut store, listing)?
        }
        Err(code) => {
            let _ = end.send(Err(code));
            StreamReader::new(&mut store, std::iter::empty())?
        }
    };
    Ok((entries, FutureReader::new(&mut store, ended)?))
}

struct Entries {
    entries: std::vec::IntoIter<DirectoryEntry>,
    /// What went wrong after these.
    failed: Option<ErrorCode>,
    _charge: Charge,
}

fn read(directory: &File, mut charge: Charge) -> Entries {
    let mut entries = Vec::new();
    let failed = fill(directory, &mut entries, &mut charge).err();
    Entries { entries: entries.into_iter(), failed, _charge: charge }
}

fn fill(directory: &File, entries: &mut Vec<DirectoryEntry>, charge: &mut Charge) -> Result<(), ErrorCode> {
    // A directory is held by a descriptor that names it and cannot be read.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, c".", flags, Mode::empty()).map_err(std::io::Error::from)?;
    for entry in Dir::new(readable).map_err(std::io::Error::from)? {
        let entry = entry.map_err(std::io::Error::from)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(data) => FileType::from_raw_mode(data.st_mode),
                // Gone meanwhile.
                Err(_) => continue,
            },
            kind => kind,
        };
        let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
        let bytes = (entries.len() as u64 + 1) * ENTRY_BYTES;
        charge.at_least(bytes).map_err(|_| ErrorCode::InsufficientMemory)?;
        entries.push(DirectoryEntry { type_: described(kind), name });
    }
    Ok(())
}

fn described(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Other(None),
    }
}

struct Listing {
    state: State,
    end: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

enum State {
    Reading(JoinHandle<Entries>),
    Read(Entries),
}

impl Listing {
    fn tell(&mut self, how: Result<(), ErrorCode>) {
        if let Some(end) = self.end.take() {
            let _ = end.send(how);
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

impl StreamProducer<Host> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        mut into: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if let State::Reading(reading) = &mut self.state {
            let read = Pin::new(reading).poll(context);
            if read.is_pending() && finish {
                return Poll::Ready(Ok(StreamResult::Cancelled));
            }
            self.state = State::Read(ready!(read)?);
        }
        let State::Read(entries) = &mut self.state else { return Poll::Ready(Ok(StreamResult::Dropped)) };
        let wanted = into.remaining(&mut store).unwrap_or(GIVEN_MAX).min(GIVEN_MAX);
        let given: Vec<_> = entries.entries.by_ref().take(wanted).collect();
        let left = entries.entries.len() > 0;
        into.set_buffer(given.into());
        if left || wanted == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let failed = entries.failed.take();
        self.tell(failed.map_or(Ok(()), Err));
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}
