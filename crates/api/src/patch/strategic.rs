//! Strategic merge patch: a merge patch that knows from the schema which lists merge and by which key.
//!
//! Directives: `$patch: replace|delete` in an object or in an item of a merging list, `$retainKeys: [field…]`,
//! `$setElementOrder/LIST: [item…]`, `$deleteFromPrimitiveList/LIST: [item…]`. Order of a merged list: what the patch
//! (or `$setElementOrder`) lists comes in its order; other items stay before those that they were before.

use serde_json::{Map, Value};

use super::unprocessable;
use crate::{Status, schema::Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

/// Deeper patches are refused: they come from a client.
const DEPTH_MAX: usize = 128;

/// What a custom resource accepts.
const WITHOUT_STRATEGIC: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// # Errors
/// 415 for custom resources (their schemas have no merge keys), 400 for a malformed patch, 422 for lists of lists.
pub fn apply(schema: &Schema, patch: Value, target: &mut Value) -> Result<(), Status> {
    if schema.definition().is_none() {
        return Err(Status::unsupported_media_type(WITHOUT_STRATEGIC));
    }
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    merge_object(Some(schema), target, patch, 0)
}

fn merge_object(
    schema: Option<&Schema>,
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    depth: usize,
) -> Result<(), Status> {
    if depth > DEPTH_MAX {
        return Err(Status::bad_request(format!("the patch is deeper than {DEPTH_MAX} levels")));
    }
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return replace_object(&directive, target, patch);
    }
    retain_keys(target, &mut patch)?;
    order_lists(schema, target, &mut patch, depth)?;
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
            delete_from_list(target, list, &value)?;
            continue;
        }
        if value.is_null() {
            target.remove(&key);
            continue;
        }
        let field = schema.and_then(|s| s.field(&key));
        match (target.get_mut(&key), value) {
            (Some(Value::Object(_)), Value::Object(value)) if field.is_some_and(|f| f.patch_strategy().replace) => {
                target.insert(key, Value::Object(value));
            }
            (Some(Value::Object(old)), Value::Object(value)) => merge_object(field, old, value, depth + 1)?,
            (Some(Value::Array(old)), Value::Array(value)) => {
                *old = merge_list(field, std::mem::take(old), value, depth)?;
            }
            (_, value) => {
                if let Some(value) = without_directives(value) {
                    target.insert(key, value);
                } else {
                    target.remove(&key);
                }
            }
        }
    }
    Ok(())
}

fn replace_object(directive: &Value, target: &mut Map<String, Value>, patch: Map<String, Value>) -> Result<(), Status> {
    match directive.as_str() {
        Some("replace") => *target = patch,
        Some("delete") => target.clear(),
        _ => return Err(unknown_directive(directive, &patch)),
    }
    Ok(())
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> Status {
    let directive = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    Status::bad_request(format!("unknown patch type: {directive} in map: {}", Value::Object(patch.clone())))
}

/// `$retainKeys` names all the fields that the object may have afterwards.
fn retain_keys(target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Status> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Status::bad_request("invalid patch format of retainKeys");
    let keys: Vec<&str> = keys.as_array().ok_or_else(malformed)?.iter().filter_map(Value::as_str).collect();
    let is_directive = |key: &str| key.starts_with(SET_ELEMENT_ORDER) || key.starts_with(DELETE_FROM_PRIMITIVE_LIST);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !keys.contains(&key.as_str())) {
        return Err(malformed());
    }
    target.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

/// `$setElementOrder/LIST`: merges the list here, and brings the result into the order that is asked for.
fn order_lists(
    schema: Option<&Schema>,
    target: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Status> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let malformed = || Status::bad_request("invalid patch format of setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(malformed()) };
        let key = &directive[SET_ELEMENT_ORDER.len()..];
        let field = schema.and_then(|s| s.field(key));
        let merge_key = field.and_then(Schema::patch_merge_key);
        let list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(malformed()),
        };
        // A null in the patch removes the list, as without the directive.
        if patch.get(key).is_some_and(Value::is_null) {
            continue;
        }
        let (old, new) = (list(target.get(key).cloned())?, list(patch.remove(key))?);
        let server_order = ids(old.as_deref().unwrap_or_default(), merge_key)?;
        let order = ids(&order, merge_key)?;
        check_order(new.as_deref().unwrap_or_default(), &order, merge_key)?;
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) => merge_list(field, old, new, depth)?,
        };
        target.insert(key.to_owned(), Value::Array(in_order(merged, &order, &server_order, merge_key)?));
    }
    Ok(())
}

/// The items of the patch come in the order that the directive asks for, and none is missing there.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), Status> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let id = id(item, merge_key)?;
        if !rest.any(|o| o == id) {
            return Err(Status::bad_request(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::Array(patch.to_vec()),
                Value::Array(order.to_vec())
            )));
        }
    }
    Ok(())
}

