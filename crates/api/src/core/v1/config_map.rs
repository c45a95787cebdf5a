//! ConfigMaps.

use jiff::Timestamp;
use serde_json::Value;

use super::secret::decoded_length;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{entries, flag, get, has, name, same};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    validate,
    validate_update,
    columns: &[Column::NAME, Column::new("Data", "string").about("How many keys it has."), Column::AGE],
    row,
    ..Hooks::PLAIN
};

/// The values of one ConfigMap or Secret together, in bytes.
pub(super) const SIZE_MAX: usize = 1024 * 1024;

fn validate(map: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let mut size = 0;
    for (key, value) in entries(map, "data") {
        let data = Path::new("data");
        invalid_each(&mut out, &data.key(key), key, names::config_key(key));
        if has(get(map, "binaryData"), key) {
            out.push(FieldError::invalid(&data.key(key), key, "duplicate of key present in binaryData"));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(map, "binaryData") {
        invalid_each(&mut out, &Path::new("binaryData").key(key), key, names::config_key(key));
        size += decoded_length(value.as_str().unwrap_or_default());
    }
    if size > SIZE_MAX {
        out.push(FieldError::too_long("", SIZE_MAX));
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    immutable(new, old, &["data", "binaryData"])
}

/// What may not change once `immutable` is set.
pub(super) fn immutable(new: &Value, old: &Value, data: &[&str]) -> FieldErrors {
    const MESSAGE: &str = "field is immutable when `immutable` is set";
    let mut out = Vec::new();
    if flag(old, "immutable") {
        if !flag(new, "immutable") {
            out.push(FieldError::forbidden("immutable", MESSAGE));
        }
        for key in data {
            if !same(get(new, key), get(old, key)) {
                out.push(FieldError::forbidden(*key, MESSAGE));
            }
        }
    }
    out
}

fn row(map: &Value, now: Timestamp) -> Vec<Value> {
    let keys = entries(map, "data").count() + entries(map, "binaryData").count();
    vec![name(map).into(), keys.into(), table::age(map, now)]
}
