//! What the parts of a node share.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity};
use parking_lot::RwLock;
use skiff_client::{Recorder, Regarding, Rest, SharedCache};
use skiff_reconcile::{EventType, KindRef, ObjectKey};
use skiff_runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::NodeConfig, mailbox::PodHandle, usage::Usage, volumes::Live};

pub struct Agent {
    pub config: NodeConfig,
    pub rest: Rest,
    pub recorder: Recorder,
    /// Services, runtime classes and the metadata of ConfigMaps and Secrets: shared in the process.
    pub shared: SharedCache,
    pub dirs: Dirs,
    /// Also what is allocatable.
    pub capacity: BTreeMap<String, Quantity>,
    pub starts: Semaphore,
    pub pulls: Semaphore,
    pub writes: Semaphore,
    pub refreshes: Semaphore,
    /// Which pods mount which ConfigMaps and Secrets.
    pub live: Live,
    /// By uid.
    pub pods: RwLock<HashMap<Arc<str>, Arc<PodHandle>>>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub usage: Usage,
    /// The node's status may have changed (images came or went).
    pub status_changed: Notify,
}

/// Where things lie in the data directory.
#[derive(Clone, Debug)]
pub struct Dirs {
    root: PathBuf,
}

impl Dirs {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }
    pub fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    /// `logs/NAMESPACE_NAME_UID`, as the kubelet has it.
    pub fn pod_logs(&self, key: &ObjectKey, uid: &str) -> PathBuf {
        self.logs().join(format!("{}_{}_{uid}", key.namespace, key.name))
    }
    /// `…/CONTAINER/ATTEMPT.log`
    pub fn container_log(&self, key: &ObjectKey, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_logs(key, uid).join(container).join(format!("{attempt}.log"))
    }
}

impl Agent {
    pub fn runtime(&self, index: usize) -> &Arc<dyn Runtime> {
        &self.config.runtimes[index]
    }

    pub fn now(&self) -> jiff::Timestamp {
        (self.config.clock)()
    }

    /// The pod of this name that was handed to this node last.
    pub fn by_name(&self, key: &ObjectKey) -> Option<Arc<PodHandle>> {
        let pods = self.pods.read();
        let named = pods.values().filter(|p| p.key == *key);
        named.max_by_key(|p| p.snapshot.borrow().pod.metadata.creation_timestamp.clone()).cloned()
    }

    /// An event about a pod, or about one of its containers.
    pub fn event(&self, pod: &Pod, container: Option<&str>, type_: EventType, reason: &str, message: String) {
        let mut regarding = Regarding::of(pod);
        if let Some(container) = container {
            regarding = regarding.at(field_path(pod, container));
        }
        self.recorder.event(regarding, type_, reason, message);
    }
}

/// `spec.containers{NAME}`, as `kubectl events` and `describe` show it.
fn field_path(pod: &Pod, container: &str) -> String {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let is_init = init.is_some_and(|list| list.iter().any(|c| c.name == container));
    if is_init { format!("spec.initContainers{{{container}}}") } else { format!("spec.containers{{{container}}}") }
}

pub fn pods() -> KindRef {
    KindRef::of::<Pod>()
}
