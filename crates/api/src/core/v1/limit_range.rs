//! LimitRanges.

use jiff::Timestamp;
use serde_json::Value;

use super::pod_spec::defaults;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::names;
use crate::object::{child, each, entries, existing, get, items, name, text};
use crate::quantity::Quantity;
use crate::table::Column;
use std::collections::BTreeSet;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Created At", "date")],
    row,
    default,
    validate,
    create_on_update: true,
    ..Hooks::PLAIN
};

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// A container that is given no limit gets the maximum, and one that asks for nothing gets its limit.
fn default(range: &mut Value) {
    let Some(spec) = range.as_object_mut().and_then(|r| existing(r, "spec")) else { return };
    for limit in each(spec, "limits") {
        for list in LISTS {
            if let Some(list) = existing(limit, list) {
                defaults::resource_list(list);
            }
        }
        if limit.get("type").and_then(Value::as_str) != Some("Container") {
            continue;
        }
        for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let Some(amounts) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
            let Some(into) = child(limit, into) else { continue };
            for (resource, amount) in amounts {
                into.entry(resource).or_insert(amount);
            }
        }
    }
}

fn validate(range: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = Path::new("spec");
    let list = spec.child("limits");
    let mut seen = BTreeSet::new();
    for (i, limit) in items(get(range, "spec"), "limits").iter().enumerate() {
        let at = list.index(i);
        let kind = text(limit, "type");
        crate::field::invalid_each(&mut out, &at.child("type"), kind, names::qualified_name(kind));
        if !seen.insert(kind) {
            out.push(FieldError::duplicate(&at.child("type"), kind));
        }
        if kind == "Pod" {
            for key in ["default", "defaultRequest"].into_iter().filter(|k| entries(limit, k).next().is_some()) {
                out.push(FieldError::forbidden(&at.child(key), "may not be specified when `type` is 'Pod'"));
            }
        }
        amounts(limit, &at, &mut out);
    }
    out
}

/// No lower amount is above a higher one.
fn amounts(limit: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    const ORDER: [(&str, &str, &str, &str); 4] = [
        ("min", "max", "min value", "max value"),
        ("defaultRequest", "max", "default request value", "max value"),
        ("defaultRequest", "default", "default request value", "default limit value"),
        ("default", "max", "default value", "max value"),
    ];
    for (low, high, low_name, high_name) in ORDER {
        for (resource, amount) in entries(limit, low) {
            let bound = Quantity::from_json(get(get(limit, high), resource));
            if let (Ok(amount), Ok(bound)) = (Quantity::from_json(amount), bound)
                && amount > bound
            {
                let message = format!("{low_name} {amount} is greater than {high_name} {bound}");
                out.push(FieldError::invalid(&at.child(low).key(resource), amount.to_string(), message));
            }
        }
    }
}

fn row(range: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(range).into(), get(get(range, "metadata"), "creationTimestamp").clone()]
}
