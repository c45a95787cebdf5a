//! ControllerRevisions: snapshots of a workload's template, which may not change.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors};
use crate::object::{get, has, items, name, same, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::new("Controller", "string").about("The workload that it is of."),
        Column::new("Revision", "string").about("Its place in the history."),
        Column::AGE,
    ],
    row,
    ..Hooks::PLAIN
};

fn validate(revision: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if let Some(n) = get(revision, "revision").as_i64().filter(|n| *n < 0) {
        out.push(FieldError::invalid("revision", n, super::workload::NOT_NEGATIVE));
    }
    if !has(revision, "data") {
        out.push(FieldError::required("data", "data is mandatory"));
    } else if !get(revision, "data").is_object() {
        out.push(FieldError::required("data", "data must be a valid JSON object"));
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if !same(get(new, "data"), get(old, "data")) {
        out.push(FieldError::immutable("data", get(new, "data").clone()));
    }
    out
}

fn row(revision: &Value, now: Timestamp) -> Vec<Value> {
    let owners = items(get(revision, "metadata"), "ownerReferences");
    let controller = owners.iter().find(|o| get(o, "controller").as_bool() == Some(true)).map(|o| {
        let kind = text(o, "kind").to_lowercase();
        match text(o, "apiVersion").split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", text(o, "name")),
            None => format!("{kind}/{}", text(o, "name")),
        }
    });
    vec![
        name(revision).into(),
        table::or_none(&controller.unwrap_or_default()),
        table::count(revision, "revision"),
        table::age(revision, now),
    ]
}
