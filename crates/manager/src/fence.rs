//! Holds a key until the caches show what was last written for it: then the next observation cannot be older than the
//! controller's own writes, and nobody needs to count expected creations.
//!
//! What must stay true: a condition that already holds is not waited for; one that becomes true releases its key in the
//! same batch of changes; none is waited for longer than [`HELD_SECONDS_MAX`] (a cache that is scoped, or cut off, may
//! never show the write).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use skiff_client::{Change, SharedCache};
use skiff_reconcile::{KindRef, ObjectKey};
use tokio::time::Instant;

pub const HELD_SECONDS_MAX: u64 = 30;

/// What the caches must show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The cache of a kind has seen everything up to this revision.
    Reached { kind: KindRef, revision: u64 },
    /// The object of this uid is gone or marked as being deleted.
    Going { kind: KindRef, key: ObjectKey, uid: String },
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<ObjectKey, Held>,
    by_revision: BTreeMap<KindRef, BTreeMap<u64, Vec<ObjectKey>>>,
    by_object: HashMap<(KindRef, ObjectKey), Vec<(ObjectKey, String)>>,
}

#[derive(Debug)]
struct Held {
    /// How many conditions are still open.
    open: usize,
    /// Somebody asked for the key meanwhile.
    wanted: bool,
    until: Instant,
}

/// One per controller.
#[derive(Debug)]
pub struct Fence {
    /// What the controller watches: writes of other kinds it never sees, so it need not wait for them.
    kinds: BTreeSet<KindRef>,
    state: Mutex<State>,
}

impl Fence {
    pub fn new(kinds: impl IntoIterator<Item = KindRef>) -> Self {
        Self { kinds: kinds.into_iter().collect(), state: Mutex::default() }
    }

    /// Called with what was written, before the key is handed back to its queue.
    pub fn hold(&self, key: &ObjectKey, conditions: Vec<Condition>, caches: &SharedCache) {
        let mut state = self.state.lock();
        // The latest write of a kind stands for the earlier ones.
        let mut revisions: BTreeMap<KindRef, u64> = BTreeMap::new();
        let mut going = HashSet::new();
        for condition in conditions {
            match condition {
                Condition::Reached { kind, revision } => {
                    let latest = revisions.entry(kind).or_default();
                    *latest = revision.max(*latest);
                }
                Condition::Going { kind, key, uid } => drop(going.insert((kind, key, uid))),
            }
        }
        let mut open = 0;
        // Under the lock: a change is shown by the cache before it is handed to `on_changes`.
        for (kind, revision) in revisions.into_iter().filter(|(kind, _)| self.kinds.contains(kind)) {
            let Some(cache) = caches.kind(&kind) else { continue };
            if cache.revision() < revision {
                open += 1;
                state.by_revision.entry(kind).or_default().entry(revision).or_default().push(key.clone());
            }
        }
        for (kind, object, uid) in going.into_iter().filter(|(kind, ..)| self.kinds.contains(kind)) {
            let Some(cache) = caches.kind(&kind) else { continue };
            let meta = cache.codec().meta;
            let there = cache.get(&object);
            let stays = there
                .as_ref()
                .and_then(meta)
                .is_some_and(|m| stays(m.uid.as_deref(), m.deletion_timestamp.is_some(), &uid));
            if stays {
                open += 1;
                state.by_object.entry((kind, object)).or_default().push((key.clone(), uid));
            }
        }
        if open > 0 {
            let until = Instant::now() + Duration::from_secs(HELD_SECONDS_MAX);
            state.held.insert(key.clone(), Held { open, wanted: false, until });
        }
    }

    /// Whether the key must wait, and for how long at most; it comes out of [`Self::on_changes`] when it need not any
    /// longer.
    pub fn check(&self, key: &ObjectKey) -> Option<Duration> {
        let mut state = self.state.lock();
        let held = state.held.get_mut(key)?;
        let left = held.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.forget(key);
            return None;
        }
        held.wanted = true;
        Some(left)
    }

    /// To be called with every batch of changes of every kind. Returns the keys to look at again.
    pub fn on_changes(&self, kind: &KindRef, revision: u64, changes: &[Change], meta: MetaOf) -> Vec<ObjectKey> {
        let mut state = self.state.lock();
        if state.held.is_empty() {
            return Vec::new();
        }
        let mut satisfied: Vec<ObjectKey> = Vec::new();
        if let Some(waiting) = state.by_revision.get_mut(kind) {
            let later = waiting.split_off(&(revision + 1));
            satisfied.extend(std::mem::replace(waiting, later).into_values().flatten());
        }
        for change in changes {
            let at = (*kind, change.key.clone());
            let Some(waiting) = state.by_object.get_mut(&at) else { continue };
            let now = change.new.as_ref().and_then(meta);
            waiting.retain(|(key, uid)| {
                let stays = now.is_some_and(|m| stays(m.uid.as_deref(), m.deletion_timestamp.is_some(), uid));
                if !stays {
                    satisfied.push(key.clone());
                }
                stays
            });
            if waiting.is_empty() {
                state.by_object.remove(&at);
            }
        }
        satisfied.retain(|key| state.satisfy(key));
        satisfied
    }
}

/// The metadata of an object of the kind.
pub type MetaOf =
    fn(&skiff_reconcile::AnyObject) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>;

fn stays(uid: Option<&str>, deleting: bool, wanted: &str) -> bool {
    uid == Some(wanted) && !deleting
}

impl State {
    /// One condition of the key holds. Whether the key is free now and wanted.
    fn satisfy(&mut self, key: &ObjectKey) -> bool {
        let Some(held) = self.held.get_mut(key) else { return false };
        held.open -= 1;
        if held.open > 0 {
            return false;
        }
        self.held.remove(key).is_some_and(|h| h.wanted)
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.held.remove(key);
        for waiting in self.by_revision.values_mut() {
            waiting.retain(|_, keys| {
                keys.retain(|k| k != key);
                !keys.is_empty()
            });
        }
        self.by_object.retain(|_, waiting| {
            waiting.retain(|(k, _)| k != key);
            !waiting.is_empty()
        });
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
