//! The caches of a process: one per kind, started when somebody first asks for it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use parking_lot::RwLock;
use skiff_reconcile::{AnyObject, Codec, KindRef, Object, ObjectKey, View};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Change, KindCache, Subscription, cache::Handler, reflector::Reflector};

/// Which objects of a kind a cache holds; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Of all namespaces when empty.
    pub namespace: String,
    /// A field selector: `spec.nodeName=n1`.
    pub fields: String,
    /// A label selector.
    pub labels: String,
}

/// Cheap to clone; the watches stop when the last clone is dropped.
#[derive(Clone)]
pub struct SharedCache {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// By kind and whether only metadata is held.
    kinds: RwLock<BTreeMap<(KindRef, bool), Arc<KindCache>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl SharedCache {
    pub fn new(client: Client) -> Self {
        let inner =
            Inner { client, kinds: RwLock::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        Self { inner: Arc::new(inner) }
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The cache of a kind, all objects; started if it is not there. A kind that is cached whole already is not
    /// watched a second time for its metadata, so declare whole kinds first.
    pub fn declare(&self, codec: Codec) -> Arc<KindCache> {
        self.declare_scoped(codec, Scope::default())
    }
    pub fn declare_kind<K: Object>(&self) -> Arc<KindCache> {
        self.declare(Codec::of::<K>())
    }
    /// With a scope. The scope of the first declaration of a kind counts.
    pub fn declare_scoped(&self, codec: Codec, scope: Scope) -> Arc<KindCache> {
        let mut kinds = self.inner.kinds.write();
        let whole = kinds.get(&(codec.kind, false));
        let there = if codec.metadata_only { whole.or_else(|| kinds.get(&(codec.kind, true))) } else { whole };
        if let Some(cache) = there {
            return cache.clone();
        }
        let cache = Arc::new(KindCache::new(codec));
        kinds.insert((codec.kind, codec.metadata_only), cache.clone());
        let reflector = Reflector { client: self.inner.client.clone(), cache: cache.clone(), scope };
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = reflector.run() => {}
            }
        });
        cache
    }

    /// The cache of a kind that somebody declared: of whole objects where there is one.
    pub fn kind(&self, kind: &KindRef) -> Option<Arc<KindCache>> {
        let kinds = self.inner.kinds.read();
        kinds.get(&(*kind, false)).or_else(|| kinds.get(&(*kind, true))).cloned()
    }
    /// All declared kinds.
    pub fn kinds(&self) -> Vec<Arc<KindCache>> {
        self.inner.kinds.read().values().cloned().collect()
    }
    /// The revision that the cache of a kind has reached; 0 when it is not declared or not listed yet.
    pub fn revision(&self, kind: &KindRef) -> u64 {
        self.kind(kind).map_or(0, |c| c.revision())
    }
    /// Waits until every kind declared so far has been listed.
    pub async fn synced(&self) {
        for cache in self.kinds() {
            cache.reached(1).await;
        }
    }
    /// Shows the handler everything of a kind that is there, then every change. No-op for an undeclared kind.
    pub fn on_change(&self, kind: &KindRef, handler: impl Fn(&[Change]) + Send + Sync + 'static) {
        if let Some(cache) = self.kind(kind) {
            let handler: Handler = Arc::new(handler);
            cache.on_change(handler);
        }
    }
    /// The keys of these kinds that changed, for loops that would rather wait than be called.
    pub fn subscribe(&self, kinds: &[KindRef]) -> Subscription {
        let subscription = Subscription::default();
        for kind in kinds {
            let sink = subscription.sink();
            self.on_change(kind, move |changes| sink.note(changes));
        }
        subscription
    }
    /// Ends all watches and waits until they have ended.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl View for SharedCache {
    fn get_any(&self, kind: &KindRef, key: &ObjectKey) -> Option<AnyObject> {
        self.kind(kind)?.get(key)
    }
    fn list_any(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<AnyObject> {
        self.kind(kind).map_or_else(Vec::new, |c| c.list(namespace))
    }
    fn owned_any(&self, kind: &KindRef, owner_uid: &str) -> Vec<AnyObject> {
        self.kind(kind).map_or_else(Vec::new, |c| c.owned(owner_uid))
    }
    fn list_metadata(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<ObjectMeta> {
        let Some(cache) = self.kind(kind) else { return Vec::new() };
        let meta = cache.codec().meta;
        cache.list(namespace).iter().filter_map(|o| meta(o).cloned()).collect()
    }
}
