//! One bucket: a file per key, named by the key's digest, replaced atomically and flushed before a write returns.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use skiff_runtime::LiveSource;

use crate::{compile::hex, images::write_atomically};

/// The longest key.
pub const KEY_BYTES_MAX: usize = 1024;
/// The largest value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Keys of one bucket.
pub const KEYS_MAX: usize = 10_000;
/// Keys and values of one bucket together.
pub const BUCKET_BYTES_MAX: u64 = 16 << 20;
/// Keys in one answer of `list-keys`.
pub const PAGE_KEYS: usize = 500;
/// Keys in one call of a batch.
pub const BATCH_KEYS_MAX: usize = 500;
/// Values in one answer of a batch, together.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// As the interface tells it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no such store")]
    NoSuchStore,
    #[error("access denied")]
    AccessDenied,
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(format!("the node failed to read or write the bucket: {error}"))
    }
}

fn over(what: &str, is: usize, limit: usize) -> Failure {
    Failure::Other(format!("{what} has {is}; the limit is {limit}"))
}

pub fn name_valid(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// A key and its value, where there is one.
pub type Entry = Option<(String, Vec<u8>)>;

/// A bucket that a program has open. Everything blocks.
#[derive(Clone)]
pub enum Bucket {
    /// A ConfigMap or Secret as it is now.
    Source(Arc<LiveSource>),
    Kept(Arc<Kept>),
}

impl Bucket {
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Source(source) => Ok(source.get().get(key).cloned()),
            Self::Kept(kept) => kept.read(&kept.entries.lock(), key),
        }
    }

    pub fn exists(&self, key: &str) -> bool {
        match self {
            Self::Source(source) => source.get().contains_key(key),
            Self::Kept(kept) => kept.entries.lock().sizes.contains_key(key),
        }
    }

    /// Keys from that place on, and the place to go on from.
    pub fn keys(&self, from: usize) -> (Vec<String>, Option<usize>) {
        let page = |keys: &mut dyn Iterator<Item = &String>, count: usize| {
            let next = from.saturating_add(PAGE_KEYS);
            (keys.skip(from).take(PAGE_KEYS).cloned().collect(), (next < count).then_some(next))
        };
        match self {
            Self::Source(source) => {
                let source = source.get();
                page(&mut source.keys(), source.len())
            }
            Self::Kept(kept) => {
                let entries = kept.entries.lock();
                page(&mut entries.sizes.keys(), entries.sizes.len())
            }
        }
    }

    fn kept(&self) -> Result<&Kept, Failure> {
        match self {
            Self::Source(_) => Err(Failure::AccessDenied),
            Self::Kept(kept) => Ok(kept),
        }
    }

    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        let kept = self.kept()?;
        kept.write(&mut kept.entries.lock(), key, value)
    }

    pub fn delete(&self, key: &str) -> Result<(), Failure> {
        let kept = self.kept()?;
        let mut entries = kept.entries.lock();
        let Some(size) = entries.sizes.remove(key) else { return Ok(()) };
        entries.bytes -= size;
        Ok(std::fs::remove_file(kept.path(key))?)
    }

    /// Adds to a number, which is kept as decimal text; one that is not there is 0.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Failure> {
        let kept = self.kept()?;
        let mut entries = kept.entries.lock();
        let before = match kept.read(&entries, key)? {
            None => 0,
            Some(bytes) => {
                let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<u64>().ok());
                number.ok_or_else(|| Failure::Other(format!("the value of {key:?} is not a number")))?
            }
        };
        let after = before.checked_add(delta).ok_or_else(|| Failure::Other(format!("{key:?} would be too large")))?;
        kept.write(&mut entries, key, after.to_string().as_bytes())?;
        Ok(after)
    }

    pub fn get_many(&self, keys: Vec<String>) -> Result<Vec<Entry>, Failure> {
        batch(keys.len())?;
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let value = self.get(&key)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            if bytes > BATCH_BYTES_MAX {
                return Err(over("the answer, in bytes,", bytes, BATCH_BYTES_MAX));
            }
            found.push(value.map(|value| (key, value)));
        }
        Ok(found)
    }
}

pub fn batch(keys: usize) -> Result<(), Failure> {
    if keys > BATCH_KEYS_MAX { Err(over("the batch, in keys,", keys, BATCH_KEYS_MAX)) } else { Ok(()) }
}

/// A bucket on the node's disk.
pub struct Kept {
    directory: PathBuf,
    /// Held over each write, so that the index is what the disk has.
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Key → bytes of key and value.
    sizes: BTreeMap<String, u64>,
    bytes: u64,
}

