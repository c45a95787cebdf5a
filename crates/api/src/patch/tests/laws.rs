use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{any_json, any_object, schema_of};
use crate::{
    kinds,
    patch::{
        apply, fields, json as json_patch, managed_fields, managed_fields::Writer, merge, strategic,
        structured::compare,
    },
};

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

/// The sets of all managers.
fn sets(pod: &Value) -> Vec<fields::Fields> {
    let entries = pod["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().filter_map(|e| e["fieldsV1"].as_object().cloned()).collect()
}

fn writer<'a>(manager: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, api_version: "v1", subresource: "", now }
}

fn as_pod(mut pod: Value) -> Value {
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "x".into();
    pod
}

/// Without the managers.
fn content(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"].as_object_mut().unwrap().remove("managedFields");
    pod
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Everything has one owner, and nothing that is not there has one.
    #[test]
    fn updates_share_out_all_fields(versions in prop::collection::vec((any_pod(), 0..3usize), 1..8)) {
        let schema = schema_of("", "v1", "Pod");
        let mut pod: Option<Value> = None;
        for (n, (version, by)) in versions.into_iter().enumerate() {
            let mut new = as_pod(version);
            let now = format!("2026-01-01T00:00:{n:02}Z");
            managed_fields::update(schema, pod.as_ref(), &mut new, &writer(["a", "b", "c"][by], &now));
            let mut unowned = compare(schema, None, &new).changed.unwrap_or_default();
            let there = unowned.clone();
            let mut seen = fields::Fields::new();
            for set in sets(&new) {
                prop_assert!(fields::intersection(&seen, &set).is_empty(), "two owners: {new}");
                fields::union(&mut seen, &set);
                fields::subtract(&mut unowned, &set);
            }
            fields::subtract(&mut seen, &there);
            // A list that upstream always has is itself a member only if it was empty when it came.
            let besides = |set| fields::paths(set).into_iter().filter(|p| p != ".spec.containers").collect::<Vec<_>>();
            prop_assert!(besides(&seen).is_empty(), "owned and not there: {:?} of {new}", besides(&seen));
            prop_assert!(besides(&unowned).is_empty(), "nobody's: {:?} of {new}", besides(&unowned));
            pod = Some(new);
            if sets(pod.as_ref().unwrap()).is_empty() {
                // Nothing left to track: from here on nothing is.
                break;
            }
        }
    }

    #[test]
    fn apply_is_idempotent_and_takes_back_what_it_gave(live in any_pod(), config in any_pod()) {
        let (kind, schema) = (kinds::find_kind("", "v1", "Pod").unwrap(), schema_of("", "v1", "Pod"));
        let apply = |live: &Value, config: &Value, now: &str| {
            apply::apply(kind, schema, Some(live), as_pod(config.clone()), &writer("us", now), true).unwrap()
        };
        let mut before = as_pod(live);
        managed_fields::update(schema, None, &mut before, &writer("them", "2026-01-01T00:00:00Z"));
        let once = apply(&before, &config, "2026-01-01T00:00:01Z");
        let twice = apply(&once, &config, "2026-01-01T00:00:02Z");
        prop_assert_eq!(&once, &twice);
        // What the configuration names is there.
        let mut laid_over = once.clone();
        crate::patch::structured::merge(Some(schema), &mut laid_over, &config);
        prop_assert_eq!(&laid_over, &once);
        // Nothing of the others is lost when we let go.
        let gone = apply(&once, &json!({}), "2026-01-01T00:00:03Z");
        let delta = compare(schema, Some(&content(&before)), &content(&gone));
        let added = delta.changed.clone().unwrap_or_default();
        let lost = fields::paths(&delta.removed.unwrap_or_default());
        let taken = fields::paths(&compare(schema, Some(&before), &once).changed.unwrap_or_default());
        prop_assert!(lost.iter().all(|path| taken.contains(path)), "{lost:?} was not ours: {before} {config} {gone}");
        prop_assert!(fields::paths(&added).is_empty(), "{:?} stays: {before} {config} {gone}", fields::paths(&added));
    }

    /// Managed fields come from clients.
    #[test]
    fn no_managed_fields_panic(sent in any_json(), fields in any_object(any_json()), live in any_pod()) {
        let (kind, schema) = (kinds::find_kind("", "v1", "Pod").unwrap(), schema_of("", "v1", "Pod"));
        let entry = json!({ "manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:metadata": fields, "f:spec": sent, "k:{": {}, "nothing": sent } });
        let mut pod = as_pod(live.clone());
        pod["metadata"]["managedFields"] = json!([entry]);
        let mut new = pod.clone();
        new["metadata"]["labels"] = sent.clone();
        managed_fields::update(schema, Some(&pod), &mut new, &writer("b", ""));
        let _ = apply::apply(kind, schema, Some(&new), as_pod(live), &writer("a", ""), false);
        new["metadata"]["managedFields"] = sent;
        managed_fields::update(schema, Some(&pod), &mut new, &writer("b", ""));
    }

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
