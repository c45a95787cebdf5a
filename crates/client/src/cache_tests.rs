//! The cache against a plain map, over random histories; and what handlers see.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use proptest::prelude::*;

use super::*;

fn object(namespace: u8, name: u8, revision: u64, owner: u8) -> AnyObject {
    let reference = OwnerReference { uid: format!("owner-{owner}"), ..OwnerReference::default() };
    Arc::new(ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(format!("ns{namespace}")),
            name: Some(format!("n{name}")),
            resource_version: Some(revision.to_string()),
            owner_references: (owner > 0).then(|| vec![reference]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    })
}

fn version(o: &AnyObject) -> String {
    let map = o.downcast_ref::<ConfigMap>().expect("a config map");
    map.metadata.resource_version.clone().unwrap_or_default()
}

/// (namespace, name) → (revision, owner)
type Reference = BTreeMap<(u8, u8), (u64, u8)>;

fn assert_same(cache: &KindCache, model: &Reference) {
    let versions = |list: Vec<AnyObject>| list.iter().map(version).collect::<Vec<_>>();
    let want = |f: &dyn Fn(u8, u8) -> bool| {
        model.iter().filter(|((ns, _), (_, o))| f(*ns, *o)).map(|(_, (r, _))| r.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(versions(cache.list(None)), want(&|_, _| true));
    for ns in 0..3 {
        assert_eq!(versions(cache.list(Some(&format!("ns{ns}")))), want(&|n, _| n == ns), "namespace {ns}");
    }
    for owner in 1..3 {
        assert_eq!(versions(cache.owned(&format!("owner-{owner}"))), want(&|_, o| o == owner), "owner {owner}");
    }
}

proptest! {
    /// Lists, namespaces and the owner index agree with a map; a handler that only follows changes does, too.
    #[test]
    fn a_random_history_leaves_what_a_map_holds(
        steps in prop::collection::vec((0u8..3, 0u8..4, 0u8..3, 0u8..10), 1..60),
        late in 0usize..60,
    ) {
        let cache = KindCache::new(Codec::of::<ConfigMap>());
        let mut model = Reference::new();
        let followed: Arc<Mutex<BTreeMap<ObjectKey, String>>> = Arc::default();
        for (at, (ns, name, owner, what)) in steps.into_iter().enumerate() {
            if at == late {
                let followed = followed.clone();
                cache.on_change(Arc::new(move |changes| {
                    for c in changes {
                        let before = match &c.new {
                            Some(o) => followed.lock().insert(c.key.clone(), version(o)),
                            None => followed.lock().remove(&c.key),
                        };
                        assert_eq!(before.is_some(), c.old.is_some(), "{}", c.key);
                    }
                }));
            }
            let revision = at as u64 + 1;
            match what {
                0 => {
                    model.retain(|(n, _), _| *n != ns);
                    let items = model.iter().map(|((ns, n), (r, o))| object(*ns, *n, *r, *o)).collect();
                    cache.replace(items, revision);
                }
                1..4 if model.contains_key(&(ns, name)) => {
                    model.remove(&(ns, name));
                    cache.apply(vec![WatchEvent::Deleted(object(ns, name, revision, owner))]);
                }
                1..4 => cache.apply(vec![WatchEvent::Bookmark { resource_version: revision.to_string() }]),
                _ => {
                    model.insert((ns, name), (revision, owner));
                    cache.apply(vec![WatchEvent::Changed(object(ns, name, revision, owner))]);
                }
            }
            prop_assert_eq!(cache.revision(), revision);
            assert_same(&cache, &model);
            if at >= late {
                let seen: Vec<String> = followed.lock().values().cloned().collect();
                prop_assert_eq!(seen, cache.list(None).iter().map(version).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_relist_reports_only_what_differs() {
    let cache = KindCache::new(Codec::of::<ConfigMap>());
    cache.replace(vec![object(0, 0, 1, 0), object(0, 1, 2, 0), object(0, 2, 3, 0)], 3);
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = seen.clone();
    cache.on_change(Arc::new(move |changes| {
        let word = |c: &Change| match (&c.old, &c.new) {
            (None, _) => "came",
            (_, None) => "went",
            _ => "changed",
        };
        sink.lock().extend(changes.iter().map(|c| format!("{} {}", c.key, word(c))));
    }));
    seen.lock().clear();
    cache.replace(vec![object(0, 0, 1, 0), object(0, 1, 7, 0), object(0, 3, 8, 0)], 9);
    assert_eq!(*seen.lock(), ["ns0/n1 changed", "ns0/n3 came", "ns0/n2 went"]);
}
