//! CustomResourceDefinitions, as objects.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, keep_status, name};
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Created At", "date")],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::GENERIC
};

fn row(definition: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(definition).into(), get(get(definition, "metadata"), "creationTimestamp").clone()]
}
