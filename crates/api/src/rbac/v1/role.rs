//! Roles.

use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::Hooks;
use crate::field::FieldErrors;
use crate::object::{get, items, name};
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Created At", "date")],
    row,
    validate,
    create_on_update: true,
    ..Hooks::PLAIN
};

fn validate(role: &Value) -> FieldErrors {
    let mut out = Vec::new();
    rules::validate(items(role, "rules"), true, &mut out);
    out
}

fn row(role: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(role).into(), get(get(role, "metadata"), "creationTimestamp").clone()]
}
