//! The directory, its lock, and every way in which it may be unusable.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use redb::{Builder, Database, DatabaseError};
use skiff_store::{Entry, Revision};

use crate::disk::{self, Disk, FORMAT};

/// How long a killed process is waited for, and how often it is looked at.
const ENDING_MAX: Duration = Duration::from_secs(10);
const ENDING_RETRY: Duration = Duration::from_millis(10);

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    #[error("{path} is in use by {}; stop it, or choose another directory", process(*pid))]
    InUse { path: String, pid: Option<u32> },
    #[error(
        "{path} was written by a newer version (format {format}, this one knows {FORMAT}); use that version, or choose another directory"
    )]
    Newer { path: String, format: u64 },
    #[error("{path} cannot be written to ({reason}); give this user the right to, or choose another directory")]
    ReadOnly { path: String, reason: String },
    #[error("{path} is not a directory; choose another one")]
    NotADirectory { path: String },
    #[error("the disk of {path} is full; free some space, or choose another directory")]
    Full { path: String },
    #[error("{path} is damaged ({reason}); restore it from a backup, or move it away to begin anew")]
    Corrupted { path: String, reason: String },
    #[error("failed to open {path}: {reason}")]
    Io { path: String, reason: String },
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("the process {pid}"))
}

impl OpenError {
    fn from_io(path: &str, error: &io::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, reason },
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Self::NotADirectory { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Corrupted { path, reason },
            _ => Self::Io { path, reason },
        }
    }

    fn from_redb(path: &str, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::from_io(path, &error),
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path: path.into(), pid: None },
            other => Self::Corrupted { path: path.into(), reason: other.to_string() },
        }
    }
}

pub(crate) struct Loaded {
    pub(crate) database: Database,
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// Opens the database, repairs it where it was not closed properly, and reads everything.
pub(crate) fn load(disk: &mut dyn Disk, cache_bytes: usize) -> Result<Loaded, OpenError> {
    let path = disk.path();
    let loaded = catch_unwind(AssertUnwindSafe(|| -> Result<_, redb::Error> {
        let database = disk.open(Builder::new().set_cache_size(cache_bytes))?;
        let content = disk::read(&database)?;
        Ok((database, content))
    }));
    // A file that somebody else wrote into can make the reader of pages panic: it has no check of its own there.
    let damaged = |_| OpenError::Corrupted { path: path.clone(), reason: "the database cannot be read".into() };
    let (database, content) = loaded.map_err(damaged)?.map_err(|error| OpenError::from_redb(&path, error))?;
    if content.format != FORMAT {
        return Err(OpenError::Newer { path, format: content.format });
    }
    Ok(Loaded { database, revision: content.revision, entries: content.entries })
}

/// A directory that this process alone uses, for as long as the value lives.
pub(crate) struct Directory {
    dir: PathBuf,
    /// Locked; the system unlocks it when the process ends, however it does.
    _lock: File,
}

impl Directory {
    #[allow(
        clippy::disallowed_methods,
        reason = "nothing tells when the system is done with a process that was killed"
    )]
    pub(crate) fn lock(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.display().to_string();
        let failed = |error: io::Error| OpenError::from_io(&path, &error);
        if dir.exists() && !dir.is_dir() {
            return Err(OpenError::NotADirectory { path });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let mut lock = private_file().open(dir.join("store.lock")).map_err(failed)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let mut pid = String::new();
            lock.rewind().map_err(failed)?;
            // Only for the message: without it the message is still true.
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim().parse().ok();
            if !pid.is_some_and(is_ending) || began.elapsed() > ENDING_MAX {
                return Err(OpenError::InUse { path, pid });
            }
            std::thread::sleep(ENDING_RETRY);
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// A database that is cut short by a crash while it is created is never seen: it gets its name when complete.
    fn create(&self, builder: &Builder, file: &Path) -> Result<(), DatabaseError> {
        let unfinished = self.dir.join("store.redb.new");
        let opened = private_file().truncate(true).open(&unfinished)?;
        let handle = opened.try_clone()?;
        let database = builder.create_file(opened)?;
        disk::create(&database).map_err(|error| match error {
            redb::Error::Io(error) => DatabaseError::from(redb::StorageError::Io(error)),
            other => redb::StorageError::Corrupted(other.to_string()).into(),
        })?;
        drop(database);
        handle.sync_all()?;
        std::fs::rename(&unfinished, file)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(())
    }
}

/// Whether the process was killed and is being taken down, which with tens of terabytes of reserved addresses takes the
/// system up to a second, or is gone by now. See proc(5).
fn is_ending(pid: u32) -> bool {
    const PF_EXITING: u64 = 0x4;
    const SIGKILL: u64 = 1 << 8;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The name may hold anything, so the fields are counted from its end: state, ppid, pgrp, session, tty, tpgid, flags.
    let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6)?.parse().ok());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |line: &str| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")).map(str::to_owned);
    let mut pending = status.lines().filter_map(pending).filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    flags.is_some_and(|flags: u64| flags & PF_EXITING != 0) || pending.any(|mask| mask & SIGKILL != 0)
}

fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

impl Disk for Directory {
    fn path(&self) -> String {
        self.dir.display().to_string()
    }

    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = self.dir.join("store.redb");
        if !file.try_exists()? {
            self.create(builder, &file)?;
        }
        builder.create_file(private_file().open(&file)?)
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_is_not_in_the_way() {
        assert!(!is_ending(std::process::id()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        assert!(!is_ending(child.id()));
        child.kill().expect("killed");
        let killed = is_ending(child.id());
        child.wait().expect("ended");
        assert!(killed && is_ending(child.id()));
    }

    /// Root may write anywhere, so these are told by their kind.
    #[test]
    fn the_message_says_what_to_do() {
        let table = [
            (ErrorKind::ReadOnlyFilesystem, "/d cannot be written to"),
            (ErrorKind::PermissionDenied, "give this user the right to"),
            (ErrorKind::StorageFull, "the disk of /d is full; free some space"),
            (ErrorKind::NotADirectory, "/d is not a directory"),
            (ErrorKind::UnexpectedEof, "/d is damaged"),
            (ErrorKind::Other, "failed to open /d"),
        ];
        for (kind, expected) in table {
            let message = OpenError::from_io("/d", &kind.into()).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
