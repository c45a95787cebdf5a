//! What holds a key, and what lets it go.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use skiff_client::in_process;
use skiff_reconcile::{AnyObject, codec::WatchEvent};
use tower::service_fn;

use super::*;

/// Caches whose API never answers: the tests put the events in.
fn caches() -> SharedCache {
    let silent = service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
    });
    let caches = SharedCache::new(in_process(silent));
    caches.declare_kind::<ConfigMap>();
    caches.declare_kind::<Secret>();
    caches
}

fn object(name: &str, uid: &str, revision: u64, deleting: bool) -> AnyObject {
    Arc::new(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            resource_version: Some(revision.to_string()),
            deletion_timestamp: deleting.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    })
}

struct Bench {
    caches: SharedCache,
    fence: Arc<Fence>,
    released: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        let caches = caches();
        let fence = Arc::new(Fence::new([KindRef::of::<ConfigMap>(), KindRef::of::<Secret>()]));
        let released = Arc::new(Mutex::new(Vec::new()));
        for kind in [KindRef::of::<ConfigMap>(), KindRef::of::<Secret>()] {
            let cache = caches.kind(&kind).expect("declared");
            let (source, fence, released) = (Arc::downgrade(&cache), fence.clone(), released.clone());
            cache.on_change(Arc::new(move |changes| {
                let cache = source.upgrade().expect("alive");
                let free = fence.on_changes(&kind, cache.revision(), changes, cache.codec().meta);
                released.lock().extend(free.into_iter().map(|k| k.name));
            }));
        }
        Self { caches, fence, released }
    }
    fn show(&self, event: WatchEvent) -> Vec<String> {
        self.caches.kind(&KindRef::of::<ConfigMap>()).expect("declared").apply(vec![event]);
        std::mem::take(&mut *self.released.lock())
    }
    fn hold(&self, key: &str, conditions: &[Condition]) -> bool {
        self.fence.hold(&ObjectKey::new("default", key), conditions.to_vec(), &self.caches);
        self.fence.check(&ObjectKey::new("default", key)).is_some()
    }
}

fn reached(revision: u64) -> Condition {
    Condition::Reached { kind: KindRef::of::<ConfigMap>(), revision }
}
fn going(name: &str, uid: &str) -> Condition {
    Condition::Going { kind: KindRef::of::<ConfigMap>(), key: ObjectKey::new("default", name), uid: uid.into() }
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_until_the_cache_has_seen_its_last_write() {
    let bench = Bench::new();
    assert!(bench.hold("a", &[reached(5), reached(7), reached(6)]));
    assert!(bench.show(WatchEvent::Changed(object("x", "u", 6, false))).is_empty());
    assert_eq!(bench.show(WatchEvent::Bookmark { resource_version: "7".into() }), ["a"]);
    assert!(!bench.hold("a", &[reached(7)]), "what is seen already is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_waited_for_until_it_is_going_or_gone_or_another() {
    for last in [
        WatchEvent::Deleted(object("x", "u", 9, false)),
        WatchEvent::Changed(object("x", "u", 9, true)),
        WatchEvent::Changed(object("x", "another", 9, false)),
    ] {
        let bench = Bench::new();
        bench.show(WatchEvent::Changed(object("x", "u", 1, false)));
        assert!(bench.hold("a", &[going("x", "u"), reached(3)]));
        assert!(bench.show(WatchEvent::Changed(object("x", "u", 4, false))).is_empty());
        assert_eq!(bench.show(last), ["a"]);
        assert!(!bench.hold("a", &[going("x", "u")]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_nobody_asked_for_is_freed_in_silence() {
    let bench = Bench::new();
    let key = ObjectKey::new("default", "a");
    bench.fence.hold(&key, vec![reached(5)], &bench.caches);
    assert!(bench.show(WatchEvent::Bookmark { resource_version: "5".into() }).is_empty());
    assert!(bench.fence.check(&key).is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_holds_for_ever_and_unwatched_kinds_do_not_hold() {
    let bench = Bench::new();
    let pods = Condition::Reached { kind: KindRef::of::<Pod>(), revision: 1000 };
    assert!(!bench.hold("a", &[pods]));
    assert!(bench.hold("a", &[reached(1000), going("x", "u")]));
    tokio::time::advance(Duration::from_secs(HELD_SECONDS_MAX)).await;
    assert!(bench.fence.check(&ObjectKey::new("default", "a")).is_none());
    assert!(bench.show(WatchEvent::Bookmark { resource_version: "1000".into() }).is_empty());
}
