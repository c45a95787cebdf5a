//! A container's log file in the CRI format: one record per line, `TIME stdout|stderr F|P TEXT`.
//!
//! Records are written when the guest writes (no buffer that a crash could lose, no unbounded memory); a line longer
//! than [`LINE_BYTES_MAX`] is cut into partial records, as is the unfinished rest at the end. The guest waits for the disk.
//! The file is made by the first write (on some disks that takes ten times as long as starting the guest), and is open only
//! while its guest runs on a thread, so that parked guests hold no file descriptor.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{
    charge::{Account, Charge},
    storage::Storage,
};

/// As containerd's limit of a record.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// The unfinished lines of both streams.
const PENDING_BYTES: u64 = 2 * LINE_BYTES_MAX as u64;
pub const LOG_BYTES_MAX_DEFAULT: u64 = 10 << 20;
pub const LOG_FILES_MAX_DEFAULT: u32 = 5;

/// What a log may grow by in the long run; a guest that writes faster waits, and nothing is lost.
pub const LOG_BYTES_PER_SECOND: u64 = 8 << 20;
/// What it may write at once after a quiet time.
pub const LOG_BYTES_BURST: u64 = 16 << 20;
/// A record's time, stream and tag.
const RECORD_BYTES: u64 = 48;

/// A token bucket of bytes.
struct Rate {
    /// Below zero, who writes waits.
    bytes: i64,
    filled: Instant,
}

impl Rate {
    #[allow(clippy::disallowed_methods, reason = "a rate of real bytes on a real disk")]
    fn new() -> Self {
        Self { bytes: LOG_BYTES_BURST.cast_signed(), filled: Instant::now() }
    }

    fn pay(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.bytes < 0 {
            self.fill();
        }
    }

    /// Only when it is empty: telling the time costs more than a short write.
    #[allow(clippy::disallowed_methods, reason = "a rate of real bytes on a real disk")]
    fn fill(&mut self) {
        let now = Instant::now();
        let passed = now - std::mem::replace(&mut self.filled, now);
        let earned = passed.as_micros().saturating_mul(u128::from(LOG_BYTES_PER_SECOND)) / 1_000_000;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(earned).min(LOG_BYTES_BURST.cast_signed());
    }

    fn pause(&mut self) -> Option<Duration> {
        if self.bytes >= 0 {
            return None;
        }
        self.fill();
        let debt = u64::try_from(-self.bytes).ok().filter(|&debt| debt > 0)?;
        Some(Duration::from_micros(debt.saturating_mul(1_000_000) / LOG_BYTES_PER_SECOND + 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Shared by the two streams of a guest.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    writer: Mutex<Writer>,
    /// Written in all; apart from the writer, so that statistics never wait for a disk.
    bytes_total: AtomicU64,
    /// What the log takes of the disk is counted with its container's files.
    storage: OnceLock<Arc<Storage>>,
    rate: Mutex<Rate>,
    /// Tells the user that it cannot be written, once.
    failed: Mutex<Option<Tell>>,
}

type Tell = Box<dyn FnOnce(String) + Send>;

struct Writer {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    file: Option<File>,
    /// Of the current file.
    size: u64,
    pending: [Vec<u8>; 2],
    /// Of the container, for lines that are not finished: charged once, when there is one.
    account: Option<Account>,
    charge: Option<Charge>,
    out: Vec<u8>,
}

impl Log {
    pub fn new(path: PathBuf, bytes_max: Option<u64>, files_max: Option<u32>) -> Self {
        let writer = Writer {
            path,
            bytes_max: bytes_max.unwrap_or(LOG_BYTES_MAX_DEFAULT).max(1),
            files_max: files_max.unwrap_or(LOG_FILES_MAX_DEFAULT).max(1),
            file: None,
            size: 0,
            pending: [Vec::new(), Vec::new()],
            account: None,
            charge: None,
            out: Vec::new(),
        };
        Self(Arc::new(Shared {
            writer: Mutex::new(writer),
            bytes_total: AtomicU64::new(0),
            storage: OnceLock::new(),
            rate: Mutex::new(Rate::new()),
            failed: Mutex::default(),
        }))
    }

    pub fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.0.writer.lock();
        let result = writer.write(stream, bytes);
        if let Err(error) = &result
            && let Some(tell) = self.0.failed.lock().take()
        {
            tell(format!("failed to write log {}: {error}", writer.path.display()));
        }
        drop(writer);
        if result.is_ok() {
            let count = bytes.len() as u64;
            self.0.bytes_total.fetch_add(count, Ordering::Relaxed);
            self.0.rate.lock().pay(count);
            if let Some(storage) = self.0.storage.get()
                && storage.wrote(count + RECORD_BYTES)
            {
                storage.settle_later();
            }
        }
        result
    }

    /// Counts what it takes of the disk, and of memory, from now on.
    pub fn counts_on(&self, storage: Arc<Storage>, account: Account) {
        let _ = self.0.storage.set(storage);
        self.0.writer.lock().account = Some(account);
    }

    /// Calls `tell` when it cannot be written for the first time.
    pub fn tells(&self, tell: impl FnOnce(String) + Send + 'static) {
        *self.0.failed.lock() = Some(Box::new(tell));
    }

    /// How long to wait before more is written, if it was written too fast.
    pub fn pause(&self) -> Option<Duration> {
        self.0.rate.lock().pause()
    }

    /// Closes the file until something more is written.
    pub fn park(&self) {
        self.0.writer.lock().file = None;
    }

    /// Writes what is left of unfinished lines, and closes. Writes after it begin new lines.
    pub fn finish(&self) -> io::Result<()> {
        let mut writer = self.0.writer.lock();
        let result = writer.finish();
        writer.file = None;
        result
    }

    /// Bytes that the guest has written in all.
    pub fn bytes_total(&self) -> u64 {
        self.0.bytes_total.load(Ordering::Relaxed)
    }
}

impl Writer {
    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let options = options.create(true).append(true);
            let file = match options.open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
                    options.open(&self.path)?
                }
                other => other?,
            };
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        // Present: set just above.
        self.file.as_mut().ok_or_else(|| io::Error::other("log file closed"))
    }

    fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        // Once for all lines of a write: telling the time costs more than copying a line.
        let time = Timestamp::now().to_string();
        while !bytes.is_empty() {
            let pending = &mut self.pending[stream as usize];
            let room = LINE_BYTES_MAX - pending.len();
            let newline = bytes.iter().take(room + 1).position(|&byte| byte == b'\n');
            match newline {
                Some(end) => {
                    record(&mut self.out, &time, stream, b'F', [pending, &bytes[..end]]);
                    pending.clear();
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() < room => {
                    // Where there is no memory the guest may still say so.
                    if self.charge.is_none() {
                        self.charge = self.account.as_ref().and_then(|account| account.charge(PENDING_BYTES).ok());
                    }
                    pending.extend_from_slice(bytes);
                    bytes = &[];
                }
                None => {
                    record(&mut self.out, &time, stream, b'P', [pending, &bytes[..room]]);
                    pending.clear();
                    bytes = &bytes[room..];
                }
            }
            if self.out.len() >= 4 * LINE_BYTES_MAX {
                self.commit()?;
            }
        }
        self.commit()
    }

    fn finish(&mut self) -> io::Result<()> {
        // Once for all lines of a write: telling the time costs more than copying a line.
        let time = Timestamp::now().to_string();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                record(&mut self.out, &time, stream, b'P', [&pending, &[]]);
            }
        }
        self.charge = None;
        self.commit()
    }

    fn commit(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.out);
        let result = self.append(&out);
        if result.is_ok() {
            self.size += out.len() as u64;
        }
        out.clear();
        // A flood's buffer is not kept for the quiet time after it.
        if out.capacity() <= 4096 {
            self.out = out;
        }
        result
    }

    fn append(&mut self, out: &[u8]) -> io::Result<()> {
        self.open()?;
        if self.size > 0 && self.size + out.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.open()?.write_all(out)
    }

    /// Renames the file to carry the time, and drops the oldest beyond the count.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.size = 0;
        if self.files_max == 1 {
            return std::fs::remove_file(&self.path);
        }
        let mut rotated = self.path.as_os_str().to_owned();
        rotated.push(Timestamp::now().strftime(".%Y%m%d-%H%M%S.%9f").to_string());
        std::fs::rename(&self.path, &rotated)?;
        let mut older = self.rotated()?;
        older.sort_unstable();
        let excess = older.len().saturating_sub(self.files_max as usize - 1);
        for path in older.into_iter().take(excess) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(Vec::new()) };
        let mut prefix = name.to_string_lossy().into_owned();
        prefix.push('.');
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

