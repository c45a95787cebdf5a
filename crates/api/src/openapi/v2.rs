//! `/openapi/v2`: one swagger 2.0 document of everything.

use serde_json::{Map, Value, json};

use super::definitions::{Form, META, definitions, object};
use super::paths::{Body, Operation, Parameter, Path, of_kind};
use crate::Kind;

/// Large (megabytes): build it once per set of kinds and keep the bytes.
pub fn document<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let kinds: Vec<&Kind> = kinds.into_iter().collect();
    let paths: Map<String, Value> =
        kinds.iter().flat_map(|kind| of_kind(kind)).map(|path| (path.path.clone(), path_item(&path))).collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": crate::GIT_VERSION },
        "paths": paths,
        "definitions": definitions(&kinds, Form::V2),
        "securityDefinitions": {
            "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header" },
        },
        "security": [{ "BearerToken": [] }],
    })
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
        "name": parameter.name, "in": place, "type": parameter.value_type, "description": parameter.description,
        "uniqueItems": true,
    });
    if place == "path" {
        out["required"] = json!(true);
    }
    out
}

fn operation(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operation.parameters.iter().map(|p| parameter(p, "query")).collect();
    let body = match operation.body {
        Body::None => None,
        Body::Object => operation.schema.clone(),
        Body::Patch => Some(format!("{META}Patch")),
        Body::DeleteOptions => Some(format!("{META}DeleteOptions")),
    };
    if let Some(name) = body {
        let required = operation.body != Body::DeleteOptions;
        parameters.insert(
            0,
            json!({ "name": "body", "in": "body", "required": required, "schema": Form::V2.reference(&name) }),
        );
    }
    let schema = operation.schema.as_deref().map_or_else(|| json!({ "type": "string" }), |n| Form::V2.reference(n));
    let mut responses = object([
        ("200", json!({ "description": "OK", "schema": schema.clone() })),
        ("401", json!({ "description": "Unauthorized" })),
    ]);
    if operation.created {
        responses["201"] = json!({ "description": "Created", "schema": schema });
    }
    let consumes = match operation.body {
        Body::Patch => json!(super::v3::PATCH_MEDIA_TYPES),
        _ => json!(["*/*"]),
    };
    json!({
        "operationId": operation.id, "description": operation.description, "tags": [operation.tag],
        "consumes": consumes, "produces": super::v3::MEDIA_TYPES, "schemes": ["https"], "parameters": parameters,
        "responses": responses, "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    })
}
