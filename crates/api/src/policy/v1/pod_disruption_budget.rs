//! PodDisruptionBudgets.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::apps::v1::workload::{at_most_all, int_or_percent};
use crate::core::v1::pod_spec::one_of_if_set;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{drop_status, get, has, keep_status, name};
use crate::selector::validate_selector;
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Min Available", "string"),
        Column::new("Max Unavailable", "string"),
        Column::new("Allowed Disruptions", "integer"),
        Column::AGE,
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    validate,
    unconditional_update: false,
    ..Hooks::GENERIC
};

fn validate(budget: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(budget, "spec");
    let at = Path::new("spec");
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let message = "minAvailable and maxUnavailable cannot be both set";
        out.push(FieldError::invalid(&at, spec.clone(), message));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let value = get(spec, key);
        if !value.is_null() {
            int_or_percent(value, &at.child(key), &mut out);
            at_most_all(value, &at.child(key), &mut out);
        }
    }
    if has(spec, "selector") {
        validate_selector(get(spec, "selector"), &at.child("selector"), &mut out);
    }
    one_of_if_set(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], &at, &mut out);
    out
}

fn row(budget: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(budget, "spec");
    let limit = |key| match get(spec, key) {
        Value::Null => "N/A".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    vec![
        name(budget).into(),
        limit("minAvailable").into(),
        limit("maxUnavailable").into(),
        table::count(get(budget, "status"), "disruptionsAllowed"),
        table::age(budget, now),
    ]
}
