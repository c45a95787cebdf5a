//! What controllers do to objects in general: own them, adopt and release them, write a status, record an event.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Serialize;
use serde_json::{Map, Value, json};
use skiff_reconcile::{Action, EventType, KindRef, Object, ObjectKey, PlannedEvent, Preconditions};

/// Owner references are written to the API in this form.
pub fn controller_reference<K: Object>(owner: &ObjectMeta) -> Value {
    let kind = KindRef::of::<K>();
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|r| r.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|r| r.uid == uid)
}

pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}
pub fn created(meta: &ObjectMeta) -> Option<Timestamp> {
    meta.creation_timestamp.as_ref().map(|t| t.0)
}

/// A patch of an object's metadata or spec that only holds if the object is still the one that was seen.
pub fn patch<K: Object>(meta: &ObjectMeta, patch: Value) -> Action {
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
    Action::Patch { kind: KindRef::of::<K>(), key: ObjectKey::of(meta), subresource: None, patch, preconditions }
}

pub fn delete<K: Object>(meta: &ObjectMeta, propagation: Option<&'static str>) -> Action {
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
    Action::Delete {
        kind: KindRef::of::<K>(),
        key: ObjectKey::of(meta),
        propagation,
        grace_seconds: None,
        preconditions,
    }
}

/// Makes `Owner` the controller of an object that has none, adding `finalizer` if one is given.
pub fn adopt<K: Object, Owner: Object>(meta: &ObjectMeta, owner: &ObjectMeta, finalizer: Option<&str>) -> Action {
    let mut owners: Vec<Value> = meta.owner_references.iter().flatten().map(|r| json!(r)).collect();
    owners.push(controller_reference::<Owner>(owner));
    let mut body = json!({ "metadata": { "ownerReferences": owners } });
    if let Some(finalizer) = finalizer
        && !has_finalizer(meta, finalizer)
    {
        let finalizers: Vec<&str> = meta.finalizers.iter().flatten().map(String::as_str).chain([finalizer]).collect();
        body["metadata"]["finalizers"] = json!(finalizers);
    }
    patch::<K>(meta, body)
}

/// Lets go of an object that no longer matches the selector.
pub fn release<K: Object>(meta: &ObjectMeta, owner_uid: &str, finalizer: Option<&str>) -> Action {
    let owners: Vec<_> = meta.owner_references.iter().flatten().filter(|r| r.uid != owner_uid).collect();
    let mut body = json!({ "metadata": { "ownerReferences": or_null(owners) } });
    if let Some(finalizer) = finalizer.filter(|f| has_finalizer(meta, f)) {
        body["metadata"]["finalizers"] = without_finalizer(meta, finalizer);
    }
    patch::<K>(meta, body)
}

pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

pub fn remove_finalizer<K: Object>(meta: &ObjectMeta, finalizer: &str) -> Action {
    patch::<K>(meta, json!({ "metadata": { "finalizers": without_finalizer(meta, finalizer) } }))
}

fn without_finalizer(meta: &ObjectMeta, finalizer: &str) -> Value {
    or_null(meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect::<Vec<_>>())
}

/// A merge patch removes an empty list rather than write one.
fn or_null<T: Serialize>(list: Vec<T>) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// How firmly a status write insists on what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The same object: what is written is derived from others and will be derived again.
    Same,
    /// The same version of it: what is written adds to what is there.
    Unchanged,
}

/// The status write that turns `old` into `new`; `None` when they are equal.
pub fn status_patch<K: Object, S: Serialize>(
    meta: &ObjectMeta,
    old: Option<&S>,
    new: &S,
    guard: Guard,
) -> Option<Action> {
    let old = old.map_or_else(|| json!({}), |s| json!(s));
    let difference = merge_difference(&old, &json!(new))?;
    let resource_version = meta.resource_version.clone().filter(|_| guard == Guard::Unchanged);
    Some(Action::Patch {
        kind: KindRef::of::<K>(),
        key: ObjectKey::of(meta),
        subresource: Some("status"),
        patch: json!({ "status": difference }),
        preconditions: Preconditions { uid: meta.uid.clone(), resource_version },
    })
}

/// The JSON merge patch from `old` to `new`; `None` when there is nothing to do.
fn merge_difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(was), Value::Object(is)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut out = Map::new();
    for (field, value) in is {
        match was.get(field) {
            Some(before) => drop(merge_difference(before, value).map(|d| out.insert(field.clone(), d))),
            None => drop(out.insert(field.clone(), value.clone())),
        }
    }
    for field in was.keys().filter(|field| !is.contains_key(*field)) {
        out.insert(field.clone(), Value::Null);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

pub fn event<K: Object>(
    meta: &ObjectMeta,
    event_type: EventType,
    reason: &'static str,
    message: impl Into<String>,
) -> PlannedEvent {
    PlannedEvent {
        kind: KindRef::of::<K>(),
        key: ObjectKey::of(meta),
        uid: uid(meta).to_owned(),
        event_type,
        reason,
        message: message.into(),
    }
}

/// Times in the API have whole seconds: a status must be equal to itself after a round trip.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// From now until `at`, as a requeue; never in the past.
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs()
}

/// The earlier of two requeues.
pub fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_a_merge_patch() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1}), json!({"a": 2, "b": 3}), Some(json!({"a": 2, "b": 3}))),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1}}), Some(json!({"a": {"c": null}}))),
            (json!({"a": [1]}), json!({"a": [1, 2]}), Some(json!({"a": [1, 2]}))),
        ];
        for (old, new, expected) in cases {
            assert_eq!(merge_difference(&old, &new), expected, "{old} → {new}");
        }
    }
}
