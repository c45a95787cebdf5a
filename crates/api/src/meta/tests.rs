use serde_json::json;

use super::*;
use crate::kinds;

fn kind(plural: &str) -> &'static Kind {
    kinds::builtin().iter().find(|k| k.plural == plural).expect("built in")
}

fn errors(plural: &str, metadata: Value) -> Vec<String> {
    validate(&json!({ "metadata": metadata }), kind(plural)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_object_is_right() {
    assert!(errors("configmaps", json!({ "name": "a.b", "namespace": "c", "labels": { "x.y/z": "" } })).is_empty());
    assert!(errors("nodes", json!({ "name": "a" })).is_empty());
    assert!(errors("clusterroles", json!({ "name": "system:Node" })).is_empty());
    assert!(errors("pods", json!({ "name": "x-abcde", "generateName": "x-", "namespace": "c" })).is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    for (plural, metadata, expected) in [
        ("configmaps", json!({ "namespace": "c" }), "metadata.name: Required value: name or generateName is required"),
        ("configmaps", json!({ "name": "a" }), "metadata.namespace: Required value"),
        ("nodes", json!({ "name": "a", "namespace": "c" }), "metadata.namespace: Forbidden: not allowed on this type"),
        ("nodes", json!({ "name": "A" }), "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
        ("namespaces", json!({ "name": "a.b" }), "metadata.name: Invalid value: \"a.b\": must not contain dots"),
        ("clusterroles", json!({ "name": "a/b" }), "metadata.name: Invalid value: \"a/b\": may not contain '/'"),
        ("nodes", json!({ "name": "a", "labels": { "x": "a b" } }), "metadata.labels: Invalid value: \"a b\": a valid"),
        (
            "nodes",
            json!({ "name": "a", "annotations": { "a/b/c": "" } }),
            "metadata.annotations: Invalid value: \"a/b/c\"",
        ),
        ("nodes", json!({ "name": "a", "finalizers": ["!"] }), "metadata.finalizers: Invalid value: \"!\""),
        (
            "nodes",
            json!({ "name": "a", "finalizers": ["orphan", "foregroundDeletion"] }),
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and",
        ),
        (
            "nodes",
            json!({ "name": "a", "annotations": { "a": "x".repeat(ANNOTATIONS_BYTES_MAX) } }),
            "metadata.annotations: Too long",
        ),
    ] {
        let found = errors(plural, metadata);
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:?}");
    }
}

#[test]
fn one_controller_owns() {
    let owner = |name: &str| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": "1", "controller": true });
    let found = errors("nodes", json!({ "name": "a", "ownerReferences": [owner("x"), owner("y")] }));
    assert!(found[0].ends_with("Found \"true\" in references for Pod/x and Pod/y"), "{found:?}");
    let found = errors("nodes", json!({ "name": "a", "ownerReferences": [{ "apiVersion": "a/b/c", "kind": "K" }] }));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn an_update_may_not_change_identity() {
    let old = json!({ "metadata": { "name": "a", "namespace": "n", "uid": "1", "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:04:06Z" } });
    assert!(validate_update(&old, &old).is_empty());
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["x.y/z"]);
    new["metadata"]["creationTimestamp"] = json!("2000-01-02T03:04:05Z");
    let found: Vec<_> = validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("found new finalizers []string{\"x.y/z\"}"), "{found:?}");
    assert!(found[1].ends_with("field is immutable"), "{found:?}");
}

#[test]
fn generated_names_fit_a_label() {
    assert_eq!(generated_name("a-", 0), "a-bbbbb");
    assert_ne!(generated_name("a-", 1), generated_name("a-", 2));
    assert_eq!(generated_name(&"x".repeat(100), 7).len(), 63);
    assert!(generated_name(&"ä".repeat(60), 7).len() <= 63);
}
