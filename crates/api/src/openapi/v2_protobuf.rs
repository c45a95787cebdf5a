//! The swagger document as `openapi.v2.Document` (gnostic's message): what Go clients ask for. kubectl up to 1.28
//! explains and validates only with this.

use serde_json::{Map, Value};

use crate::protobuf::wire::{FIXED64, put_bytes, put_key, put_nested, put_number};

/// As clients ask for it; older ones write `v2@v1.0`.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

type Out = Vec<u8>;

/// From a document of [`super::v2::document`]. Megabytes: build it once.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    text(&mut out, 1, &document["swagger"]);
    nested(&mut out, 2, |out| {
        text(out, 1, &document["info"]["title"]);
        text(out, 2, &document["info"]["version"]);
    });
    nested(&mut out, 8, |out| named(out, 2, &document["paths"], path_item));
    nested(&mut out, 9, |out| named(out, 1, &document["definitions"], schema));
    for requirement in list(&document["security"]) {
        nested(&mut out, 12, |out| named(out, 1, requirement, |out, value| texts(out, 1, value)));
    }
    nested(&mut out, 13, |out| {
        named(out, 1, &document["securityDefinitions"], |out, definition| {
            // The second alternative: an API key.
            nested(out, 2, |out| {
                text(out, 1, &definition["type"]);
                text(out, 2, &definition["name"]);
                text(out, 3, &definition["in"]);
                text(out, 4, &definition["description"]);
            });
        });
    });
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn nested(out: &mut Out, field: u32, write: impl FnOnce(&mut Out)) {
    let written: Result<(), std::convert::Infallible> = put_nested(out, field, |out| {
        write(out);
        Ok(())
    });
    match written {
        Ok(()) => {}
    }
}

fn text(out: &mut Out, field: u32, value: &Value) {
    if let Some(text) = value.as_str() {
        put_bytes(out, field, text.as_bytes());
    }
}

fn texts(out: &mut Out, field: u32, value: &Value) {
    list(value).iter().for_each(|item| text(out, field, item));
}

fn flag(out: &mut Out, field: u32, value: &Value) {
    if value == &Value::Bool(true) {
        put_number(out, field, 1);
    }
}

/// Repeated pairs of a name and a value.
fn named(out: &mut Out, field: u32, map: &Value, write: impl Fn(&mut Out, &Value)) {
    for (name, value) in entries(map) {
        nested(out, field, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| write(out, value));
        });
    }
}

/// Any value, as YAML: JSON is.
fn any(out: &mut Out, value: &Value) {
    put_bytes(out, 2, format!("{value}\n").as_bytes());
}

fn extensions(out: &mut Out, field: u32, of: &Value) {
    for (name, value) in entries(of).filter(|(name, _)| name.starts_with("x-")) {
        nested(out, field, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| any(out, value));
        });
    }
}

fn path_item(out: &mut Out, item: &Value) {
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(made) = item.get(method) {
            nested(out, field, |out| operation(out, made));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Out, operation: &Value) {
    texts(out, 1, &operation["tags"]);
    text(out, 3, &operation["description"]);
    text(out, 5, &operation["operationId"]);
    texts(out, 6, &operation["produces"]);
    texts(out, 7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"]);
    nested(out, 9, |out| {
        named(out, 1, &operation["responses"], |out, response| {
            nested(out, 1, |out| {
                text(out, 1, &response["description"]);
                if let Some(body) = response.get("schema") {
                    nested(out, 2, |out| nested(out, 1, |out| schema(out, body)));
                }
            });
        });
    });
    texts(out, 10, &operation["schemes"]);
    extensions(out, 13, operation);
}

fn parameters(out: &mut Out, field: u32, all: &Value) {
    for parameter in list(all) {
        nested(out, field, |out| {
            nested(out, 1, |out| match parameter["in"].as_str() {
                Some("body") => nested(out, 1, |out| body_parameter(out, parameter)),
                Some("path") => nested(out, 2, |out| nested(out, 4, |out| plain_parameter(out, parameter, 5))),
                _ => nested(out, 2, |out| nested(out, 3, |out| plain_parameter(out, parameter, 6))),
            });
        });
    }
}

fn body_parameter(out: &mut Out, parameter: &Value) {
    text(out, 1, &parameter["description"]);
    text(out, 2, &parameter["name"]);
    text(out, 3, &parameter["in"]);
    flag(out, 4, &parameter["required"]);
    nested(out, 5, |out| schema(out, &parameter["schema"]));
}

/// Of a path or a query, which differ by one field before the type.
fn plain_parameter(out: &mut Out, parameter: &Value, type_field: u32) {
    flag(out, 1, &parameter["required"]);
    text(out, 2, &parameter["in"]);
    text(out, 3, &parameter["description"]);
    text(out, 4, &parameter["name"]);
    text(out, type_field, &parameter["type"]);
    flag(out, type_field + 14, &parameter["uniqueItems"]);
}

fn schema(out: &mut Out, schema: &Value) {
    let Value::Object(map) = schema else { return };
    for (name, field) in [("$ref", 1), ("format", 2), ("title", 3), ("description", 4), ("pattern", 13)] {
        if let Some(value) = map.get(name) {
            text(out, field, value);
        }
    }
    limits(out, map);
    for (name, field) in [("default", 5), ("example", 30)] {
        if let Some(value) = map.get(name) {
            nested(out, field, |out| any(out, value));
        }
    }
    texts(out, 19, &schema["required"]);
    for value in list(&schema["enum"]) {
        nested(out, 20, |out| any(out, value));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => nested(out, 21, |out| put_number(out, 2, u64::from(*allowed))),
        Some(inner) => nested(out, 21, |out| nested(out, 1, |out| self::schema(out, inner))),
        None => {}
    }
    if let Some(value) = map.get("type") {
        nested(out, 22, |out| text(out, 1, value));
    }
    if let Some(items) = map.get("items") {
        nested(out, 23, |out| nested(out, 1, |out| self::schema(out, items)));
    }
    for part in list(&schema["allOf"]) {
        nested(out, 24, |out| self::schema(out, part));
    }
    if let Some(properties) = map.get("properties") {
        nested(out, 25, |out| named(out, 1, properties, self::schema));
    }
    extensions(out, 31, schema);
}

/// Constraints: only CRDs' schemas have them.
fn limits(out: &mut Out, map: &Map<String, Value>) {
    for (name, field) in [("multipleOf", 6), ("maximum", 7), ("minimum", 9)] {
        if let Some(number) = map.get(name).and_then(Value::as_f64) {
            put_key(out, field, FIXED64);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    for (name, field) in [("exclusiveMaximum", 8), ("exclusiveMinimum", 10), ("uniqueItems", 16)] {
        flag(out, field, map.get(name).unwrap_or(&Value::Null));
    }
    for (name, field) in [
        ("maxLength", 11),
        ("minLength", 12),
        ("maxItems", 14),
        ("minItems", 15),
        ("maxProperties", 17),
        ("minProperties", 18),
    ] {
        if let Some(number) = map.get(name).and_then(Value::as_u64) {
            put_number(out, field, number);
        }
    }
}
