//! VolumeAttributesClasses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks =
    Hooks { columns: &[Column::NAME, Column::new("DriverName", "string"), Column::AGE], row, ..Hooks::PLAIN };

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(class).into(), text(class, "driverName").into(), table::age(class, now)]
}
