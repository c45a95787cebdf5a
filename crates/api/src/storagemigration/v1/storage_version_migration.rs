//! StorageVersionMigrations.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, items, keep_status, name, text};
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Resource", "string"), Column::new("Status", "string")],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    unconditional_update: false,
    ..Hooks::PLAIN
};

fn row(migration: &Value, _: Timestamp) -> Vec<Value> {
    let resource = get(get(migration, "spec"), "resource");
    let shown = match text(resource, "group") {
        "" => text(resource, "resource").to_owned(),
        group => format!("{}.{group}", text(resource, "resource")),
    };
    let conditions = items(get(migration, "status"), "conditions").iter();
    let state = conditions
        .filter(|c| text(c, "status") == "True")
        .map(|c| text(c, "type"))
        .rfind(|t| matches!(*t, "Running" | "Failed" | "Succeeded"));
    vec![name(migration).into(), shown.into(), state.unwrap_or("Unknown").into()]
}
