//! ReplicaSets.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::{
    self, immutable, not_negative, validate_counts, validate_own_selector, validate_running_template,
};
use crate::Hooks;
use crate::field::{FieldErrors, Path};
use crate::object::{default as default_to, get, int, keep_status, name, object};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    warnings: workload::template_warnings,
    columns: COLUMNS,
    row,
    fields: |set| vec![("status.replicas", int(get(set, "status"), "replicas").unwrap_or(0).to_string())],
    field_labels: &["status.replicas"],
    scale: Some(workload::SCALE),
    ..Hooks::GENERIC
};

/// Of ReplicationControllers too.
pub(crate) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new("Desired", "integer").about("How many pods there should be."),
    Column::new("Current", "integer").about("How many pods there are."),
    Column::new("Ready", "integer").about("How many of them are ready."),
    Column::AGE,
    Column::new("Containers", "string").wide(),
    Column::new("Images", "string").wide(),
    Column::new("Selector", "string").wide(),
];

fn default(set: &mut Value) {
    if let Some(spec) = object(set, "spec") {
        default_to(spec, "replicas", 1);
        workload::default_template(spec);
    }
}

pub(crate) fn prepare_create(set: &mut Value) {
    if let Some(map) = set.as_object_mut() {
        map.insert("status".to_owned(), serde_json::json!({ "replicas": 0 }));
    }
}

fn validate(set: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(set, "spec");
    let at = Path::new("spec");
    not_negative(spec, &["replicas", "minReadySeconds"], &at, &mut out);
    // Upstream's message speaks of deployments here too.
    validate_own_selector(spec, "deployment", &at, &mut out);
    validate_running_template(get(spec, "template"), "ReplicaSet", &at, &mut out);
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    immutable(get(new, "spec"), get(old, "spec"), &["selector"], &Path::new("spec"), &mut out);
    out
}

pub(crate) fn validate_status(new: &Value, _: &Value) -> FieldErrors {
    let mut out = Vec::new();
    validate_counts(get(new, "status"), &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], &mut out);
    out
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    cells(set, table::selector(get(get(set, "spec"), "selector")), now)
}

pub(crate) fn cells(set: &Value, selector: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(set, "spec"), get(set, "status"));
    let [names, images] = table::containers_and_images(get(get(spec, "template"), "spec"));
    vec![
        name(set).into(),
        table::count(spec, "replicas"),
        table::count(status, "replicas"),
        table::count(status, "readyReplicas"),
        table::age(set, now),
        names,
        images,
        selector,
    ]
}
