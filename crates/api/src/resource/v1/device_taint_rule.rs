//! DeviceTaintRules.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{get, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Key", "string"),
        Column::new("Value", "string"),
        Column::new("Effect", "string"),
        Column::new("TimeAdded", "string"),
        Column::AGE,
    ],
    row,
    ..Hooks::GENERIC
};

fn row(rule: &Value, now: Timestamp) -> Vec<Value> {
    let taint = get(get(rule, "spec"), "taint");
    let added = get(taint, "timeAdded");
    vec![
        name(rule).into(),
        text(taint, "key").into(),
        text(taint, "value").into(),
        text(taint, "effect").into(),
        if added.is_null() { "".into() } else { table::since(added, now).into() },
        table::age(rule, now),
    ]
}
