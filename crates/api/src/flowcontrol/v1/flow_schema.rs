//! FlowSchemas.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{default_nonzero, drop_status, get, items, keep_status, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("PriorityLevel", "string"),
        Column::new("MatchingPrecedence", "string"),
        Column::new("DistinguisherMethod", "string"),
        Column::AGE,
        Column::new("MissingPL", "string"),
    ],
    row,
    default,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::GENERIC
};

fn default(schema: &mut Value) {
    if let Some(spec) = object(schema, "spec") {
        default_nonzero(spec, "matchingPrecedence", 1000);
    }
}

fn row(schema: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(schema, "spec");
    let dangling = items(get(schema, "status"), "conditions").iter().find(|c| text(c, "type") == "Dangling");
    vec![
        name(schema).into(),
        text(get(spec, "priorityLevelConfiguration"), "name").into(),
        table::count(spec, "matchingPrecedence"),
        table::or_none(text(get(spec, "distinguisherMethod"), "type")),
        table::age(schema, now),
        dangling.map(|c| text(c, "status")).unwrap_or("?").into(),
    ]
}
