//! APIServices: groups that other servers answer for.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, items, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Service", "string").about("Who answers."),
        Column::new("Available", "string").about("Whether it does."),
        Column::AGE,
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::PLAIN
};

fn row(service: &Value, now: Timestamp) -> Vec<Value> {
    let target = get(get(service, "spec"), "service");
    let who = if target.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(target, "namespace"), text(target, "name"))
    };
    let available = items(get(service, "status"), "conditions").iter().find(|c| text(c, "type") == "Available");
    let shown = match available.map(|c| (text(c, "status"), text(c, "reason"))) {
        None => "Unknown".to_owned(),
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
    };
    vec![name(service).into(), who.into(), shown.into(), table::age(service, now)]
}
