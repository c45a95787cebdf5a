//! `ObjectMeta`: accessors over objects, and the rules that every kind shares.
//!
//! The wording is upstream's. What the server itself fills in (uid, times, generation) is the pipeline's.

use serde_json::{Map, Value};

use crate::names;
use crate::{FieldError, FieldErrors, Kind};

mod validate;
pub use validate::{name_rule, validate, validate_update};

/// The sum of the lengths of all keys and values of `metadata.annotations`.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
pub const FINALIZER_ORPHAN: &str = "orphan";
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

static NOTHING: Value = Value::Null;

fn get<'a>(object: &'a Value, field: &str) -> &'a Value {
    object.get("metadata").and_then(|m| m.get(field)).unwrap_or(&NOTHING)
}
fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    get(object, field).as_str().unwrap_or("")
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}
/// Empty for what is cluster-wide.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}
pub fn generation(object: &Value) -> i64 {
    get(object, "generation").as_i64().unwrap_or(0)
}
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    get(object, "labels").as_object()
}
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    get(object, "annotations").as_object()
}
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    get(object, "finalizers").as_array().into_iter().flatten().filter_map(Value::as_str)
}
pub fn owner_references(object: &Value) -> &[Value] {
    get(object, "ownerReferences").as_array().map_or(&[], Vec::as_slice)
}
/// The metadata, made an object if it is not one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let slot = field_mut(object, "metadata");
    as_object_mut(slot)
}

fn field_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    as_object_mut(object).entry(field).or_insert(Value::Null)
}

fn as_object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object two lines above"),
    }
}

/// `base` and five characters drawn from `random`; the base is cut so that a label can hold the whole.
pub fn generated_name(base: &str, random: u64) -> String {
    /// No vowels, and nothing that looks like another: no names that read as words.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const SUFFIX: usize = 5;
    let mut cut = base.len().min(names::DNS_LABEL_MAX - SUFFIX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut out = base.get(..cut).unwrap_or("").to_owned();
    let mut left = random;
    for _ in 0..SUFFIX {
        let at = (left % ALPHABET.len() as u64) as usize;
        left /= ALPHABET.len() as u64;
        out.push(char::from(ALPHABET[at]));
    }
    out
}

fn immutable(field: &str, value: &Value) -> FieldError {
    FieldError::invalid(format!("metadata.{field}"), value.clone(), "field is immutable")
}

fn append(out: &mut FieldErrors, field: &str, value: &str, messages: Vec<String>) {
    out.extend(messages.into_iter().map(|m| FieldError::invalid(field, value, m)));
}

#[cfg(test)]
mod tests;
