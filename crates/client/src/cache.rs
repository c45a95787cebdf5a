//! The objects of one kind, in memory: sorted by key, indexed by owner.
//!
//! What must stay true: changes are applied and handed to the handlers in the order of the watch, one batch at a time;
//! a handler that registers late is first shown everything that is there, and misses nothing after it. When a handler
//! runs, the cache already holds the change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use skiff_reconcile::{AnyObject, Codec, KindRef, ObjectKey, codec::WatchEvent};
use tokio::sync::watch;

/// An object that came (`old` is `None`), changed or went (`new` is `None`).
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: KindRef,
    pub key: ObjectKey,
    pub old: Option<AnyObject>,
    pub new: Option<AnyObject>,
}

/// Runs in the task of the watch: must not block. It says *look again*, so it is free to forget all but the keys.
pub type Handler = Arc<dyn Fn(&[Change]) + Send + Sync>;

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectKey, AnyObject>,
    /// By owner uid.
    owned: HashMap<String, BTreeMap<ObjectKey, AnyObject>>,
}

pub struct KindCache {
    codec: Codec,
    state: RwLock<State>,
    /// Held while a batch is applied and handed out.
    handlers: Mutex<Vec<Handler>>,
    /// 0 until the first list.
    reached: watch::Sender<u64>,
}

impl KindCache {
    pub fn new(codec: Codec) -> Self {
        Self { codec, state: RwLock::default(), handlers: Mutex::default(), reached: watch::Sender::new(0) }
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }
    pub fn get(&self, key: &ObjectKey) -> Option<AnyObject> {
        self.state.read().objects.get(key).cloned()
    }
    /// Sorted by key; of all namespaces with `None`.
    pub fn list(&self, namespace: Option<&str>) -> Vec<AnyObject> {
        let state = self.state.read();
        match namespace {
            None => state.objects.values().cloned().collect(),
            Some(namespace) => {
                let from_here = state.objects.range(ObjectKey::new(namespace, "")..);
                from_here.take_while(|(key, _)| key.namespace == namespace).map(|(_, o)| o.clone()).collect()
            }
        }
    }
    /// The objects with an owner reference to this uid, sorted by key.
    pub fn owned(&self, owner_uid: &str) -> Vec<AnyObject> {
        self.state.read().owned.get(owner_uid).map_or_else(Vec::new, |o| o.values().cloned().collect())
    }
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The revision up to which the cache has seen everything; 0 until the first list.
    pub fn revision(&self) -> u64 {
        *self.reached.borrow()
    }
    /// Waits until [`Self::revision`] is at least this.
    pub async fn reached(&self, revision: u64) {
        let mut reached = self.reached.subscribe();
        // The sender is `self`, so the wait cannot fail while we are borrowed.
        let _ = reached.wait_for(|r| *r >= revision.max(1)).await;
    }

    /// Shows the handler everything that is there, then every change.
    pub fn on_change(&self, handler: Handler) {
        let mut handlers = self.handlers.lock();
        let there: Vec<Change> = self
            .state
            .read()
            .objects
            .iter()
            .map(|(key, o)| Change { kind: self.codec.kind, key: key.clone(), old: None, new: Some(o.clone()) })
            .collect();
        if !there.is_empty() {
            handler(&there);
        }
        handlers.push(handler);
    }

    /// A new list: what is not in it is gone.
    pub fn replace(&self, items: Vec<AnyObject>, revision: u64) {
        let handlers = self.handlers.lock();
        let mut changes = Vec::new();
        {
            let mut state = self.state.write();
            let mut before = std::mem::take(&mut state.objects);
            state.owned.clear();
            for object in items {
                let Some(key) = self.key(&object) else { continue };
                let old = before.remove(&key);
                if old.as_ref().is_none_or(|old| self.version(old) != self.version(&object)) {
                    changes.push(self.change(&key, old, Some(object.clone())));
                }
                state.insert(&self.codec, key, object);
            }
            changes.extend(before.into_iter().map(|(key, old)| self.change(&key, Some(old), None)));
        }
        self.hand_out(&handlers, &changes, revision);
    }

    /// The next events of the watch, in its order. Errors in it are the reflector's business and ignored here.
    pub fn apply(&self, events: Vec<WatchEvent>) {
        let handlers = self.handlers.lock();
        let mut changes = Vec::with_capacity(events.len());
        let mut revision = 0;
        {
            let mut state = self.state.write();
            for event in events {
                let (object, there) = match event {
                    WatchEvent::Changed(object) => (object, true),
                    WatchEvent::Deleted(object) => (object, false),
                    WatchEvent::Bookmark { resource_version } => {
                        revision = revision.max(resource_version.parse().unwrap_or(0));
                        continue;
                    }
                    WatchEvent::Error { .. } => continue,
                };
                let Some(key) = self.key(&object) else { continue };
                revision = revision.max(self.version(&object));
                let old = state.remove(&self.codec, &key);
                if there {
                    state.insert(&self.codec, key.clone(), object.clone());
                }
                // For a deletion, the last state is what the mappers want to see.
                let (old, new) = if there { (old, Some(object)) } else { (Some(object), None) };
                changes.push(self.change(&key, old, new));
            }
        }
        self.hand_out(&handlers, &changes, revision);
    }

    fn hand_out(&self, handlers: &[Handler], changes: &[Change], revision: u64) {
        // Before the handlers: one that looks at the revision must find the one of its change.
        self.reached.send_if_modified(|r| {
            let newer = revision > *r;
            *r = revision.max(*r);
            newer
        });
        for handler in handlers {
            handler(changes);
        }
    }

    fn change(&self, key: &ObjectKey, old: Option<AnyObject>, new: Option<AnyObject>) -> Change {
        Change { kind: self.codec.kind, key: key.clone(), old, new }
    }
    fn key(&self, object: &AnyObject) -> Option<ObjectKey> {
        (self.codec.meta)(object).map(ObjectKey::of)
    }
    fn version(&self, object: &AnyObject) -> u64 {
        let version = (self.codec.meta)(object).and_then(|m| m.resource_version.as_deref());
        version.and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

impl State {
    fn insert(&mut self, codec: &Codec, key: ObjectKey, object: AnyObject) {
        let owners = (codec.meta)(&object).and_then(|m| m.owner_references.as_ref());
        for owner in owners.into_iter().flatten() {
            self.owned.entry(owner.uid.clone()).or_default().insert(key.clone(), object.clone());
        }
        self.objects.insert(key, object);
    }

    fn remove(&mut self, codec: &Codec, key: &ObjectKey) -> Option<AnyObject> {
        let old = self.objects.remove(key)?;
        let owners = (codec.meta)(&old).and_then(|m| m.owner_references.as_ref());
        for owner in owners.into_iter().flatten() {
            if let Some(siblings) = self.owned.get_mut(&owner.uid) {
                siblings.remove(key);
                if siblings.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
        Some(old)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
