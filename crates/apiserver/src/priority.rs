//! The global default priority class, kept by a watch so that a new pod costs no list.

use std::{ops::Bound, sync::Arc};

use futures::StreamExt;
use parking_lot::RwLock;
use serde_json::Value;
use skiff_store::{Entry, Key, ListRequest, Store, WatchItem};
use tokio_util::sync::CancellationToken;

use crate::registry;

#[derive(Debug, Clone, Default)]
pub(crate) struct DefaultPriority(Arc<RwLock<Option<Value>>>);

impl DefaultPriority {
    pub(crate) fn get(&self) -> Option<Value> {
        self.0.read().clone()
    }

    /// Follows the classes until the server shuts down or the store closes.
    pub(crate) async fn follow(self, store: Arc<dyn Store>, classes: Key, shutdown: CancellationToken) {
        while let Some(mut events) = self.load(store.as_ref(), &classes).await {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    item = events.next() => match item {
                        Some(Ok(WatchItem::Progress(_))) => {}
                        Some(Ok(WatchItem::Events(_))) => break,
                        Some(Err(skiff_store::Error::Closed)) | None => return,
                        Some(Err(_)) => break,
                    },
                }
            }
        }
    }

    /// The present default, and a watch from there; `None` when the store is closed.
    async fn load(&self, store: &dyn Store, classes: &Key) -> Option<skiff_store::Watch> {
        let request = ListRequest { prefix: classes.clone(), start: Bound::Unbounded, limit: 0, at: None };
        let listing = store.list(request).await.ok()?;
        *self.0.write() = choose(&listing.entries);
        store.watch(classes.clone(), listing.revision).ok()
    }
}

/// Of several defaults the one with the lowest value, as upstream.
fn choose(entries: &[Arc<Entry>]) -> Option<Value> {
    let classes = entries.iter().filter_map(|e| registry::parse(&e.value).ok());
    classes.filter(|c| c["globalDefault"] == true).min_by_key(|c| c["value"].as_i64().unwrap_or(0))
}
