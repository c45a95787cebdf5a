//! `ObjectMeta`: accessors over objects, and the rules that every kind shares.
//!
//! The wording is upstream's. Nothing here reads a clock or draws randomness: the pipeline passes both in.

use serde_json::{Map, Value, json};

use crate::names;
use crate::{FieldError, FieldErrors, Kind, Status};

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
/// Empty where the client sent none.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
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
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
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
/// The one owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|r| r.get("controller") == Some(&Value::Bool(true)))
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

/// Sets `metadata.<field>`, or removes it if `value` is null or an empty string.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    let metadata = metadata_mut(object);
    if value.is_null() || value == "" {
        metadata.remove(field);
    } else {
        metadata.insert(field.to_owned(), value);
    }
}

/// What the pipeline knows about a create.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// From the path; empty for what is cluster-wide.
    pub namespace: &'a str,
    pub uid: &'a str,
    /// RFC 3339, to the second.
    pub now: &'a str,
    /// Chooses the suffix of a generated name.
    pub random: u64,
}

/// Fills in what the server owns and drops what a client may not set on create; names the object when it only has a
/// `generateName`.
pub fn prepare_create(object: &mut Value, kind: &Kind, creation: &Creation<'_>) -> Result<(), Status> {
    check_namespace(object, kind, creation.namespace)?;
    if name(object).is_empty() && !generate_name(object).is_empty() {
        let generated = generated_name(generate_name(object), creation.random);
        set(object, "name", generated);
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
        set(object, field, Value::Null);
    }
    if kind.namespaced {
        set(object, "namespace", creation.namespace);
    }
    set(object, "uid", creation.uid);
    set(object, "creationTimestamp", creation.now);
    if kind.hooks.generation_of.is_some_and(|of| !of(object).is_null()) {
        set(object, "generation", 1);
    }
    Ok(())
}

/// Carries over from `old` what a client may leave out. What it changed nevertheless is [`validate_update`]'s.
/// `resourceVersion` stays as the client sent it; the generation is the old one.
pub fn prepare_update(new: &mut Value, old: &Value, kind: &Kind, path: (&str, &str)) -> Result<(), Status> {
    let (path_namespace, path_name) = path;
    check_namespace(new, kind, path_namespace)?;
    let sent = name(new);
    if sent.is_empty() {
        set(new, "name", path_name);
    } else if sent != path_name {
        return Err(Status::bad_request(format!(
            "the name of the object ({sent}) does not match the name on the URL ({path_name})"
        )));
    }
    if kind.namespaced {
        set(new, "namespace", path_namespace);
    }
    if uid(new).is_empty() {
        set(new, "uid", uid(old));
    } else if uid(new) != uid(old) {
        let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", uid(new), uid(old));
        return Err(Status::conflict(kind, path_name, &why));
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"] {
        if get(new, field).is_null() {
            set(new, field, get(old, field).clone());
        }
    }
    set(new, "generation", get(old, "generation").clone());
    set(new, "selfLink", Value::Null);
    Ok(())
}

/// 400 when the object names another namespace than the path.
fn check_namespace(object: &Value, kind: &Kind, path_namespace: &str) -> Result<(), Status> {
    let sent = namespace(object);
    if kind.namespaced && !sent.is_empty() && sent != path_namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
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

/// An owner reference to `owner`, as controllers write it.
pub fn controller_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

fn immutable(field: &str, value: &Value) -> FieldError {
    FieldError::invalid(format!("metadata.{field}"), value.clone(), "field is immutable")
}

fn append(out: &mut FieldErrors, field: &str, value: &str, messages: Vec<String>) {
    out.extend(messages.into_iter().map(|m| FieldError::invalid(field, value, m)));
}

#[cfg(test)]
mod tests;
