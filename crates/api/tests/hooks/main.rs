//! The hooks of every kind, from manifests: what defaulting adds, what validation says, what a table shows.

#![allow(clippy::unwrap_used)]

mod core;
mod every_kind;
mod others;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::{Hooks, kinds};

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub fn hooks_of(object: &Value) -> &'static Hooks {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap();
    kinds::find_kind(group, version, kind).unwrap_or_else(|| panic!("no kind {api_version} {kind}")).hooks
}

/// As the pipeline makes it ready for storing: defaults, then what a create sets.
pub fn created(mut object: Value) -> Value {
    let hooks = hooks_of(&object);
    (hooks.default)(&mut object);
    (hooks.prepare_create)(&mut object);
    object
}

/// What validation says of a new object, a line for each error.
pub fn errors(object: Value) -> Vec<String> {
    let hooks = hooks_of(&object);
    (hooks.validate)(&created(object)).iter().map(ToString::to_string).collect()
}

/// What validation says of an update.
pub fn update_errors(old: Value, new: Value) -> Vec<String> {
    let hooks = hooks_of(&old);
    let (old, mut new) = (created(old), new);
    (hooks.default)(&mut new);
    (hooks.prepare_update)(&mut new, &old);
    (hooks.validate_update)(&new, &old).iter().map(ToString::to_string).collect()
}

/// The cells of the row, separated by ` | `.
pub fn row(object: &Value) -> String {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let cells = (hooks_of(object).row)(object, now);
    cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect::<Vec<_>>().join(" | ")
}

/// What is in `after` and not, or differently, in `before`: one `path: value` line each.
pub fn added(before: &Value, after: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(String::new(), before, after, &mut out);
    out
}

fn walk(path: String, before: &Value, after: &Value, out: &mut Vec<String>) {
    match (before, after) {
        (_, Value::Object(map)) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(path, before.get(key).unwrap_or(&Value::Null), value, out);
            }
        }
        (_, Value::Array(list)) if !list.is_empty() => {
            for (i, value) in list.iter().enumerate() {
                walk(format!("{path}[{i}]"), before.get(i).unwrap_or(&Value::Null), value, out);
            }
        }
        _ if before != after => out.push(format!("{path}: {after}")),
        _ => {}
    }
}

/// A pod of one container, with more of the spec and of the container.
pub fn pod(spec: Value, container: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    merge(&mut pod["spec"], spec);
    if let Some(first) = pod["spec"]["containers"].get_mut(0) {
        merge(first, container);
    }
    pod
}

pub fn merge(into: &mut Value, from: Value) {
    for (key, value) in from.as_object().cloned().unwrap_or_default() {
        into[key] = value;
    }
}
