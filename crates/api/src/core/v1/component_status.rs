//! ComponentStatuses: read only, and deprecated.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{items, name, text};
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Status", "string"),
        Column::new("Message", "string"),
        Column::new("Error", "string"),
    ],
    row,
    ..Hooks::PLAIN
};

fn row(component: &Value, _: Timestamp) -> Vec<Value> {
    let healthy = items(component, "conditions").iter().find(|c| text(c, "type") == "Healthy");
    let status = match healthy.map(|c| text(c, "status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let part = |key| healthy.map(|c| text(c, key)).unwrap_or_default();
    vec![name(component).into(), status.into(), part("message").into(), part("error").into()]
}
