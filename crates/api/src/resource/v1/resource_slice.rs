//! ResourceSlices.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{get, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Node", "string"),
        Column::new("Driver", "string"),
        Column::new("Pool", "string"),
        Column::AGE,
    ],
    row,
    fields: |s| {
        let spec = get(s, "spec");
        vec![("spec.nodeName", text(spec, "nodeName").to_owned()), ("spec.driver", text(spec, "driver").to_owned())]
    },
    field_labels: &["spec.nodeName", "spec.driver"],
    ..Hooks::GENERIC
};

fn row(slice: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(slice, "spec");
    vec![
        name(slice).into(),
        text(spec, "nodeName").into(),
        text(spec, "driver").into(),
        text(get(spec, "pool"), "name").into(),
        table::age(slice, now),
    ]
}
