//! The loop around the garbage collector's decisions: the graph is fed by the caches of every kind, what is to be looked
//! at is read from the API first, then written.
//!
//! What must stay true: owners are read from the API before anything is deleted for want of them. A UID that was absent
//! once is absent for ever, so absent ones are remembered, [`ABSENT_MAX`] at most.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use skiff_client::{Change, Error, Rest, SharedCache, rest::delete_options};
use skiff_controllers::garbage_collector::{
    FOREGROUND, Graph, Look, Node, ORPHAN, Owner, OwnerState, decide, disown, owner_at, without_finalizer,
};
use skiff_reconcile::{Action, Codec, KindRef, Partial};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::{queue::WorkQueue, registry};

/// Objects looked at at the same time.
pub const WORKERS: usize = 16;
pub const ABSENT_MAX: usize = 1000;

pub struct GarbageLoop {
    rest: Rest,
    caches: SharedCache,
    graph: Mutex<Graph>,
    queue: WorkQueue<String>,
    absent: Mutex<Absent>,
    served: Vec<KindRef>,
    pub deleted: AtomicU64,
}

#[derive(Default)]
struct Absent {
    uids: HashSet<String>,
    order: VecDeque<String>,
}
impl Absent {
    fn insert(&mut self, uid: &str) {
        if self.uids.insert(uid.to_owned()) {
            self.order.push_back(uid.to_owned());
        }
        while self.order.len() > ABSENT_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.uids.remove(&oldest);
            }
        }
    }
}

/// What a look found, without the graph's lock.
enum Task {
    Nothing,
    Owners(Node),
    Foreground(Node, Vec<String>),
    Orphan(Node, Vec<Node>),
}

impl GarbageLoop {
    /// Declares a cache of every kind: call it after those who need whole objects.
    pub fn new(rest: Rest, caches: SharedCache) -> Arc<Self> {
        let served = registry::deletable();
        let unwatched = registry::unwatched();
        let this = Arc::new(Self {
            rest,
            caches: caches.clone(),
            graph: Mutex::default(),
            queue: WorkQueue::default(),
            absent: Mutex::default(),
            served,
            deleted: AtomicU64::new(0),
        });
        for kind in this.served.iter().filter(|k| !unwatched.contains(k)) {
            let cache = caches.declare(Codec::metadata(*kind));
            let meta = cache.codec().meta;
            let weak = Arc::downgrade(&this);
            cache.on_change(Arc::new(move |changes| {
                if let Some(this) = weak.upgrade() {
                    this.on_changes(changes, meta);
                }
            }));
        }
        this
    }

    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    fn on_changes(&self, changes: &[Change], meta: crate::fence::MetaOf) {
        let mut look = Vec::new();
        for change in changes {
            let (old, new) = (change.old.as_ref().and_then(meta), change.new.as_ref().and_then(meta));
            if old.zip(new).is_some_and(|(old, new)| same_family(old, new)) {
                continue;
            }
            let mut graph = self.graph.lock();
            if let Some(uid) =
                old.and_then(|o| o.uid.as_deref()).filter(|uid| new.is_none_or(|n| n.uid.as_deref() != Some(uid)))
            {
                look.extend(graph.remove(uid));
            }
            if let Some(new) = new {
                look.extend(graph.upsert(Node::new(change.kind, new)));
            }
        }
        if !look.is_empty() {
            self.queue.extend(look);
        }
    }

    pub fn start(self: &Arc<Self>, tasks: &TaskTracker, leads: &watch::Receiver<bool>) {
        for _ in 0..WORKERS {
            let (this, mut leads) = (self.clone(), leads.clone());
            tasks.spawn(async move {
                // A graph with holes makes owners look absent; they would only be read once too often.
                this.caches.synced().await;
                while leads.wait_for(|l| *l).await.is_ok() {
                    let Some(uid) = this.queue.next().await else { return };
                    match this.work(&uid).await {
                        Ok(()) => this.queue.forget(&uid),
                        Err(e) => {
                            if !e.is_conflict() {
                                warn!(uid, error = %e, "cannot collect; trying again");
                            }
                            this.queue.add_rate_limited(uid.clone());
                        }
                    }
                    this.queue.done(&uid);
                }
            });
        }
    }

    pub fn stop(&self) {
        self.queue.close();
    }

