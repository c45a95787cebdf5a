//! Leases.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{get, has, int, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    validate,
    columns: &[Column::NAME, Column::new("Holder", "string").about("Who holds it."), Column::AGE],
    row,
    create_on_update: true,
    unconditional_update: false,
    ..Hooks::PLAIN
};

fn validate(lease: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(lease, "spec");
    let at = Path::new("spec");
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|s| *s <= 0) {
        out.push(FieldError::invalid(&at.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    if let Some(count) = int(spec, "leaseTransitions").filter(|c| *c < 0) {
        let message = "must be greater than or equal to 0";
        out.push(FieldError::invalid(&at.child("leaseTransitions"), count, message));
    }
    if has(spec, "preferredHolder") && text(spec, "strategy").is_empty() {
        let message = "may only be specified when `strategy` is defined";
        out.push(FieldError::forbidden(&at.child("preferredHolder"), message));
    }
    out
}

fn row(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(lease).into(), text(get(lease, "spec"), "holderIdentity").into(), table::age(lease, now)]
}
