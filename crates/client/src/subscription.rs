//! Change notifications for loops that wait: keys, coalesced.
//!
//! What must stay true: no change is lost; a key that changed ten times before it was taken is delivered once. Memory is
//! bounded by the number of distinct keys. A change may be delivered after the object is gone: look it up.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use skiff_reconcile::{KindRef, ObjectKey};
use tokio::sync::Notify;

use crate::Change;

#[derive(Default)]
pub(crate) struct Sink {
    dirty: Mutex<BTreeSet<(KindRef, ObjectKey)>>,
    wake: Notify,
}

impl Sink {
    pub(crate) fn note(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.dirty.lock().extend(changes.iter().map(|c| (c.kind, c.key.clone())));
        self.wake.notify_one();
    }
}

/// One taker; see [`SharedCache::subscribe`](crate::SharedCache::subscribe).
#[derive(Default)]
pub struct Subscription {
    sink: Arc<Sink>,
}

impl Subscription {
    pub(crate) fn sink(&self) -> Arc<Sink> {
        self.sink.clone()
    }

    /// All keys that changed since the last call; waits for at least one. Safe to cancel.
    pub async fn changed(&mut self) -> BTreeSet<(KindRef, ObjectKey)> {
        loop {
            let taken = std::mem::take(&mut *self.sink.dirty.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.sink.wake.notified().await;
        }
    }
}
