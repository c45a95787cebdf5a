//! What a pod's worker is woken by. Bounded by itself: news of the same kind coalesce.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use skiff_lifecycle::ProbeKind;
use skiff_reconcile::ObjectKey;
use tokio::sync::{Notify, watch};

use crate::volumes::Mounted;

#[derive(Debug, Default)]
pub struct News {
    /// The newest state of the object.
    pub pod: Option<Arc<Pod>>,
    /// The object is gone from the API.
    pub gone: bool,
    /// Containers whose state may have changed.
    pub touched: BTreeSet<Arc<str>>,
    /// Everything may have changed.
    pub resync: bool,
    /// Something arrived that a failed step may have waited for.
    pub retry: bool,
    /// A ConfigMap or Secret that its volumes are made of changed.
    pub volumes_stale: bool,
    pub probes: Vec<(String, u32, ProbeKind, bool)>,
}

#[derive(Debug, Default)]
pub struct Mailbox {
    news: Mutex<News>,
    wake: Notify,
}

impl Mailbox {
    pub fn put(&self, write: impl FnOnce(&mut News)) {
        write(&mut self.news.lock());
        self.wake.notify_one();
    }

    /// Waits for news. Safe to cancel.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    pub fn take(&self) -> News {
        std::mem::take(&mut self.news.lock())
    }
}

/// What others may see of a pod on this node.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pod: Arc<Pod>,
    /// As planned: newer than what the API has.
    pub status: Arc<PodStatus>,
    /// Runtime ids of the containers that run, by name: `(container, index of the runtime, id)`.
    pub running: Vec<(String, usize, Arc<str>)>,
}

/// A pod on this node, as everybody but its worker has it.
#[derive(Debug)]
pub struct PodHandle {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub mailbox: Mailbox,
    /// Something failed that may succeed when a ConfigMap, Secret or image arrives.
    pub waiting: AtomicBool,
    pub snapshot: watch::Sender<Snapshot>,
    pub volumes: Mounted,
}

impl PodHandle {
    pub fn new(pod: Arc<Pod>) -> Self {
        let status = Arc::new(pod.status.clone().unwrap_or_default());
        Self {
            key: ObjectKey::of(&pod.metadata),
            uid: uid(&pod),
            mailbox: Mailbox::default(),
            waiting: AtomicBool::new(false),
            snapshot: watch::Sender::new(Snapshot { pod, status, running: vec![] }),
            volumes: Mounted::default(),
        }
    }
}

pub fn uid(pod: &Pod) -> Arc<str> {
    pod.metadata.uid.as_deref().unwrap_or_default().into()
}
