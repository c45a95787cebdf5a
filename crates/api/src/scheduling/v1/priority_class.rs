//! PriorityClasses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors};
use crate::object::{default as default_to, flag, get, int, name, text};
use crate::table::{self, Column};
use serde_json::json;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Value", "integer").about("What its pods are worth to the scheduler."),
        Column::new("Global-Default", "boolean"),
        Column::AGE,
        Column::new("PreemptionPolicy", "string").wide(),
    ],
    row,
    default,
    validate,
    validate_update,
    generation_of: Some(|c| json!([get(c, "globalDefault"), get(c, "description")])),
    ..Hooks::PLAIN
};

/// Above this are only the system's own.
const USER_MAX: i64 = 1_000_000_000;

fn default(class: &mut Value) {
    if let Some(class) = class.as_object_mut() {
        default_to(class, "preemptionPolicy", "PreemptLowerPriority");
    }
}

fn validate(class: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let value = int(class, "value").unwrap_or(0);
    if name(class).starts_with("system-") {
        let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
        if !known.contains(&(name(class), value)) {
            let message = "priority class names with 'system-' prefix are reserved for system use only";
            out.push(FieldError::forbidden("metadata.name", message));
        }
    } else if value > USER_MAX {
        let message = format!("maximum allowed value of a user defined priority is {USER_MAX}");
        out.push(FieldError::forbidden("value", message));
    }
    let policy = text(class, "preemptionPolicy");
    if !matches!(policy, "PreemptLowerPriority" | "Never") {
        let supported = ["PreemptLowerPriority", "Never"];
        out.push(FieldError::not_supported("preemptionPolicy", policy, &supported));
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if int(new, "value") != int(old, "value") {
        out.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    if text(new, "preemptionPolicy") != text(old, "preemptionPolicy") {
        out.push(FieldError::immutable("preemptionPolicy", text(new, "preemptionPolicy")));
    }
    out
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(class).into(),
        table::count(class, "value"),
        flag(class, "globalDefault").into(),
        table::age(class, now),
        text(class, "preemptionPolicy").into(),
    ]
}
