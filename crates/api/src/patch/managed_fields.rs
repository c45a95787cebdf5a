//! `metadata.managedFields`: who wrote which field, tracked on every write.
//!
//! Creates and updates are here; server-side apply is in [`super::apply`]. Every write of every object comes through
//! [`update`]: it looks at each value once, and touches only the branches that changed.

use serde_json::{Map, Value, json};

use super::{
    fields::{self, Fields},
    structured::{Delta, compare},
};
use crate::{meta, schema::Schema};

/// The most entries of operation `Update`; at the limit the oldest are merged into [`ANCIENT_CHANGES`].
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// Upstream's name for the manager of what was merged.
pub const ANCIENT_CHANGES: &str = "ancient-changes";
/// The longest name of a manager that is taken from a `User-Agent`.
pub const MANAGER_LENGTH_MAX: usize = 128;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// See [`manager_name`].
    pub manager: &'a str,
    /// The version that the client speaks: `apps/v1`.
    pub api_version: &'a str,
    /// `status`, …; empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, to the second, in UTC.
    pub now: &'a str,
}

/// The `fieldManager` parameter, or else the product of the `User-Agent` (what is before the `/`), without what
/// cannot be printed.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let product = user_agent.split('/').next().unwrap_or("");
    let mut name = String::new();
    for c in product.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MANAGER_LENGTH_MAX {
            break;
        }
        name.push(c);
    }
    name
}

/// Records a create (`old` is `None`) or an update in `new`: the writer owns what it changed, and nobody else does.
///
/// To be called with the object as it will be stored, after defaults and after what the write may not touch was
/// taken from `old`, and not after [`super::apply::apply`]. A client may send `metadata.managedFields` of its own
/// (not through a subresource); `[{}]` clears it, and nothing is tracked until somebody applies.
pub fn update(schema: &Schema, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let sent = meta::metadata_mut(new).remove("managedFields");
    let stored = old.and_then(|o| o.get("metadata")?.get("managedFields"));
    let mut entries = if writer.subresource.is_empty() { chosen(sent, stored) } else { unless_sent(sent, stored) };
    // An object that was cleared, or is older than the tracking, is tracked once it is applied.
    if entries.is_empty() && old.is_some() {
        return;
    }
    let delta = compare(schema, old, new);
    if !delta.is_empty() {
        record(&mut entries, delta, writer);
    }
    set(new, entries);
}

/// What the client sent, if it is something, or else what is stored.
fn chosen(sent: Option<Value>, stored: Option<&Value>) -> Vec<Value> {
    match sent {
        Some(Value::Array(sent)) if is_reset(&sent) => Vec::new(),
        Some(Value::Array(sent)) if sent.iter().all(is_valid) => sent,
        _ => entries(stored),
    }
}

/// What is stored, whatever was sent; mostly they are the same, and then nothing is copied.
fn unless_sent(sent: Option<Value>, stored: Option<&Value>) -> Vec<Value> {
    match sent {
        Some(Value::Array(sent)) if stored.and_then(Value::as_array) == Some(&sent) && sent.iter().all(is_valid) => {
            sent
        }
        _ => entries(stored),
    }
}

/// `[]` and `[{}]`.
fn is_reset(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [one] => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Stored entries; one that cannot be understood makes all of them nothing.
pub(super) fn entries(stored: Option<&Value>) -> Vec<Value> {
    match stored.and_then(Value::as_array) {
        Some(all) if all.iter().all(is_valid) => all.clone(),
        _ => Vec::new(),
    }
}

fn is_valid(entry: &Value) -> bool {
    matches!(text(entry, "operation"), "Apply" | "Update")
        && !text(entry, "apiVersion").is_empty()
        && text(entry, "fieldsType") == "FieldsV1"
        && entry.get("fieldsV1").is_none_or(|f| f.is_object() || f.is_null())
}

pub(super) fn text<'e>(entry: &'e Value, field: &str) -> &'e str {
    entry.get(field).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn fields(entry: &Value) -> Option<&Fields> {
    entry.get("fieldsV1").and_then(Value::as_object)
}

pub(super) fn fields_mut(entry: &mut Value) -> Option<&mut Fields> {
    entry.get_mut("fieldsV1").and_then(Value::as_object_mut)
}

