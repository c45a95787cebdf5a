//! ServiceCIDRs: where cluster addresses come from.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::core::v1::node::is_cidr;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{drop_status, get, items, keep_status, name};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("CIDRs", "string"), Column::AGE],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    validate,
    ..Hooks::PLAIN
};

fn validate(range: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = Path::new("spec");
    let at = spec.child("cidrs");
    let cidrs = items(get(range, "spec"), "cidrs");
    if cidrs.is_empty() {
        out.push(FieldError::required(&at, "at least one CIDR required"));
    } else if cidrs.len() > 2 {
        out.push(FieldError::invalid(&at, cidrs.to_vec(), "may only hold up to 2 values"));
    }
    for (i, cidr) in cidrs.iter().map(|c| c.as_str().unwrap_or_default()).enumerate() {
        if !is_cidr(cidr) {
            let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid(&at.index(i), cidr, message));
        }
    }
    out
}

fn row(range: &Value, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = items(get(range, "spec"), "cidrs").iter().filter_map(Value::as_str).collect();
    vec![name(range).into(), cidrs.join(",").into(), table::age(range, now)]
}
