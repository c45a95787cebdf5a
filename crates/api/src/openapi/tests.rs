use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::kinds::builtin;

fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.insert(reference);
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

fn assert_closed(document: &Value) {
    let mut all = BTreeSet::new();
    references(document, &mut all);
    assert!(all.len() > 5);
    for reference in all {
        let pointer = reference.strip_prefix('#').expect("local");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn assert_operation_ids_unique(document: &Value) {
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item").iter().filter(|(m, _)| *m != "parameters") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(seen.insert(id.to_owned()), "{id} again at {method} {path}");
        }
    }
}

#[test]
fn every_version_has_a_closed_document() {
    let index = v3::index(builtin(), |path| path.len().to_string());
    for (path, entry) in index["paths"].as_object().expect("paths") {
        let mut parts = path.rsplit('/');
        let version = parts.next().expect("a version");
        let group = parts.next().filter(|g| *g != "api").unwrap_or("");
        assert_eq!(entry["serverRelativeURL"], format!("/openapi/v3/{path}?hash={}", path.len()));
        let document = v3::document(builtin(), group, version).unwrap_or_else(|| panic!("no {path}"));
        assert_closed(&document);
        assert_operation_ids_unique(&document);
    }
    assert!(v3::document(builtin(), "apps", "v9").is_none());
}

#[test]
fn the_v2_document_is_closed() {
    let document = v2::document(builtin());
    assert_closed(&document);
    assert_operation_ids_unique(&document);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({ "group": "", "version": "v1", "kind": "Pod" }));
    assert!(patch["parameters"].as_array().expect("a list").iter().any(|p| p["name"] == "fieldValidation"));
    assert!(!document.to_string().contains(r#""allOf":[{"$ref"#));
}

#[test]
fn facts_and_references_are_as_clients_expect() {
    let document = v3::document(builtin(), "apps", "v1").expect("served");
    let schema = |name: &str| &document["components"]["schemas"][name];
    let deployment = schema("io.k8s.api.apps.v1.Deployment");
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{ "group": "apps", "version": "v1", "kind": "Deployment" }])
    );
    assert_eq!(deployment["required"], json!(["spec"]));
    let spec = &deployment["properties"]["spec"];
    assert_eq!(spec["allOf"], json!([{ "$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec" }]));
    assert!(spec["description"].is_string());
    let containers = &schema("io.k8s.api.core.v1.PodSpec")["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["items"], json!({ "$ref": "#/components/schemas/io.k8s.api.core.v1.Container" }));
    assert_eq!(schema("io.k8s.api.core.v1.ContainerPort")["properties"]["protocol"]["default"], "TCP");
    assert_eq!(schema("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")["x-kubernetes-map-type"], "atomic");
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"];
    assert_eq!(scale["operationId"], "replaceAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    let list = &document["paths"]["/apis/apps/v1/deployments"]["get"];
    assert_eq!(list["operationId"], "listAppsV1DeploymentForAllNamespaces");
}

/// The protobuf form says the same: its definitions and their extensions are found by walking the bytes.
#[test]
fn the_protobuf_form_has_every_definition() {
    use crate::protobuf::wire::{BYTES, Reader, last_bytes};
    let document = v2::document(builtin());
    let bytes = v2_protobuf::encode(&document);
    assert_eq!(last_bytes(&bytes, 1).expect("a message"), Some(&b"2.0"[..]));
    for (field, entry, part) in [(8, 2, "paths"), (9, 1, "definitions")] {
        let mut reader = Reader::new(last_bytes(&bytes, field).expect("a message").expect("there"));
        let mut names = BTreeSet::new();
        while let Some((number, wire)) = reader.key().expect("a key") {
            assert_eq!((number, wire), (entry, BYTES));
            let pair = reader.bytes().expect("a pair");
            let name = last_bytes(pair, 1).expect("a message").expect("a name");
            assert!(last_bytes(pair, 2).expect("a message").is_some());
            names.insert(std::str::from_utf8(name).expect("text").to_owned());
        }
        let expected: BTreeSet<String> = document[part].as_object().expect("a map").keys().cloned().collect();
        assert_eq!(names, expected);
    }
}

/// A kind of a CustomResourceDefinition stands in every document like the others.
#[test]
fn custom_kinds_are_documented() {
    use crate::kinds::{Kind, SchemaSource, Verbs};
    use std::sync::Arc;
    let raw = json!({ "type": "object", "description": "A tab.", "properties": { "spec": { "type": "object", "properties": {
        "port": { "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] },
        "size": { "type": "integer", "nullable": true, "minimum": 1, "default": 2 } } } } });
    let schema = Arc::new(crate::schema::Schema::from_crd(&raw).expect("structural"));
    let kind = Kind {
        group: "x.example.com".into(),
        version: "v1".into(),
        kind: "Tab".into(),
        plural: "tabs".into(),
        singular: "tab".into(),
        namespaced: true,
        short_names: vec!["tb".to_owned().into()],
        categories: Vec::new(),
        verbs: Verbs::All,
        subresources: vec![crate::kinds::Subresource::Status].into(),
        schema_name: "com.example.x.v1.Tab".into(),
        schema: SchemaSource::Custom { schema, raw: Arc::new(raw) },
        storage: ("x.example.com".into(), "tabs".into()),
        storage_version: ("x.example.com".into(), "v1".into()),
        hooks: &crate::Hooks::GENERIC,
    };
    let all = || builtin().iter().chain([&kind]);
    let document = v3::document(all(), "x.example.com", "v1").expect("served");
    assert_closed(&document);
    let tab = &document["components"]["schemas"]["com.example.x.v1.Tab"];
    assert_eq!(tab["properties"]["spec"]["properties"]["size"]["minimum"], 1);
    assert_eq!(tab["properties"]["spec"]["properties"]["size"]["nullable"], true);
    assert_eq!(tab["x-kubernetes-group-version-kind"][0]["kind"], "Tab");
    let path = "/apis/x.example.com/v1/namespaces/{namespace}/tabs/{name}/status";
    assert_eq!(document["paths"][path]["patch"]["operationId"], "patchXExampleComV1NamespacedTabStatus");
    let document = v2::document(all());
    assert_closed(&document);
    let spec = &document["definitions"]["com.example.x.v1.Tab"]["properties"]["spec"]["properties"];
    assert!(spec["size"].get("nullable").is_none() && spec["port"].get("anyOf").is_none());
    assert!(!v2_protobuf::encode(&document).is_empty());
    let resources = crate::discovery::resource_list(all(), "x.example.com", "v1").expect("served");
    assert_eq!(resources["resources"][0]["shortNames"], json!(["tb"]));
    assert_eq!(resources["resources"][1]["name"], "tabs/status");
}
