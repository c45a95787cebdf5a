//! CSINodes.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{get, items, name};
use crate::table::{self, Column};

pub static HOOKS: Hooks =
    Hooks { columns: &[Column::NAME, Column::new("Drivers", "integer"), Column::AGE], row, ..Hooks::PLAIN };

fn row(node: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(node).into(), items(get(node, "spec"), "drivers").len().into(), table::age(node, now)]
}
