//! Reading and changing an object that is a JSON value: only what every kind shares, the metadata.

use jiff::Timestamp;
use serde_json::{Map, Value};

pub(crate) fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The metadata, made when it is missing. A value that is not an object becomes one: the decoder refuses those before
/// they come here.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_at(object, "metadata")
}

/// The map under `field`, made when it is missing or something else.
pub(crate) fn map_at<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = object.as_object_mut().expect("made an object above").entry(field).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

/// A string in the metadata; empty when absent.
pub(crate) fn meta_str<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

pub(crate) fn name(object: &Value) -> &str {
    meta_str(object, "name")
}

pub(crate) fn set_or_remove(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(v) if !v.is_null() => {
            map.insert(field.to_owned(), v);
        }
        _ => {
            map.remove(field);
        }
    }
}

/// Takes a metadata field from `old`, whatever `new` says.
pub(crate) fn keep_meta(new: &mut Value, old: &Value, field: &str) {
    let kept = metadata(old).and_then(|m| m.get(field)).cloned();
    set_or_remove(metadata_mut(new), field, kept);
}

/// Takes a top-level field from `old`, whatever `new` says.
pub(crate) fn keep(new: &mut Value, old: &Value, field: &str) {
    if let Some(map) = new.as_object_mut() {
        set_or_remove(map, field, old.get(field).cloned());
    }
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    !meta_str(object, "deletionTimestamp").is_empty()
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object).and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// RFC 3339 in whole seconds, as `metav1.Time` is written.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
