//! What guests may take of the node's disk and of its open files.
//!
//! A container has its private `/` and its log, a pod its emptyDir volumes, each with a limit ([`EPHEMERAL_BYTES_DEFAULT`] and
//! [`FILES_MAX`] where the pod gives none). Who goes beyond it by more than one call's bytes is ended, and its pod is evicted. What a
//! guest writes to a `hostPath` is not counted. Open files are counted as well: beyond [`OPEN_FILES_MAX`] of a process, or
//! when the node has no more to give, opening fails in the guest as it would anywhere (`EMFILE`, `ENFILE`).

mod place;
pub mod preview1;
pub mod preview2;
pub mod wasi3;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use skiff_runtime::{ContainerConfig, EVICTED, Exit, SandboxConfig, SandboxId};

pub use place::Evicted;
use place::{Place, What, directory_of};

/// Of a container's private files and log, and of an emptyDir, when its pod says nothing: 10 GiB.
pub const EPHEMERAL_BYTES_DEFAULT: u64 = 10 << 30;
/// Files and directories of a container, or of an emptyDir; the pod is evicted beyond it.
pub const FILES_MAX: u64 = 65_536;
/// Files and directories that one process may have open; beyond it opening fails with `EMFILE`.
pub const OPEN_FILES_MAX: usize = 512;
/// File descriptors of the process that are not for guests.
const DESCRIPTORS_RESERVED: usize = 512;
/// What a new name takes at least.
const NAME_BYTES: u64 = 4096;

/// The node's part: the places of each pod, and the open files of all guests together.
pub struct Storages {
    pods: Mutex<HashMap<SandboxId, Arc<Pod>>>,
    open: Arc<OpenFiles>,
}

struct Pod {
    whole: Option<Arc<Place>>,
    /// By where the volume lies.
    volumes: Mutex<HashMap<PathBuf, Arc<Place>>>,
}

struct OpenFiles {
    count: AtomicUsize,
    max: usize,
}

impl Storages {
    /// After the limit of open files was raised.
    pub fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let max = limit.saturating_sub(DESCRIPTORS_RESERVED).max(DESCRIPTORS_RESERVED);
        Self { pods: Mutex::default(), open: Arc::new(OpenFiles { count: AtomicUsize::new(0), max }) }
    }

    fn pod(&self, sandbox: &SandboxId, config: &SandboxConfig) -> Arc<Pod> {
        let mut pods = self.pods.lock();
        let make = || {
            let whole = config.ephemeral_bytes_max;
            let whole = whole.map(|max| Place::new(What::Pod, max, u64::MAX - 1, Vec::new()));
            Arc::new(Pod { whole, volumes: Mutex::default() })
        };
        pods.entry(sandbox.clone()).or_insert_with(make).clone()
    }

    pub fn forget(&self, sandbox: &str) {
        self.pods.lock().remove(sandbox);
    }

    /// The part of a container whose private files will be in `root`.
    pub fn container(
        &self,
        sandbox: &SandboxId,
        pod: &SandboxConfig,
        config: &ContainerConfig,
        root: PathBuf,
    ) -> Arc<Storage> {
        let pod = self.pod(sandbox, pod);
        let logs = directory_of(&config.log_path);
        let max = config.resources.ephemeral_bytes_max.unwrap_or(EPHEMERAL_BYTES_DEFAULT);
        let own = Place::new(What::Container(config.name.clone()), max, FILES_MAX, vec![root.clone(), logs.clone()]);
        let mut places = vec![own];
        if let Some(whole) = &pod.whole {
            whole.add(root);
            whole.add(logs);
            places.push(whole.clone());
        }
        for mount in config.mounts.iter() {
            let Some(volume) = &mount.volume else { continue };
            let mut volumes = pod.volumes.lock();
            let place = volumes.entry(volume.root.clone()).or_insert_with(|| {
                let max = volume.bytes_max.unwrap_or(EPHEMERAL_BYTES_DEFAULT);
                Place::new(What::Volume(volume.name.clone()), max, FILES_MAX, vec![volume.root.clone()])
            });
            places.push(place.clone());
            if let Some(whole) = pod.whole.as_ref().filter(|_| !volume.in_memory) {
                whole.add(volume.root.clone());
            }
        }
        Arc::new(Storage {
            places,
            end: OnceLock::new(),
            settling: AtomicBool::new(false),
            open: Some(self.open.clone()),
        })
    }
}

