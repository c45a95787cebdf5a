//! Sets of fields, in the form that `FieldsV1` has: a tree of JSON objects whose keys are path elements.
//!
//! `f:NAME` is a field, `k:{…}` an item of a keyed list, `v:…` an item of a set, `i:N` an item by index. An empty
//! object is a member of the set; one with children is a member too if one of them is `.`. Working on that form
//! directly, a write touches only the branches of other managers that it changed.

use serde_json::{Map, Value};

/// The children of one node.
pub type Fields = Map<String, Value>;

const SELF: &str = ".";

pub(super) fn leaf() -> Value {
    Value::Object(Map::new())
}

/// Whether the node itself is in the set, and not only something below it.
pub fn is_member(node: &Value) -> bool {
    node.as_object().is_none_or(|children| children.is_empty() || children.contains_key(SELF))
}

fn has_children(node: &Value) -> bool {
    node.as_object().is_some_and(|children| children.keys().any(|key| key != SELF))
}

/// Marks a node as a member, or not. One without children always is.
pub(super) fn set_member(node: &mut Value, member: bool) {
    let keep_mark = member && has_children(node);
    let Value::Object(children) = node else { return };
    if keep_mark {
        children.entry(SELF).or_insert_with(leaf);
    } else {
        children.remove(SELF);
    }
}

/// The node of a field of a field; `None` where there is none.
pub(super) fn child<'f>(fields: &'f Fields, key: &str) -> Option<&'f Fields> {
    fields.get(key).and_then(Value::as_object)
}

pub fn union(into: &mut Fields, other: &Fields) {
    for (key, theirs) in other.iter().filter(|(key, _)| *key != SELF) {
        let Some(mine) = into.get_mut(key) else {
            into.insert(key.clone(), theirs.clone());
            continue;
        };
        let member = is_member(mine) || is_member(theirs);
        if !mine.is_object() {
            *mine = leaf();
        }
        if let (Value::Object(mine), Value::Object(theirs)) = (&mut *mine, theirs) {
            union(mine, theirs);
        }
        set_member(mine, member);
    }
}

/// Takes the members of `other` out, each by itself: what is below a member stays.
pub fn subtract(from: &mut Fields, other: &Fields) {
    for (key, theirs) in other.iter().filter(|(key, _)| *key != SELF) {
        let Some(mine) = from.get_mut(key) else { continue };
        let member = is_member(mine) && !is_member(theirs);
        if let (Value::Object(mine), Value::Object(theirs)) = (&mut *mine, theirs) {
            subtract(mine, theirs);
        }
        if has_children(mine) {
            set_member(mine, member);
        } else if !member {
            from.remove(key);
        }
    }
}

/// The members that are in both.
pub fn intersection(a: &Fields, b: &Fields) -> Fields {
    let mut both = Map::new();
    for (key, theirs) in b.iter().filter(|(key, _)| *key != SELF) {
        let Some(mine) = a.get(key) else { continue };
        let below = match (mine, theirs) {
            (Value::Object(mine), Value::Object(theirs)) => intersection(mine, theirs),
            _ => Map::new(),
        };
        let member = is_member(mine) && is_member(theirs);
        if member || !below.is_empty() {
            let mut node = Value::Object(below);
            set_member(&mut node, member);
            both.insert(key.clone(), node);
        }
    }
    both
}

/// The members as upstream prints paths: `.spec.containers[name="a"].image`.
pub fn paths(fields: &Fields) -> Vec<String> {
    fn walk(fields: &Fields, at: &mut String, out: &mut Vec<String>) {
        for (key, node) in fields.iter().filter(|(key, _)| *key != SELF) {
            let length = at.len();
            push_element(at, key);
            if is_member(node) {
                out.push(at.clone());
            }
            if let Value::Object(children) = node {
                walk(children, at, out);
            }
            at.truncate(length);
        }
    }
    let mut out = Vec::new();
    walk(fields, &mut String::new(), &mut out);
    out
}

fn push_element(path: &mut String, element: &str) {
    match element.split_once(':') {
        Some(("f", name)) => {
            path.push('.');
            path.push_str(name);
        }
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            path.push_str(&format!("[{}]", keys.join(",")));
        }
        Some(("v", value)) => path.push_str(&format!("[={value}]")),
        Some((_, index)) => path.push_str(&format!("[{index}]")),
        None => path.push_str(element),
    }
}
