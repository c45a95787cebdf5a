//! CertificateSigningRequests.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{drop_status, get, int, items, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::new("SignerName", "string"),
        Column::new("Requestor", "string"),
        Column::new("RequestedDuration", "string"),
        Column::new("Condition", "string"),
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    validate,
    fields: |r| vec![("spec.signerName", text(get(r, "spec"), "signerName").to_owned())],
    field_labels: &["spec.signerName"],
    ..Hooks::PLAIN
};

fn validate(request: &Value) -> FieldErrors {
    let spec = get(request, "spec");
    let at = Path::new("spec");
    let mut out = Vec::new();
    for key in ["request", "signerName"] {
        if text(spec, key).is_empty() {
            out.push(FieldError::required(&at.child(key), ""));
        }
    }
    if items(spec, "usages").is_empty() {
        out.push(FieldError::required(&at.child("usages"), "usages must contain at least one value"));
    }
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|s| *s < 600) {
        let message = "may not specify a duration less than 600 seconds (10 minutes)";
        out.push(FieldError::invalid(&at.child("expirationSeconds"), seconds, message));
    }
    out
}

fn row(request: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(request, "spec"), get(request, "status"));
    let has_condition = |kind: &str| items(status, "conditions").iter().any(|c| text(c, "type") == kind);
    let mut state = match (has_condition("Denied"), has_condition("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has_condition("Failed") {
        state.push_str(",Failed");
    }
    if !text(status, "certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration = int(spec, "expirationSeconds").map(table::short_duration);
    vec![
        name(request).into(),
        table::age(request, now),
        table::or_none(text(spec, "signerName")),
        text(spec, "username").into(),
        table::or_none(&duration.unwrap_or_default()),
        state.into(),
    ]
}
