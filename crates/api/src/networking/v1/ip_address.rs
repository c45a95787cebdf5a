//! IPAddresses: who has which cluster address.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors};
use crate::object::{get, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks =
    Hooks { columns: &[Column::NAME, Column::new("ParentRef", "string"), Column::AGE], row, validate, ..Hooks::PLAIN };

fn validate(address: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if name(address).parse::<std::net::IpAddr>().is_err() {
        let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        out.push(FieldError::invalid("metadata.name", name(address), message));
    }
    let parent = get(get(address, "spec"), "parentRef");
    if parent.is_null() {
        out.push(FieldError::required("spec.parentRef", ""));
    } else {
        for key in ["resource", "name"].into_iter().filter(|k| text(parent, k).is_empty()) {
            out.push(FieldError::required(format!("spec.parentRef.{key}"), ""));
        }
    }
    out
}

fn row(address: &Value, now: Timestamp) -> Vec<Value> {
    let parent = get(get(address, "spec"), "parentRef");
    let mut shown = text(parent, "resource").to_lowercase();
    if !text(parent, "group").is_empty() {
        shown.push_str(&format!(".{}", text(parent, "group").to_lowercase()));
    }
    for part in [text(parent, "namespace"), text(parent, "name")].into_iter().filter(|p| !p.is_empty()) {
        shown.push_str(&format!("/{part}"));
    }
    vec![name(address).into(), table::or_none(&shown), table::age(address, now)]
}