fn delete_from_list(target: &mut Map<String, Value>, list: &str, items: &Value) -> Result<(), Status> {
    let Some(items) = items.as_array() else {
        return Err(Status::bad_request("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(list)) = target.get_mut(list) {
        list.retain(|item| !items.contains(item));
    }
    Ok(())
}

fn merge_list(field: Option<&Schema>, old: Vec<Value>, patch: Vec<Value>, depth: usize) -> Result<Vec<Value>, Status> {
    let Some(field) = field.filter(|f| f.patch_strategy().merge) else { return Ok(patch) };
    if old.iter().chain(&patch).any(Value::is_array) {
        return Err(unprocessable("lists of lists are not supported"));
    }
    let objects = old.iter().chain(&patch).filter(|item| item.is_object()).count();
    if objects == 0 {
        let (order, server_order) = (patch.clone(), old.clone());
        let mut merged = old;
        merged.extend(patch);
        let mut seen: Vec<Value> = Vec::new();
        merged.retain(|item| !seen.contains(item) && (seen.push(item.clone()), true).1);
        return in_order(merged, &order, &server_order, None);
    }
    if objects != old.len() + patch.len() {
        return Err(Status::bad_request("list element types are not identical"));
    }
    let Some(merge_key) = field.patch_merge_key() else {
        return Err(Status::bad_request("cannot merge lists without merge key"));
    };
    merge_items(field.items(), merge_key, old, patch, depth)
}

/// A list of objects, by their merge key.
fn merge_items(
    schema: Option<&Schema>,
    merge_key: &str,
    old: Vec<Value>,
    patch: Vec<Value>,
    depth: usize,
) -> Result<Vec<Value>, Status> {
    let mut merged = old;
    let mut items: Vec<Map<String, Value>> = Vec::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(mut item) = item else { continue };
        match item.remove(DIRECTIVE) {
            None => items.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let Some(id) = item.get(merge_key) else { return Err(no_merge_key(&item.into(), merge_key)) };
                    merged.retain(|old| old.get(merge_key) != Some(id));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(Status::bad_request("merging lists cannot yet be specified in the patch"));
                }
                _ => return Err(unknown_directive(&directive, &item)),
            },
        }
    }
    if replace {
        return Ok(items.into_iter().map(Value::Object).collect());
    }
    let server_order = ids(&merged, Some(merge_key))?;
    let mut order = Vec::with_capacity(items.len());
    for item in items {
        let Some(id) = item.get(merge_key).cloned() else { return Err(no_merge_key(&item.into(), merge_key)) };
        match merged.iter_mut().find(|old| old.get(merge_key) == Some(&id)) {
            Some(Value::Object(old)) => merge_object(schema, old, item, depth + 1)?,
            _ => merged.extend(without_directives(Value::Object(item))),
        }
        order.push(id);
    }
    in_order(merged, &order, &server_order, Some(merge_key))
}

fn no_merge_key(item: &Value, merge_key: &str) -> Status {
    Status::bad_request(format!("map: {item} does not contain declared merge key: {merge_key}"))
}

/// What an item is known by: the value of its merge key, or itself.
fn id<'a>(item: &'a Value, merge_key: Option<&str>) -> Result<&'a Value, Status> {
    match merge_key {
        None => Ok(item),
        Some(key) => item.get(key).ok_or_else(|| no_merge_key(item, key)),
    }
}

fn ids(items: &[Value], merge_key: Option<&str>) -> Result<Vec<Value>, Status> {
    items.iter().map(|item| id(item, merge_key).cloned()).collect()
}

/// Items that `order` names come in its order. The others keep theirs, and each stays before a named one that it was
/// before on the server.
fn in_order(
    items: Vec<Value>,
    order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let mut placed = Vec::with_capacity(items.len());
    for item in items {
        let id = id(&item, merge_key)?;
        let at = |list: &[Value]| list.iter().position(|o| o == id);
        placed.push((at(order), at(server_order), item));
    }
    let (mut named, mut others): (Vec<_>, Vec<_>) = placed.into_iter().partition(|(at, _, _)| at.is_some());
    named.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(_, server, _)| *server);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, server, item) in named {
        while let Some((_, _, other)) = others.next_if(|(_, o, _)| matches!((*o, server), (Some(o), Some(s)) if o < s))
        {
            out.push(other);
        }
        out.push(item);
    }
    out.extend(others.map(|(_, _, other)| other));
    Ok(out)
}

/// What a patch leaves where there was nothing: no nulls, no directives. `None`: the value was a directive itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
            Some(Value::Object(kept.filter_map(|(key, value)| Some((key, without_directives(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(SET_ELEMENT_ORDER) || key.starts_with(DELETE_FROM_PRIMITIVE_LIST)
}