type End = Box<dyn Fn(Exit) + Send + Sync>;

/// One container's part. Its processes share it.
pub struct Storage {
    places: Vec<Arc<Place>>,
    /// Ends the container.
    end: OnceLock<End>,
    settling: AtomicBool,
    open: Option<Arc<OpenFiles>>,
}

impl Storage {
    /// Of a guest that never runs.
    pub fn none() -> Arc<Self> {
        Arc::new(Self { places: Vec::new(), end: OnceLock::new(), settling: AtomicBool::new(false), open: None })
    }

    pub fn ends_with(&self, end: impl Fn(Exit) + Send + Sync + 'static) {
        let _ = self.end.set(Box::new(end));
    }

    /// Something was written somewhere; whether a place may be full now.
    pub fn wrote(&self, bytes: u64) -> bool {
        self.count(bytes, 0)
    }

    /// A file, directory or link was made somewhere.
    pub fn made(&self) -> bool {
        self.count(NAME_BYTES, 1)
    }

    /// At every place, however many may be full.
    fn count(&self, bytes: u64, files: u64) -> bool {
        self.places.iter().filter(|place| place.wrote(bytes, files)).count() > 0
    }

    /// Measures what may be full. If it is, the container ends.
    pub async fn settle(&self) -> Result<(), Evicted> {
        for place in self.places.iter().filter(|place| place.over()) {
            if let Err(evicted) = place.settle().await {
                if let Some(end) = self.end.get() {
                    end(Exit { code: 137, reason: EVICTED, message: evicted.0.clone() });
                }
                return Err(evicted);
            }
        }
        Ok(())
    }

    /// As [`Self::settle`], for who cannot wait. Within a tokio runtime.
    pub fn settle_later(self: &Arc<Self>) {
        if self.settling.swap(true, Ordering::SeqCst) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let _ = this.settle().await;
            this.settling.store(false, Ordering::SeqCst);
        });
    }
}

/// What one process holds of the node.
pub struct Holdings {
    pub storage: Arc<Storage>,
    pub opened: Opened,
    yielded: Arc<AtomicBool>,
}

impl Holdings {
    pub fn new(storage: Arc<Storage>, yielded: Arc<AtomicBool>) -> Self {
        Self { opened: Opened::of(&storage), storage, yielded }
    }

    /// Of a program that is in no pod.
    pub fn none() -> Self {
        Self::new(Storage::none(), Arc::default())
    }

    /// A host call lets others run, as an epoch's end does.
    fn turn(&self) {
        self.yielded.store(true, Ordering::Relaxed);
    }
}

/// The open files of one process, given back when it ends.
pub struct Opened {
    count: usize,
    node: Option<Arc<OpenFiles>>,
}

/// Who has no more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Process,
    Node,
}

impl Opened {
    pub fn of(storage: &Storage) -> Self {
        Self { count: 0, node: storage.open.clone() }
    }

    pub fn open(&mut self) -> Result<(), Full> {
        if self.count >= OPEN_FILES_MAX {
            return Err(Full::Process);
        }
        if let Some(node) = &self.node
            && node.count.fetch_add(1, Ordering::Relaxed) >= node.max
        {
            node.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Node);
        }
        self.count += 1;
        Ok(())
    }

    fn give_back(&self, count: usize) {
        if let Some(node) = &self.node {
            node.count.fetch_sub(count, Ordering::Relaxed);
        }
    }

    pub fn close(&mut self) {
        // Preopened directories can be closed as well, and were not counted.
        if self.count > 0 {
            self.count -= 1;
            self.give_back(1);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.give_back(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_given_back_when_a_process_ends() {
        let node = Arc::new(OpenFiles { count: AtomicUsize::new(0), max: OPEN_FILES_MAX + 10 });
        let opened = || Opened { count: 0, node: Some(node.clone()) };
        let (mut one, mut two) = (opened(), opened());
        for _ in 0..OPEN_FILES_MAX {
            one.open().unwrap();
        }
        assert_eq!(one.open(), Err(Full::Process));
        for _ in 0..10 {
            two.open().unwrap();
        }
        assert_eq!(two.open(), Err(Full::Node));
        drop(one);
        two.open().unwrap();
        two.close();
        assert_eq!(node.count.load(Ordering::Relaxed), 10);
    }
}
