//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

use crate::Status;

/// Null removes, objects merge, everything else replaces.
///
/// # Errors
/// 400 for a patch that is not an object: it would replace the object as a whole.
pub fn apply(patch: Value, target: &mut Value) -> Result<(), Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    merge(patch, target);
    Ok(())
}

fn merge(patch: Value, target: &mut Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            // Also where there is nothing yet: the nulls inside must go.
            merge(value, target.entry(key).or_insert(Value::Null));
        }
    }
}
