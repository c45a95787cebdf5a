//! DaemonSets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{
    self, amount, at_most_all, immutable, int_or_percent, not_negative, validate_own_selector,
    validate_running_template,
};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{child, default as default_to, get, keep_status, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    warnings: workload::template_warnings,
    columns: &[
        Column::NAME,
        Column::new("Desired", "integer").about("Nodes that should run its pod."),
        Column::new("Current", "integer").about("Nodes that do."),
        Column::new("Ready", "integer").about("Nodes where it is ready."),
        Column::new("Up-to-date", "integer").about("Nodes where it is of the current template."),
        Column::new("Available", "integer").about("Nodes where it has been ready for long enough."),
        Column::new("Node Selector", "string").about("Labels of the nodes that it runs on."),
        Column::AGE,
        Column::new("Containers", "string").wide(),
        Column::new("Images", "string").wide(),
        Column::new("Selector", "string").wide(),
    ],
    row,
    ..Hooks::GENERIC
};

const COUNTS: [&str; 7] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

fn default(set: &mut Value) {
    let Some(spec) = object(set, "spec") else { return };
    if let Some(strategy) = child(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", 1);
            default_to(rolling, "maxSurge", 0);
        }
    }
    default_to(spec, "revisionHistoryLimit", 10);
    workload::default_template(spec);
}

fn prepare_create(set: &mut Value) {
    if let Some(map) = set.as_object_mut() {
        let status: crate::object::Object = COUNTS[..4].iter().map(|k| ((*k).to_owned(), json!(0))).collect();
        map.insert("status".to_owned(), status.into());
    }
}

fn validate(set: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(set, "spec");
    let at = Path::new("spec");
    validate_own_selector(spec, "daemonset", &at, &mut out);
    validate_running_template(get(spec, "template"), "DaemonSet", &at, &mut out);
    not_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &at, &mut out);
    strategy(get(spec, "updateStrategy"), &at.child("updateStrategy"), &mut out);
    out
}

fn strategy(strategy: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = get(strategy, "rollingUpdate");
            let at = at.child("rollingUpdate");
            let [unavailable, surge] = ["maxUnavailable", "maxSurge"].map(|k| get(rolling, k));
            for (key, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                int_or_percent(value, &at.child(key), out);
                at_most_all(value, &at.child(key), out);
            }
            match (amount(unavailable) != 0, amount(surge) != 0) {
                (true, true) => {
                    let message = "may not be set when maxUnavailable is non-zero";
                    out.push(FieldError::invalid(&at.child("maxSurge"), surge.clone(), message));
                }
                (false, false) => {
                    let message = "cannot be 0 when maxSurge is 0";
                    out.push(FieldError::required(&at.child("maxUnavailable"), message));
                }
                _ => {}
            }
        }
        _ => out.push(FieldError::not_supported(at, strategy.clone(), &["RollingUpdate", "OnDelete"])),
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    immutable(get(new, "spec"), get(old, "spec"), &["selector"], &Path::new("spec"), &mut out);
    out
}

fn validate_status(new: &Value, _: &Value) -> FieldErrors {
    let mut out = Vec::new();
    not_negative(get(new, "status"), &COUNTS, &Path::new("status"), &mut out);
    out
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(set, "spec"), get(set, "status"));
    let pod_spec = get(get(spec, "template"), "spec");
    let [names, images] = table::containers_and_images(pod_spec);
    let mut out = vec![name(set).into()];
    for key in
        ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"]
    {
        out.push(table::count(status, key));
    }
    out.push(table::labels(get(pod_spec, "nodeSelector")));
    out.extend([table::age(set, now), names, images, table::selector(get(spec, "selector"))]);
    out
}
