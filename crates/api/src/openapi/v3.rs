//! `/openapi/v3`: an index, and one OpenAPI 3.0 document per group and version.

use serde_json::{Map, Value, json};

use super::definitions::{Form, META, definitions, object};
use super::paths::{Body, Operation, Parameter, Path, of_kind};
use crate::Kind;

pub(super) const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", crate::protobuf::MEDIA_TYPE];
pub(super) const PATCH_MEDIA_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// `/openapi/v3`. `hash` of a document (its path below `/openapi/v3/` is the argument) is put into its URL, so that
/// clients can cache it for ever.
pub fn index<'a>(kinds: impl IntoIterator<Item = &'a Kind>, hash: impl Fn(&str) -> String) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        let path = path_of(&kind.group, &kind.version);
        if !paths.contains_key(&path) {
            let url = format!("/openapi/v3/{path}?hash={}", hash(&path));
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// `api/v1`, `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`; `None`: no such version. Up to a megabyte: keep it.
pub fn document<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&Kind> = kinds.into_iter().filter(|k| k.group == group && k.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let paths: Map<String, Value> =
        kinds.iter().flat_map(|kind| of_kind(kind)).map(|path| (path.path.clone(), path_item(&path))).collect();
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": crate::GIT_VERSION },
        "paths": paths,
        "components": {
            "schemas": definitions(&kinds, Form::V3),
            "securitySchemes": { "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header" } },
        },
    }))
}

fn path_item(path: &Path) -> Value {
    let mut out = Map::new();
    for made in &path.operations {
        out.insert(made.method.to_owned(), operation(made));
    }
    if !path.parameters.is_empty() {
        out.insert("parameters".to_owned(), path.parameters.iter().map(|p| parameter(p, "path")).collect());
    }
    Value::Object(out)
}

fn parameter(parameter: &Parameter, place: &str) -> Value {
    let mut out = json!({
        "name": parameter.name, "in": place, "description": parameter.description,
        "schema": { "type": parameter.value_type, "uniqueItems": true },
    });
    if place == "path" {
        out["required"] = json!(true);
    }
    out
}

fn content(media_types: &[&str], schema: &Value) -> Value {
    Value::Object(media_types.iter().map(|m| ((*m).to_owned(), json!({ "schema": schema }))).collect())
}

fn operation(operation: &Operation) -> Value {
    let schema = operation.schema.as_deref().map_or_else(|| json!({ "type": "string" }), |n| Form::V3.reference(n));
    let answer = content(MEDIA_TYPES, &schema);
    let mut responses = object([
        ("200", json!({ "description": "OK", "content": answer.clone() })),
        ("401", json!({ "description": "Unauthorized" })),
    ]);
    if operation.created {
        responses["201"] = json!({ "description": "Created", "content": answer });
    }
    let parameters: Vec<Value> = operation.parameters.iter().map(|p| parameter(p, "query")).collect();
    let mut out = json!({
        "operationId": operation.id, "description": operation.description, "tags": [operation.tag],
        "parameters": parameters, "responses": responses, "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    });
    match operation.body {
        Body::None => {}
        Body::Object => out["requestBody"] = json!({ "required": true, "content": content(&["*/*"], &schema) }),
        Body::Patch => {
            let patch = Form::V3.reference(&format!("{META}Patch"));
            out["requestBody"] = json!({ "required": true, "content": content(PATCH_MEDIA_TYPES, &patch) });
        }
        Body::DeleteOptions => {
            let options = Form::V3.reference(&format!("{META}DeleteOptions"));
            out["requestBody"] = json!({ "content": content(&["*/*"], &options) });
        }
    }
    out
}
