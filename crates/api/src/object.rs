//! Reading and defaulting untyped objects: what is absent, null or of another type reads as the zero of its type, as
//! in upstream's structs, so that no hook can panic on what a client sent.

use serde_json::{Map, Value};

pub type Object = Map<String, Value>;

static NULL: Value = Value::Null;

/// The member, or null.
pub fn get<'v>(v: &'v Value, key: &str) -> &'v Value {
    v.get(key).unwrap_or(&NULL)
}
/// The value at a path of members, or null.
pub fn at<'v>(v: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(v, |v, key| get(v, key))
}
/// A member that is a string, or the empty string.
pub fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    get(v, key).as_str().unwrap_or_default()
}
/// A member that is a list, or the empty list.
pub fn items<'v>(v: &'v Value, key: &str) -> &'v [Value] {
    get(v, key).as_array().map_or(&[], Vec::as_slice)
}
/// The members of a member that is an object.
pub fn entries<'v>(v: &'v Value, key: &str) -> impl Iterator<Item = (&'v str, &'v Value)> {
    get(v, key).as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}
pub fn int(v: &Value, key: &str) -> Option<i64> {
    get(v, key).as_i64()
}
pub fn flag(v: &Value, key: &str) -> bool {
    get(v, key).as_bool().unwrap_or(false)
}
/// Present and not null.
pub fn has(v: &Value, key: &str) -> bool {
    !get(v, key).is_null()
}
pub fn name(v: &Value) -> &str {
    text(get(v, "metadata"), "name")
}
pub fn annotation<'v>(v: &'v Value, key: &str) -> Option<&'v str> {
    at(v, &["metadata", "annotations", key]).as_str()
}

/// The member as an object, made if it is absent; `None` if it is something else, which the decoder reports.
pub fn object<'v>(v: &'v mut Value, key: &str) -> Option<&'v mut Object> {
    child(v.as_object_mut()?, key)
}
/// As [`object`], of a map.
pub fn child<'v>(map: &'v mut Object, key: &str) -> Option<&'v mut Object> {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    map.get_mut(key).and_then(Value::as_object_mut)
}
/// The member as an object, if it is there.
pub fn existing<'v>(map: &'v mut Object, key: &str) -> Option<&'v mut Object> {
    map.get_mut(key).and_then(Value::as_object_mut)
}
/// The objects of a member that is a list.
pub fn each<'v>(map: &'v mut Object, key: &str) -> impl Iterator<Item = &'v mut Object> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Sets what is absent; an empty string counts as absent.
pub fn default(map: &mut Object, key: &str, value: impl Into<Value>) {
    let unset = match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(_) => false,
    };
    if unset {
        map.insert(key.to_owned(), value.into());
    }
}
/// As [`default`], for numbers whose zero means that they are not set.
pub fn default_nonzero(map: &mut Object, key: &str, value: i64) {
    if map.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 && !map.get(key).is_some_and(Value::is_string) {
        map.insert(key.to_owned(), value.into());
    }
}
pub fn default_object(map: &mut Object, key: &str) {
    let _ = child(map, key);
}

/// Takes a top-level member from the old object, whatever the client sent.
pub fn carry_over(new: &mut Value, old: &Value, key: &str) {
    let Some(new) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(v) => {
            new.insert(key.to_owned(), v.clone());
        }
        None => {
            new.remove(key);
        }
    }
}
/// What an update of the main resource does with `status`.
pub fn keep_status(new: &mut Value, old: &Value) {
    carry_over(new, old, "status");
}
/// What a create does with `status`.
pub fn drop_status(v: &mut Value) {
    if let Some(map) = v.as_object_mut() {
        map.remove("status");
    }
}

/// Equal, where null, absent, and an empty list or map are the same, as after a round trip through upstream's types.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&NULL)))
                && y.iter().all(|(k, v)| x.contains_key(k) || is_empty(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}
fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_empty),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_null_and_empty_are_the_same() {
        for (a, b, expected) in [
            (json!({"a": null}), json!({}), true),
            (json!({"a": []}), json!({"a": {}}), true),
            (json!({"a": {"b": []}}), json!({}), true),
            (json!({"a": 0}), json!({}), false),
            (json!({"a": [1]}), json!({"a": [1, 2]}), false),
            (json!({}), json!({"a": 1}), false),
        ] {
            assert_eq!(same(&a, &b), expected, "{a} {b}");
            assert_eq!(same(&b, &a), expected, "{b} {a}");
        }
    }

    #[test]
    fn wrong_types_read_as_zero_and_are_left_alone() {
        let mut v = json!({"spec": "x", "metadata": 3});
        assert_eq!((name(&v), items(&v, "spec").len(), int(&v, "spec")), ("", 0, None));
        assert!(object(&mut v, "spec").is_none());
        assert_eq!(v["spec"], "x");
    }
}