fn record(out: &mut Vec<u8>, time: &str, stream: Stream, tag: u8, text: [&[u8]; 2]) {
    let stream = match stream {
        Stream::Stdout => " stdout ",
        Stream::Stderr => " stderr ",
    };
    for part in [time.as_bytes(), stream.as_bytes(), &[tag, b' '], text[0], text[1], b"\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writes: &[(Stream, &[u8])]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/0.log");
        let log = Log::new(path.clone(), None, None);
        for (stream, bytes) in writes {
            log.write(*stream, bytes).unwrap();
            log.park();
        }
        log.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let log = Log::new(directory.path().join("file/0.log"), None, None);
        let (sender, told) = std::sync::mpsc::channel();
        log.tells(move |message| sender.send(message).unwrap());
        assert!(log.write(Stream::Stdout, b"a\n").is_err() && log.write(Stream::Stdout, b"b\n").is_err());
        let told: Vec<String> = told.iter().collect();
        assert!(matches!(&told[..], [one] if one.contains("file/0.log: ")), "{told:?}");
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        use Stream::{Stderr, Stdout};
        type Row<'a> = (&'a [(Stream, &'a [u8])], &'a [&'a str]);
        let rows: &[Row<'_>] = &[
            (&[(Stdout, b"a\n")], &["stdout F a"]),
            (&[(Stdout, b"\n\n")], &["stdout F ", "stdout F "]),
            (&[(Stdout, b"a"), (Stderr, b"x\n"), (Stdout, b"b\n")], &["stderr F x", "stdout F ab"]),
            (&[(Stdout, b"a\nb"), (Stderr, b"c")], &["stdout F a", "stdout P b", "stderr P c"]),
            (&[(Stdout, b"")], &[]),
        ];
        for (writes, expected) in rows {
            assert_eq!(&written(writes), expected, "{writes:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_at_the_limit() {
        for (length, parts) in [(LINE_BYTES_MAX - 1, 1), (LINE_BYTES_MAX, 1), (LINE_BYTES_MAX + 1, 2)] {
            let mut text = vec![b'x'; length];
            text.push(b'\n');
            let lines = written(&[(Stream::Stdout, &text)]);
            assert_eq!(lines.len(), parts, "a line of {length}");
            assert!(lines[parts - 1].starts_with("stdout F "));
            assert!(lines[..parts - 1].iter().all(|line| line.starts_with("stdout P ")));
        }
    }
}
