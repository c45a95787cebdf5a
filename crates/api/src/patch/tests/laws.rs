use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{any_json, any_object, schema_of};
use crate::patch::{json as json_patch, merge, strategic};

/// The merge patch that makes `to` of `from`.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in to {
        match from.get(key) {
            Some(old) if old == value => {}
            Some(old) => drop(patch.insert(key.clone(), difference(old, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

/// A pod in the parts where lists merge.
fn any_pod() -> impl Strategy<Value = Value> {
    let container = ("[abcd]", prop::option::of("[xy]"), prop::collection::btree_set("[pq]", 0..3))
        .prop_map(|(name, image, args)| json!({ "name": name, "image": image, "args": args }));
    let containers = prop::collection::vec(container, 0..4).prop_map(|mut all| {
        all.sort_by_key(|c| c["name"].to_string());
        all.dedup_by_key(|c| c["name"].clone());
        all
    });
    let finalizers = prop::collection::btree_set("[fgh]", 0..4);
    (containers.prop_shuffle(), finalizers, any_object(Just(json!("v")))).prop_map(
        |(containers, finalizers, labels)| {
            without_nulls(json!({
                "metadata": { "finalizers": finalizers, "labels": labels },
                "spec": { "containers": containers },
            }))
        },
    )
}

proptest! {
    #[test]
    fn a_merge_patch_of_the_difference_gives_the_other(
        from in any_object(any_json()), to in any_object(any_json())
    ) {
        let (mut from, to) = (without_nulls(from.into()), without_nulls(to.into()));
        merge::apply(difference(&from, &to), &mut from).unwrap();
        prop_assert_eq!(from, to);
    }

    #[test]
    fn a_merge_patch_is_idempotent(target in any_json(), patch in any_object(any_json())) {
        let mut once = target;
        merge::apply(patch.clone().into(), &mut once).unwrap();
        let mut twice = once.clone();
        merge::apply(patch.into(), &mut twice).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_json_patch_changes_all_or_nothing(target in any_json(), patch in any_json(), path in "(/[abc01-]){0,3}") {
        let before = target.clone();
        let mut target = target;
        let patch = json!([{ "op": "add", "path": path, "value": patch }, { "op": "remove", "path": "/never" }]);
        if json_patch::apply(patch.to_string().as_bytes(), &mut target).is_err() {
            prop_assert_eq!(target, before);
        }
    }

    #[test]
    fn a_strategic_patch_is_idempotent_and_wins(target in any_pod(), patch in any_pod()) {
        let schema = schema_of("", "v1", "Pod");
        let mut once = target.clone();
        strategic::apply(schema, patch.clone(), &mut once).unwrap();
        let mut twice = once.clone();
        strategic::apply(schema, patch.clone(), &mut twice).unwrap();
        prop_assert_eq!(&once, &twice);
        // Everything the patch has is there, and in its order; everything else of the target still is.
        let names = |pod: &Value| -> Vec<String> {
            pod["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].to_string()).collect()
        };
        let (all, wanted) = (names(&once), names(&patch));
        prop_assert_eq!(all.iter().filter(|n| wanted.contains(n)).cloned().collect::<Vec<_>>(), wanted);
        prop_assert!(names(&target).iter().all(|n| all.contains(n)));
    }

    /// Patches come from clients.
    #[test]
    fn no_patch_panics(target in any_json(), patch in any_json()) {
        let schema = schema_of("", "v1", "Pod");
        let patch = json!({ "metadata": patch, "spec": { "$setElementOrder/containers": patch, "containers": patch } });
        let mut target = json!({ "metadata": target, "spec": { "containers": target } });
        let _ = strategic::apply(schema, patch, &mut target);
    }
}