    fn task(&self, uid: &str) -> Task {
        let graph = self.graph.lock();
        match graph.look(uid) {
            Look::Nothing => Task::Nothing,
            Look::Owners(node) => Task::Owners(node.clone()),
            Look::Foreground(node) => {
                Task::Foreground(node.clone(), graph.blocking(uid).iter().map(|n| n.uid.clone()).collect())
            }
            Look::Orphan(node) => Task::Orphan(node.clone(), graph.dependents(uid).cloned().collect()),
        }
    }

    async fn work(&self, uid: &str) -> Result<(), Error> {
        match self.task(uid) {
            Task::Nothing => Ok(()),
            Task::Owners(node) => self.judge(&node).await,
            Task::Foreground(node, blocking) if blocking.is_empty() => self.release(&node, FOREGROUND).await,
            // Each of them going, or changing its mind, brings us back here.
            Task::Foreground(_, blocking) => {
                self.queue.extend(blocking);
                Ok(())
            }
            Task::Orphan(node, dependents) => {
                for dependent in dependents {
                    if let Some(meta) = self.read(&dependent).await?
                        && let Some(action) = disown(&dependent, &meta, &node.uid)
                    {
                        self.write(action).await?;
                    }
                }
                self.release(&node, ORPHAN).await
            }
        }
    }

    async fn release(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let Some(meta) = self.read(node).await? else { return Ok(()) };
        match without_finalizer(node, &meta, finalizer) {
            Some(action) => self.write(action).await,
            None => Ok(()),
        }
    }

    async fn judge(&self, node: &Node) -> Result<(), Error> {
        let Some(meta) = self.read(node).await? else { return Ok(()) };
        let live = Node::new(node.kind, &meta);
        let mut states = Vec::with_capacity(live.owners.len());
        let mut read: HashMap<&str, OwnerState> = HashMap::new();
        for owner in &live.owners {
            let state = match read.get(owner.uid.as_str()) {
                Some(state) => *state,
                None => self.state_of(&live, owner).await?,
            };
            read.insert(&owner.uid, state);
            states.push(state);
        }
        let action = decide(&self.graph.lock(), node, &meta, &states);
        match action {
            Some(action) => self.write(action).await,
            None => Ok(()),
        }
    }

    async fn state_of(&self, dependent: &Node, owner: &Owner) -> Result<OwnerState, Error> {
        if self.absent.lock().uids.contains(&owner.uid) {
            return Ok(OwnerState::Absent);
        }
        // Present and not waiting leads to nothing being deleted: the graph is good enough for that.
        if self.graph.lock().get(&owner.uid).is_some_and(|n| !n.waits_for_dependents()) {
            return Ok(OwnerState::Solid);
        }
        let Some((kind, key)) = owner_at(dependent, owner, &self.served) else {
            debug!(dependent = %dependent.key, owner = owner.name, kind = owner.kind, "the owner's kind is not served");
            return Ok(OwnerState::Unknown);
        };
        let found = match self.rest.get::<Partial>(&kind, &key).await {
            Ok(found) => Some(found.metadata),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        Ok(match found.filter(|m| m.uid.as_deref() == Some(owner.uid.as_str())) {
            None => {
                self.absent.lock().insert(&owner.uid);
                OwnerState::Absent
            }
            Some(meta) if Node::new(kind, &meta).waits_for_dependents() => OwnerState::Waiting,
            Some(_) => OwnerState::Solid,
        })
    }

    /// The object as it is now; `None` if it is gone or another one.
    async fn read(&self, node: &Node) -> Result<Option<ObjectMeta>, Error> {
        match self.rest.get::<Partial>(&node.kind, &node.key).await {
            Ok(found) => Ok(Some(found.metadata).filter(|m| m.uid.as_deref() == Some(node.uid.as_str()))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn write(&self, action: Action) -> Result<(), Error> {
        debug!(%action, "collecting");
        let written = match action {
            Action::Delete { kind, key, propagation, grace_seconds, preconditions } => {
                self.deleted.fetch_add(1, Ordering::Relaxed);
                let options = delete_options(propagation, grace_seconds, &preconditions);
                self.rest.delete::<IgnoredAny>(&kind, &key, &options).await
            }
            Action::Patch { kind, key, subresource, mut patch, preconditions } => {
                crate::executor::guard(&mut patch, &preconditions);
                self.rest.merge_patch::<IgnoredAny>(&kind, &key, subresource, &patch).await
            }
            _ => return Ok(()),
        };
        match written {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Nothing changed that the graph knows about.
fn same_family(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid == new.uid
        && old.owner_references == new.owner_references
        && old.finalizers == new.finalizers
        && old.deletion_timestamp.is_some() == new.deletion_timestamp.is_some()
}
