//! ReplicationControllers: ReplicaSets whose selector is a map of labels.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::apps::v1::replica_set;
use crate::apps::v1::workload::{self, must_match, not_negative, validate_running_template};
use crate::field::{FieldError, FieldErrors, Path};
use crate::hooks::Scale;
use crate::object::{default as default_to, get, has, int, keep_status, object};
use crate::selector::LabelSelector;
use crate::table;

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create: replica_set::prepare_create,
    prepare_update: keep_status,
    validate,
    validate_status: replica_set::validate_status,
    warnings: workload::template_warnings,
    columns: replica_set::COLUMNS,
    row,
    fields: |rc| vec![("status.replicas", int(get(rc, "status"), "replicas").unwrap_or(0).to_string())],
    field_labels: &["status.replicas"],
    scale: Some(Scale {
        spec_replicas: "/spec/replicas",
        status_replicas: "/status/replicas",
        selector: "/spec/selector",
    }),
    ..Hooks::GENERIC
};

/// The template's labels stand in for the selector and for the object's own labels.
fn default(rc: &mut Value) {
    let labels = workload::template_labels(get(rc, "spec")).clone();
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        let unset = |v: Option<&Value>| v.is_none_or(|v| v.as_object().is_none_or(serde_json::Map::is_empty));
        for (part, key) in [("spec", "selector"), ("metadata", "labels")] {
            if let Some(map) = object(rc, part)
                && unset(map.get(key))
            {
                map.insert(key.to_owned(), labels.clone());
            }
        }
    }
    if let Some(spec) = object(rc, "spec") {
        default_to(spec, "replicas", 1);
        workload::default_template(spec);
    }
}

fn validate(rc: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(rc, "spec");
    let at = Path::new("spec");
    not_negative(spec, &["minReadySeconds", "replicas"], &at, &mut out);
    let labels = get(spec, "selector").as_object();
    let pairs = labels.into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()));
    let selector = LabelSelector::from_map(pairs);
    if selector.is_everything() {
        out.push(FieldError::required(&at.child("selector"), ""));
    }
    if !has(spec, "template") {
        out.push(FieldError::required(&at.child("template"), ""));
        return out;
    }
    must_match(&selector, spec, &at, &mut out);
    validate_running_template(get(spec, "template"), "ReplicationController", &at, &mut out);
    out
}

fn row(rc: &Value, now: Timestamp) -> Vec<Value> {
    replica_set::cells(rc, table::labels(get(get(rc, "spec"), "selector")), now)
}
