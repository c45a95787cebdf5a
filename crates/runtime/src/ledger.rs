//! The book of sandboxes and containers that an in-process runtime keeps, whatever it runs.
//!
//! What must stay true: a container moves created → running → exited and never back; each of the two moves
//! sends exactly one event, in that order; ids are never used twice; (uid, attempt) names one sandbox and
//! (name, attempt) one container within it. Runtimes add what they need per container as `T`.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Error, Exit, MESSAGE_BYTES_MAX, Result,
    RuntimeEvent, Sandbox, SandboxConfig, SandboxId,
};

/// Events kept for a subscriber that is behind; one that is further behind gets [`RuntimeEvent::Resync`].
pub const EVENTS_MAX: usize = 4096;
/// Warnings that one container may cause; further ones are dropped.
pub const WARNINGS_MAX: usize = 20;

/// One container in the book. `extra` is the runtime's own part.
pub struct Container<T> {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub pod_uid: Arc<str>,
    pub config: ContainerConfig,
    pub created: Timestamp,
    pub extra: T,
    phase: Mutex<Phase>,
    exited: Notify,
    warnings: AtomicUsize,
}

enum Phase {
    Created,
    Running { started: Timestamp },
    Exited { started: Option<Timestamp>, finished: Timestamp, exit: Exit },
}

impl<T> Container<T> {
    pub fn state(&self) -> ContainerState {
        match *self.phase.lock() {
            Phase::Created => ContainerState::Created,
            Phase::Running { .. } => ContainerState::Running,
            Phase::Exited { .. } => ContainerState::Exited,
        }
    }

    /// Returns once it has exited. One that was never started waits until it is stopped or removed.
    pub async fn wait_exited(&self) {
        loop {
            let notified = self.exited.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.state() == ContainerState::Exited {
                return;
            }
            notified.await;
        }
    }

    pub fn status(&self) -> ContainerStatus {
        let (state, started, finished, exit) = match &*self.phase.lock() {
            Phase::Created => (ContainerState::Created, None, None, None),
            Phase::Running { started } => (ContainerState::Running, Some(*started), None, None),
            Phase::Exited { started, finished, exit } => {
                (ContainerState::Exited, *started, Some(*finished), Some(exit.clone()))
            }
        };
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.clone(),
            name: self.config.name.clone(),
            attempt: self.config.attempt,
            state,
            image: self.config.image.clone(),
            image_id: self.config.image_id.clone(),
            created: self.created,
            started,
            finished,
            exit,
            log_path: self.config.log_path.clone(),
        }
    }
}

struct SandboxEntry {
    sandbox: Sandbox,
    config: Arc<SandboxConfig>,
    pod_uid: Arc<str>,
    containers: Vec<ContainerId>,
    names: HashSet<(String, u32)>,
}

struct Inner<T> {
    sandboxes: HashMap<SandboxId, SandboxEntry>,
    by_pod: HashMap<(String, u32), SandboxId>,
    containers: HashMap<ContainerId, Arc<Container<T>>>,
}

