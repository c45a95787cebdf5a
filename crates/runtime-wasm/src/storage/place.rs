//! One place on disk that may hold only so much: a container's own files, an emptyDir, or all of a pod.
//!
//! What must stay true: the count is never below what the place holds beyond what one host call can add. Every call that may
//! add something adds it to an upper bound, whatever place it went to; only when that passes the limit is the place measured,
//! once, and the bound becomes the truth again. So a write costs an addition, and nothing is looked at at intervals.

use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// What the place is, for the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Container(String),
    Volume(String),
    Pod,
}

/// Ends the guest that wrote too much, and its pod: the kubelet's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Evicted(pub String);

pub struct Place {
    what: What,
    bytes_max: u64,
    files_max: u64,
    parts: Mutex<Vec<PathBuf>>,
    /// What was measured last, and what may have been added since.
    bytes: AtomicU64,
    files: AtomicU64,
    measuring: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    bytes: u64,
    files: u64,
}

impl Place {
    pub fn new(what: What, bytes_max: u64, files_max: u64, parts: Vec<PathBuf>) -> Arc<Self> {
        let (bytes, files) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            what,
            bytes_max,
            files_max,
            parts: Mutex::new(parts),
            bytes,
            files,
            measuring: Default::default(),
        })
    }

    /// One more directory that counts. What is in it already is found when the place is measured.
    pub fn add(&self, part: PathBuf) {
        let mut parts = self.parts.lock();
        if !parts.contains(&part) {
            parts.push(part);
        }
    }

    /// Says whether the place may be over its limit now.
    pub fn wrote(&self, bytes: u64, files: u64) -> bool {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let files = self.files.fetch_add(files, Ordering::Relaxed).saturating_add(files);
        bytes > self.bytes_max || files > self.files_max
    }

    pub fn over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max || self.files.load(Ordering::Relaxed) > self.files_max
    }

    /// Measures the place if it may be over its limit; an error if it is.
    pub async fn settle(&self) -> Result<(), Evicted> {
        let _one = self.measuring.lock().await;
        if !self.over() {
            return Ok(());
        }
        let before = Found { bytes: self.bytes.load(Ordering::Relaxed), files: self.files.load(Ordering::Relaxed) };
        let (parts, files_max) = (self.parts.lock().clone(), self.files_max);
        let measured = tokio::task::spawn_blocking(move || measure(&parts, files_max)).await;
        // The walk does not panic; if it did, the bound stands.
        let Ok(found) = measured else { return Ok(()) };
        // What is written meanwhile stays counted.
        self.bytes.fetch_add(found.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
        self.files.fetch_add(found.files.wrapping_sub(before.files), Ordering::Relaxed);
        if found.bytes > self.bytes_max {
            return Err(Evicted(self.too_much()));
        }
        if found.files > self.files_max {
            return Err(Evicted(self.too_many()));
        }
        Ok(())
    }

    fn too_much(&self) -> String {
        let limit = quantity(self.bytes_max);
        match &self.what {
            What::Container(name) => {
                format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". ")
            }
            What::Volume(name) => format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "),
            What::Pod => format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "),
        }
    }

    fn too_many(&self) -> String {
        let max = self.files_max;
        match &self.what {
            What::Container(name) => format!("Container {name} has more than {max} files, or nests them too deeply. "),
            What::Volume(name) => {
                format!("EmptyDir volume \"{name}\" holds more than {max} files, or nests them too deeply. ")
            }
            What::Pod => format!("Pod has more than {max} files, or nests them too deeply. "),
        }
    }
}

/// What the directories take of the disk, as `du` counts: blocks, and a file with several names once. Stops counting
/// when there are too many files, so that it never takes long.
fn measure(parts: &[PathBuf], files_max: u64) -> Found {
    let mut found = Found::default();
    let mut linked = HashSet::new();
    let mut left: Vec<PathBuf> = parts.to_vec();
    while let Some(directory) = left.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if unreachable(&error) => return Found { files: files_max + 1, ..found },
            // Gone meanwhile, or not made yet.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            found.files += 1;
            if found.files > files_max {
                return found;
            }
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                left.push(entry.path());
            }
            if data.nlink() > 1 && !data.is_dir() && !linked.insert((data.dev(), data.ino())) {
                continue;
            }
            found.bytes = found.bytes.saturating_add(data.blocks() * 512);
        }
    }
    found
}

/// A path that is longer than the system takes hides what is below it.
fn unreachable(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidFilename)
}

/// `1Mi`, `1500k`, `7`: the shortest way to write it.
pub fn quantity(bytes: u64) -> String {
    let scale = |base: u64, units: [&'static str; 4]| {
        let mut value = bytes;
        let mut unit = "";
        for next in units {
            if value == 0 || !value.is_multiple_of(base) {
                break;
            }
            value /= base;
            unit = next;
        }
        (value, unit)
    };
    let (binary, decimal) = (scale(1024, ["Ki", "Mi", "Gi", "Ti"]), scale(1000, ["k", "M", "G", "T"]));
    let (value, unit) = if binary.0 <= decimal.0 { binary } else { decimal };
    format!("{value}{unit}")
}

/// Where a path leads on the host, without following what a guest may have put there.
pub fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_shortly() {
        let rows = [(0, "0"), (7, "7"), (1 << 20, "1Mi"), (10 << 30, "10Gi"), (1_500_000, "1500k"), (1_000_000, "1M")];
        for (bytes, expected) in rows {
            assert_eq!(quantity(bytes), expected);
        }
    }

    #[test]
    fn links_and_holes_count_for_what_they_take() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("sub/a"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(path("sub/a"), path("b")).unwrap();
        std::os::unix::fs::symlink("/", path("root")).unwrap();
        std::fs::File::create(path("hole")).unwrap().set_len(1 << 40).unwrap();
        let found = measure(&[directory.path().to_owned()], 100);
        assert_eq!(found.files, 5);
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(measure(&[directory.path().to_owned()], 3).files, 4, "no further than it must");
    }

    #[tokio::test]
    async fn a_place_is_measured_when_it_may_be_full() {
        let directory = tempfile::tempdir().unwrap();
        let parts = vec![directory.path().to_owned()];
        let place = Place::new(What::Container("c".to_owned()), 1 << 20, 10, parts);
        assert!(!place.wrote(1 << 20, 0));
        assert!(place.wrote(1, 0));
        // It went elsewhere: nothing is here.
        place.settle().await.unwrap();
        assert!(!place.over());
        std::fs::write(directory.path().join("a"), vec![1; 2 << 20]).unwrap();
        assert!(place.wrote(2 << 20, 1));
        let told = place.settle().await.unwrap_err().to_string();
        assert_eq!(told, "Container c exceeded its local ephemeral storage limit \"1Mi\". ");
    }

    #[tokio::test]
    async fn files_are_counted_too() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(What::Volume("v".to_owned()), 1 << 30, 10, vec![directory.path().to_owned()]);
        for index in 0..11 {
            std::fs::write(directory.path().join(index.to_string()), "").unwrap();
            assert_eq!(place.wrote(4096, 1), index == 10);
        }
        let told = place.settle().await.unwrap_err().to_string();
        assert_eq!(told, "EmptyDir volume \"v\" holds more than 10 files, or nests them too deeply. ");
    }
}