fn is_update_of(entry: &Value, writer: &Writer<'_>) -> bool {
    text(entry, "operation") == "Update"
        && text(entry, "manager") == writer.manager
        && text(entry, "apiVersion") == writer.api_version
        && text(entry, "subresource") == writer.subresource
}

/// A write with operation `Update`.
pub(super) fn record(entries: &mut Vec<Value>, delta: Delta, writer: &Writer<'_>) {
    take_away(entries, &delta);
    let Some(changed) = delta.changed else { return };
    match entries.iter_mut().find(|entry| is_update_of(entry, writer)) {
        Some(entry) => {
            entry["time"] = writer.now.into();
            match fields_mut(entry) {
                Some(own) => fields::union(own, &changed),
                None => entry["fieldsV1"] = Value::Object(changed),
            }
        }
        None => entries.push(entry(writer, "Update", changed)),
    }
    cap(entries);
}

pub(super) fn entry(writer: &Writer<'_>, operation: &str, fields: Fields) -> Value {
    let mut entry = json!({
        "apiVersion": writer.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": null,
        "manager": writer.manager,
        "operation": operation,
        "time": writer.now,
    });
    entry["fieldsV1"] = Value::Object(fields);
    if !writer.subresource.is_empty() {
        entry["subresource"] = writer.subresource.into();
    }
    entry
}

/// What was changed or removed is nobody's any more. Who owns nothing has no entry; an entry that had nothing to
/// begin with goes too.
pub(super) fn take_away(entries: &mut Vec<Value>, delta: &Delta) {
    entries.retain_mut(|entry| {
        let Some(own) = fields_mut(entry) else { return false };
        for side in [&delta.changed, &delta.removed].into_iter().flatten() {
            fields::subtract(own, side);
        }
        !own.is_empty()
    });
}

/// Merges the oldest updaters of the same version until there are few enough.
fn cap(entries: &mut Vec<Value>) {
    let is_update = |entry: &Value| text(entry, "operation") == "Update";
    let mut over = entries.iter().filter(|e| is_update(e)).count().saturating_sub(UPDATE_MANAGERS_MAX);
    if over == 0 {
        return;
    }
    sort(entries);
    // The first of each version becomes the bucket, once a second one goes into it.
    let mut firsts: Vec<usize> = Vec::new();
    let mut gone = Vec::new();
    for at in 0..entries.len() {
        if over == 0 {
            break;
        }
        if !is_update(&entries[at]) {
            continue;
        }
        let version = text(&entries[at], "apiVersion");
        let Some(&first) = firsts.iter().find(|first| text(&entries[**first], "apiVersion") == version) else {
            firsts.push(at);
            continue;
        };
        let merged = std::mem::take(&mut entries[at]);
        let bucket = &mut entries[first];
        bucket["manager"] = ANCIENT_CHANGES.into();
        bucket["time"] = merged["time"].clone();
        if let Some(bucket) = bucket.as_object_mut() {
            bucket.remove("subresource");
        }
        if let (Some(bucket), Some(merged)) = (fields_mut(bucket), fields(&merged)) {
            fields::union(bucket, merged);
        }
        gone.push(at);
        over -= 1;
    }
    let mut at = 0;
    entries.retain(|_| (!gone.contains(&at), at += 1).0);
}

fn sort(entries: &mut [Value]) {
    let key = |entry: &Value| {
        ["operation", "time", "manager", "apiVersion", "subresource"].map(|field| text(entry, field).to_owned())
    };
    let ordered = entries.windows(2).all(|pair| {
        let fields = ["operation", "time", "manager", "apiVersion", "subresource"];
        let order = |f: &&str| text(&pair[0], f).cmp(text(&pair[1], f));
        fields.iter().map(order).find(|o| o.is_ne()).is_none_or(std::cmp::Ordering::is_lt)
    });
    if !ordered {
        entries.sort_by_cached_key(key);
    }
}

/// Writes the entries into an object, in upstream's order.
pub(super) fn set(object: &mut Value, mut entries: Vec<Value>) {
    if entries.is_empty() {
        meta::metadata_mut(object).remove("managedFields");
        return;
    }
    sort(&mut entries);
    meta::metadata_mut(object).insert("managedFields".to_owned(), Value::Array(entries));
}