pub struct Ledger<T> {
    inner: Mutex<Inner<T>>,
    events: broadcast::Sender<RuntimeEvent>,
    /// Distinguishes this process's ids from those of any earlier one on this node.
    epoch: u128,
    next: AtomicU64,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Ledger<T> {
    pub fn new() -> Self {
        let now = Timestamp::now().as_nanosecond() as u64;
        let random = RandomState::new().hash_one(now);
        Self {
            inner: Mutex::new(Inner { sandboxes: HashMap::new(), by_pod: HashMap::new(), containers: HashMap::new() }),
            events: broadcast::channel(EVENTS_MAX).0,
            epoch: (u128::from(now) << 64) | u128::from(random),
            next: AtomicU64::new(0),
        }
    }

    fn id(&self) -> Arc<str> {
        format!("{:032x}{:08x}", self.epoch, self.next.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// Every event from now on; [`RuntimeEvent::Resync`] in place of what a slow subscriber missed.
    pub fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        futures::stream::unfold(self.events.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(event) => Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((RuntimeEvent::Resync, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed()
    }

    /// Idempotent per (uid, attempt). A new one gets the addresses that `address` gives.
    pub fn run_sandbox(
        &self,
        config: SandboxConfig,
        address: impl FnOnce(&SandboxId) -> Result<Vec<IpAddr>>,
    ) -> Result<Sandbox> {
        let mut inner = self.inner.lock();
        let key = (config.uid.clone(), config.attempt);
        if let Some(entry) = inner.by_pod.get(&key).and_then(|id| inner.sandboxes.get(id)) {
            return Ok(entry.sandbox.clone());
        }
        let id = self.id();
        let sandbox = Sandbox {
            ips: address(&id)?,
            id,
            namespace: config.namespace.clone(),
            name: config.name.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
            ready: true,
            created: Timestamp::now(),
        };
        inner.by_pod.insert(key, sandbox.id.clone());
        let entry = SandboxEntry {
            sandbox: sandbox.clone(),
            pod_uid: config.uid.as_str().into(),
            config: Arc::new(config),
            containers: Vec::new(),
            names: HashSet::new(),
        };
        inner.sandboxes.insert(sandbox.id.clone(), entry);
        Ok(sandbox)
    }

    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.inner.lock().sandboxes.values().map(|entry| entry.sandbox.clone()).collect()
    }

    pub fn sandbox_config(&self, id: &str) -> Result<Arc<SandboxConfig>> {
        match self.inner.lock().sandboxes.get(id) {
            Some(entry) => Ok(entry.config.clone()),
            None => Err(Error::NotFound { what: "sandbox", id: id.to_owned() }),
        }
    }

    /// Marks it not ready, so that nothing more starts in it, and returns what the caller must end.
    pub fn stop_sandbox(&self, id: &str) -> Vec<Arc<Container<T>>> {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.sandboxes.get_mut(id) else { return Vec::new() };
        entry.sandbox.ready = false;
        let ids = entry.containers.clone();
        ids.iter().filter_map(|id| inner.containers.get(id).cloned()).collect()
    }

    /// Forgets a sandbox and its containers, which the caller has ended before.
    pub fn remove_sandbox(&self, id: &str) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.sandboxes.remove(id) else { return };
        inner.by_pod.remove(&(entry.sandbox.uid, entry.sandbox.attempt));
        for id in entry.containers {
            inner.containers.remove(&id);
        }
    }

    /// Enters a container; the sandbox must be ready and (name, attempt) free.
    pub fn create(&self, sandbox: &str, config: ContainerConfig, extra: T) -> Result<Arc<Container<T>>> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.sandboxes.get_mut(sandbox) else {
            return Err(Error::NotFound { what: "sandbox", id: sandbox.to_owned() });
        };
        if !entry.sandbox.ready {
            return Err(Error::InvalidState(format!("sandbox {sandbox:?} is stopped")));
        }
        if !entry.names.insert((config.name.clone(), config.attempt)) {
            return Err(Error::InvalidState(format!(
                "container {:?} attempt {} exists already in sandbox {sandbox:?}",
                config.name, config.attempt
            )));
        }
        let container = Arc::new(Container {
            id: self.id(),
            sandbox: entry.sandbox.id.clone(),
            pod_uid: entry.pod_uid.clone(),
            config,
            created: Timestamp::now(),
            extra,
            phase: Mutex::new(Phase::Created),
            exited: Notify::new(),
            warnings: AtomicUsize::new(0),
        });
        entry.containers.push(container.id.clone());
        inner.containers.insert(container.id.clone(), container.clone());
        Ok(container)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Container<T>>> {
        self.inner.lock().containers.get(id).cloned()
    }

    pub fn container(&self, id: &str) -> Result<Arc<Container<T>>> {
        self.get(id).ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })
    }

    /// Of one sandbox, or of all.
    pub fn containers(&self, sandbox: Option<&str>) -> Vec<Arc<Container<T>>> {
        let inner = self.inner.lock();
        let Some(sandbox) = sandbox else { return inner.containers.values().cloned().collect() };
        let ids = inner.sandboxes.get(sandbox).map(|entry| entry.containers.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| inner.containers.get(id).cloned()).collect()
    }

    /// created → running, with its event.
    pub fn started(&self, container: &Container<T>) -> Result<()> {
        let mut phase = container.phase.lock();
        match *phase {
            Phase::Created => *phase = Phase::Running { started: Timestamp::now() },
            Phase::Running { .. } => {
                return Err(Error::InvalidState(format!("container {:?} runs already", container.id)));
            }
            Phase::Exited { .. } => {
                return Err(Error::InvalidState(format!("container {:?} has exited", container.id)));
            }
        }
        // Sent under the lock, so that an exit cannot overtake it. Nobody listening is fine.
        let _ = self.events.send(RuntimeEvent::Started {
            sandbox: container.sandbox.clone(),
            pod_uid: container.pod_uid.clone(),
            container: container.id.clone(),
        });
        Ok(())
    }

    /// → exited, with its event; the first exit counts and later ones are ignored. Says whether this one counted.
    pub fn exited(&self, container: &Container<T>, mut exit: Exit) -> bool {
        truncate(&mut exit.message, MESSAGE_BYTES_MAX);
        let mut phase = container.phase.lock();
        let started = match *phase {
            Phase::Created => None,
            Phase::Running { started } => Some(started),
            Phase::Exited { .. } => return false,
        };
        *phase = Phase::Exited { started, finished: Timestamp::now(), exit };
        let _ = self.events.send(RuntimeEvent::Exited {
            sandbox: container.sandbox.clone(),
            pod_uid: container.pod_uid.clone(),
            container: container.id.clone(),
        });
        drop(phase);
        container.exited.notify_waiters();
        true
    }

    /// Tells the user something about a container: [`RuntimeEvent::Warning`], the first [`WARNINGS_MAX`] times.
    pub fn warn(&self, container: &Container<T>, reason: &'static str, mut message: String) {
        if container.warnings.fetch_add(1, Ordering::Relaxed) >= WARNINGS_MAX {
            container.warnings.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        truncate(&mut message, MESSAGE_BYTES_MAX);
        let _ = self.events.send(RuntimeEvent::Warning {
            pod_uid: container.pod_uid.clone(),
            container: container.config.name.as_str().into(),
            reason,
            message,
        });
    }

    /// Forgets a container, which the caller has ended before.
    pub fn remove(&self, id: &str) {
        let mut inner = self.inner.lock();
        let Some(container) = inner.containers.remove(id) else { return };
        if let Some(entry) = inner.sandboxes.get_mut(&container.sandbox) {
            entry.containers.retain(|other| other != &container.id);
            entry.names.remove(&(container.config.name.clone(), container.config.attempt));
        }
    }
}

/// Keeps the beginning, cut at a character.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_warns_only_so_often() {
        let ledger: Ledger<()> = Ledger::new();
        let sandbox = ledger.run_sandbox(SandboxConfig::default(), |_| Ok(Vec::new())).expect("made");
        let container = ledger.create(&sandbox.id, ContainerConfig::default(), ()).expect("made");
        let events = ledger.events();
        for _ in 0..=WARNINGS_MAX {
            ledger.warn(&container, "Denied", "x".to_owned());
        }
        drop(ledger);
        let told = events.filter(|event| std::future::ready(matches!(event, RuntimeEvent::Warning { .. }))).count();
        assert_eq!(told.await, WARNINGS_MAX);
    }
}