impl Kept {
    pub fn open(directory: PathBuf) -> Result<Self, Failure> {
        std::fs::create_dir_all(&directory)?;
        let mut entries = Entries::default();
        for file in std::fs::read_dir(&directory)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                // Of a write that a crash cut off.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            if let Some((key, value)) = split(&std::fs::read(&path)?) {
                let size = (key.len() + value.len()) as u64;
                entries.bytes += size;
                entries.sizes.insert(key.to_owned(), size);
            }
        }
        Ok(Self { directory, entries: Mutex::new(entries) })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(hex(&Sha256::digest(key.as_bytes())))
    }

    fn read(&self, entries: &Entries, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        if !entries.sizes.contains_key(key) {
            return Ok(None);
        }
        Ok(split(&std::fs::read(self.path(key))?).map(|(_, value)| value.to_vec()))
    }

    fn write(&self, entries: &mut Entries, key: &str, value: &[u8]) -> Result<(), Failure> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(over("the key, in bytes,", key.len(), KEY_BYTES_MAX));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(over("the value, in bytes,", value.len(), VALUE_BYTES_MAX));
        }
        let size = (key.len() + value.len()) as u64;
        let before = entries.sizes.get(key).copied();
        if before.is_none() && entries.sizes.len() >= KEYS_MAX {
            return Err(Failure::Other(format!("the bucket has {KEYS_MAX} keys, as many as it may have")));
        }
        let bytes = entries.bytes - before.unwrap_or(0) + size;
        if bytes > BUCKET_BYTES_MAX {
            return Err(Failure::Other(format!("the bucket is full: its limit is {BUCKET_BYTES_MAX} bytes")));
        }
        write_file(&self.path(key), key, value)?;
        entries.sizes.insert(key.to_owned(), size);
        entries.bytes = bytes;
        Ok(())
    }
}

/// The key's length, the key, the value.
fn write_file(path: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(key.len()).map_err(io::Error::other)?;
    write_atomically(path, &[&length.to_le_bytes(), key.as_bytes(), value])
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(key).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Bucket {
        Bucket::Kept(Arc::new(Kept::open(directory.to_owned()).expect("opens")))
    }

    #[test]
    fn values_are_kept_over_restarts() {
        let directory = tempfile::tempdir().expect("writable");
        let bucket = open(directory.path());
        bucket.set("a/../b", b"1").expect("set");
        bucket.set("gone", b"x").expect("set");
        bucket.delete("gone").expect("deleted");
        bucket.delete("never").expect("nothing to do");
        assert_eq!(bucket.increment("n", 5), Ok(5));
        std::fs::write(directory.path().join("cut.tmp"), "half").expect("written");
        let bucket = open(directory.path());
        assert_eq!(bucket.get("a/../b"), Ok(Some(b"1".to_vec())));
        assert_eq!((bucket.exists("n"), bucket.exists("gone")), (true, false));
        assert_eq!(bucket.increment("n", 2), Ok(7));
        assert_eq!(bucket.keys(0), (vec!["a/../b".to_owned(), "n".to_owned()], None));
        assert_eq!(bucket.keys(usize::MAX), (vec![], None));
        assert!(bucket.increment("a/../b", u64::MAX).is_err());
        bucket.set("t", b"text").expect("set");
        assert!(bucket.increment("t", 1).is_err());
    }

    #[test]
    fn every_limit_holds() {
        let directory = tempfile::tempdir().expect("writable");
        let bucket = open(directory.path());
        let value = vec![0; VALUE_BYTES_MAX];
        for (key, bytes) in [("", 0), ("k".repeat(KEY_BYTES_MAX + 1).as_str(), 0), ("k", VALUE_BYTES_MAX + 1)] {
            assert!(bucket.set(key, &vec![0; bytes]).is_err(), "{} {bytes}", key.len());
        }
        let room = (BUCKET_BYTES_MAX / VALUE_BYTES_MAX as u64) as usize - 1;
        for n in 0..room {
            bucket.set(&n.to_string(), &value).expect("there is room");
        }
        assert!(bucket.set("more", &value).is_err());
        bucket.set("0", &value).expect("replacing takes no more room");
        assert!(bucket.get_many((0..room).map(|n| n.to_string()).collect()).is_err(), "an answer is bounded");
        assert!(bucket.get_many(vec![String::new(); BATCH_KEYS_MAX + 1]).is_err());
        assert_eq!(bucket.get_many(vec!["x".to_owned()]), Ok(vec![None]));
    }

    #[test]
    fn sources_are_read_only() {
        let source = LiveSource::new([("a".to_owned(), b"1".to_vec())].into());
        let bucket = Bucket::Source(source.clone());
        assert_eq!(bucket.get("a"), Ok(Some(b"1".to_vec())));
        for refused in [bucket.set("a", b"2"), bucket.delete("a"), bucket.increment("a", 1).map(drop)] {
            assert_eq!(refused, Err(Failure::AccessDenied));
        }
        source.set([("b".to_owned(), b"2".to_vec())].into());
        assert_eq!((bucket.get("a"), bucket.get("b")), (Ok(None), Ok(Some(b"2".to_vec()))));
    }

    #[test]
    fn names_are_plain() {
        for (name, valid) in
            [("cache-1", true), ("", false), ("..", false), ("A", false), ("-a", false), ("a/b", false)]
        {
            assert_eq!(name_valid(name), valid, "{name}");
        }
    }
}
