//! Writes `src/schema/facts.txt` from the OpenAPI documents of a Kubernetes source tree.
//!
//! ```text
//! cargo run -p skiff-api --example upstream_facts -- KUBERNETES_DIR > crates/api/src/schema/facts.txt
//! ```
//!
//! Only facts leave the documents: type and field names, list types, keys, strategies; no text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

type Facts = BTreeMap<String, (bool, BTreeMap<String, Vec<String>>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: upstream_facts KUBERNETES_DIR")?;
    let specifications = Path::new(&directory).join("api/openapi-spec");
    let swagger: Value = serde_json::from_slice(&std::fs::read(specifications.join("swagger.json"))?)?;
    let mut facts = Facts::new();
    for (name, definition) in swagger["definitions"].as_object().ok_or("no definitions")? {
        collect_type(&mut facts, name, definition);
    }
    for entry in std::fs::read_dir(specifications.join("v3"))? {
        let document: Value = serde_json::from_slice(&std::fs::read(entry?.path())?)?;
        if let Some(schemas) = document["components"]["schemas"].as_object() {
            collect_key_defaults(&mut facts, schemas);
        }
    }
    let mut out = String::from("# Written by the example upstream_facts; the format is described in facts.rs.\n");
    for (name, (atomic, fields)) in &facts {
        out += &format!("{name}{}\n", if *atomic { " atomic" } else { "" });
        for (field, tokens) in fields {
            out += &format!(" {field} {}\n", tokens.join(" "));
        }
    }
    use std::io::Write as _;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(())
}

fn collect_type(facts: &mut Facts, name: &str, definition: &Value) {
    if definition["x-kubernetes-map-type"] == "atomic" {
        facts.entry(name.to_owned()).or_default().0 = true;
    }
    for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
        let text = |key: &str| schema[key].as_str();
        let mut tokens = Vec::new();
        if let Some(list_type) = text("x-kubernetes-list-type") {
            let keys: Vec<_> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let keys = if keys.is_empty() { String::new() } else { format!(":{}", keys.join(",")) };
            tokens.push(format!("list={list_type}{keys}"));
        }
        for (key, token) in [
            ("x-kubernetes-map-type", "map"),
            ("x-kubernetes-patch-strategy", "patch"),
            ("x-kubernetes-patch-merge-key", "key"),
        ] {
            tokens.extend(text(key).map(|value| format!("{token}={value}")));
        }
        if !tokens.is_empty() {
            facts.entry(name.to_owned()).or_default().1.insert(field.clone(), tokens);
        }
    }
}

/// The defaults of those fields that identify the items of a list: an item without the field has that key.
fn collect_key_defaults(facts: &mut Facts, schemas: &serde_json::Map<String, Value>) {
    let mut keyed = BTreeSet::new();
    for definition in schemas.values() {
        for schema in definition["properties"].as_object().into_iter().flat_map(|p| p.values()) {
            let item = &schema["items"];
            let item = item["$ref"].as_str().or_else(|| item["allOf"][0]["$ref"].as_str());
            for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                if let (Some(item), Some(key)) = (item.and_then(|i| i.rsplit('/').next()), key.as_str()) {
                    keyed.insert((item.to_owned(), key.to_owned()));
                }
            }
        }
    }
    for (item, key) in keyed {
        let default = schemas.get(&item).and_then(|s| s["properties"][&key]["default"].as_str());
        if let Some(default) = default.filter(|d| !d.is_empty()) {
            let tokens = facts.entry(item).or_default().1.entry(key).or_default();
            let token = format!("default={default}");
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
}
