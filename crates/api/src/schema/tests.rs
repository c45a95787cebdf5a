use serde_json::json;

use super::*;
use crate::kinds;

fn schema(group: &str, version: &str, kind: &str) -> &'static Schema {
    of(kinds::find_kind(group, version, kind).expect("built in"))
}

fn path<'a>(mut at: &'a Schema, path: &str) -> &'a Schema {
    for part in path.split('.') {
        at = at.items().unwrap_or(at).field(part).unwrap_or_else(|| panic!("no {part} of {path}"));
    }
    at
}

#[test]
fn every_kind_builds_and_names_itself() {
    for kind in kinds::builtin() {
        let definition = of(kind).definition().unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!(definition.name, kind.schema_name);
        assert_eq!(definition.go_name(), kind.kind);
        for field in ["apiVersion", "kind", "metadata"] {
            assert!(of(kind).field(field).is_some(), "{kind:?} has no {field}");
        }
        assert_known(of(kind), &mut vec![kind.schema_name.to_string()]);
    }
}

/// No definition fell back to "anything" but those that are.
fn assert_known(schema: &Schema, seen: &mut Vec<String>) {
    if let Some(definition) = schema.definition() {
        if seen.contains(&definition.name) && seen.len() > 1 {
            return;
        }
        seen.push(definition.name.clone());
        let free = ["RawExtension", "FieldsV1", "JSON"].contains(&definition.go_name());
        assert_eq!(matches!(schema.shape(), Shape::Any), free, "{}", definition.name);
    }
    match schema.shape() {
        Shape::Object(fields) => fields.iter().for_each(|(_, s)| assert_known(s, seen)),
        Shape::Map(s) | Shape::List(s) => assert_known(s, seen),
        Shape::OneOf(all) => all.iter().for_each(|s| assert_known(s, seen)),
        _ => {}
    }
}

#[test]
fn merge_facts_reach_the_fields() {
    let pod = schema("", "v1", "Pod");
    let containers = path(pod, "spec.containers");
    assert_eq!(containers.list_type(), ListType::Map);
    assert_eq!(containers.map_keys(), ["name".into()]);
    assert_eq!(containers.patch_merge_key(), Some("name"));
    assert!(containers.patch_strategy().merge);
    let ports = path(pod, "spec.containers.ports");
    assert_eq!(ports.map_keys(), ["containerPort".into(), "protocol".into()]);
    assert_eq!(ports.patch_merge_key(), Some("containerPort"));
    assert_eq!(path(pod, "spec.containers.ports.protocol").key_default(), Some("TCP"));
    assert!(path(pod, "spec.volumes").patch_strategy().retain_keys);
    assert!(path(schema("apps", "v1", "Deployment"), "spec.strategy").patch_strategy().retain_keys);
    assert_eq!(path(pod, "metadata.finalizers").list_type(), ListType::Set);
}

#[test]
fn atomic_is_what_upstream_says() {
    let pod = schema("", "v1", "Pod");
    for (field, atomic) in [
        ("spec", false),
        ("spec.nodeSelector", true),
        ("spec.containers", false),
        ("spec.containers.command", true),
        ("spec.containers.resources.limits", false),
        ("spec.containers.env.valueFrom.fieldRef", true),
        ("metadata.labels", false),
        ("metadata.finalizers", false),
        ("spec.hostname", true),
    ] {
        assert_eq!(path(pod, field).is_atomic(), atomic, "{field}");
    }
    assert!(path(schema("apps", "v1", "Deployment"), "spec.selector").is_atomic());
    assert!(path(schema("", "v1", "ConfigMap"), "data.x").is_atomic());
}

#[test]
fn scalars_have_their_formats() {
    let deployment = schema("apps", "v1", "Deployment");
    assert!(matches!(path(deployment, "spec.replicas").shape(), Shape::Int32));
    assert!(matches!(path(deployment, "metadata.generation").shape(), Shape::Int64));
    assert!(matches!(path(deployment, "metadata.creationTimestamp").shape(), Shape::Time));
    assert!(matches!(path(deployment, "spec.strategy.rollingUpdate.maxSurge").shape(), Shape::IntOrString));
    assert!(matches!(path(schema("", "v1", "Secret"), "data.x").shape(), Shape::Bytes));
    let limits = path(schema("", "v1", "Pod"), "spec.containers.resources.limits.cpu");
    assert!(matches!(limits.shape(), Shape::Quantity));
    assert!(matches!(path(schema("coordination.k8s.io", "v1", "Lease"), "spec.renewTime").shape(), Shape::MicroTime));
}

#[test]
fn a_crd_schema_is_the_same_model() {
    let raw = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "properties": {
            "size": { "type": "integer", "format": "int32" },
            "rules": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host"],
                "items": { "type": "object", "properties": { "host": { "type": "string" } } } },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "tags": { "type": "object", "additionalProperties": { "type": "string" } },
        } },
    } });
    let crd = Schema::from_crd(&raw).expect("structural");
    assert_eq!(path(&crd, "spec.rules").map_keys(), ["host".into()]);
    assert!(path(&crd, "spec.free").preserve_unknown);
    assert!(matches!(path(&crd, "spec.tags.x").shape(), Shape::String));
    assert!(matches!(path(&crd, "metadata.generation").shape(), Shape::Int64));
    let reference = json!({ "properties": { "spec": { "$ref": "#/definitions/x" } } });
    assert!(matches!(Schema::from_crd(&reference), Err(SchemaError::Reference { .. })));
    let mut deep = json!({ "type": "string" });
    for _ in 0..200 {
        deep = json!({ "type": "array", "items": deep });
    }
    assert!(matches!(Schema::from_crd(&deep), Err(SchemaError::TooDeep { .. })));
}
