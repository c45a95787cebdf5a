//! ResourceClaims.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, has, items, keep_status, name};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("State", "string"), Column::AGE],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::PLAIN
};

fn row(claim: &Value, now: Timestamp) -> Vec<Value> {
    let status = get(claim, "status");
    let deleted = has(get(claim, "metadata"), "deletionTimestamp");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if has(status, "allocation") {
        states.push("allocated");
        if !items(status, "reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![name(claim).into(), states.join(",").into(), table::age(claim, now)]
}
