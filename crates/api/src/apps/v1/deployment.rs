//! Deployments.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::{
    self, amount, at_most_all, immutable, int_or_percent, not_negative, of_desired, validate_counts,
    validate_own_selector, validate_running_template,
};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{child, default as default_to, get, has, int, keep_status, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create: crate::object::drop_status,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    warnings: workload::template_warnings,
    columns: &[
        Column::NAME,
        Column::new("Ready", "string").about("Pods that are ready, of how many."),
        Column::new("Up-to-date", "string").about("Pods made from the current template."),
        Column::new("Available", "string").about("Pods that have been ready for long enough."),
        Column::AGE,
        Column::new("Containers", "string").wide(),
        Column::new("Images", "string").wide(),
        Column::new("Selector", "string").wide(),
    ],
    row,
    generation_of: Some(workload::spec_and_annotations),
    scale: Some(workload::SCALE),
    ..Hooks::GENERIC
};

fn default(deployment: &mut Value) {
    let Some(spec) = object(deployment, "spec") else { return };
    default_to(spec, "replicas", 1);
    if let Some(strategy) = child(spec, "strategy") {
        default_to(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
    }
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "progressDeadlineSeconds", 600);
    workload::default_template(spec);
}

fn validate(deployment: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(deployment, "spec");
    let at = Path::new("spec");
    not_negative(spec, &["replicas"], &at, &mut out);
    validate_own_selector(spec, "deployment", &at, &mut out);
    validate_running_template(get(spec, "template"), "ReplicaSet", &at, &mut out);
    strategy(get(spec, "strategy"), &at.child("strategy"), &mut out);
    not_negative(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], &at, &mut out);
    if let Some(seconds) = int(spec, "progressDeadlineSeconds")
        && seconds <= int(spec, "minReadySeconds").unwrap_or(0)
    {
        let message = "must be greater than minReadySeconds";
        out.push(FieldError::invalid(&at.child("progressDeadlineSeconds"), seconds, message));
    }
    out
}

fn strategy(strategy: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let rolling = get(strategy, "rollingUpdate");
    let at_rolling = at.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" if has(strategy, "rollingUpdate") => {
            out.push(FieldError::forbidden(&at_rolling, "may not be specified when strategy `type` is 'Recreate'"))
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let [unavailable, surge] = ["maxUnavailable", "maxSurge"].map(|k| get(rolling, k));
            int_or_percent(unavailable, &at_rolling.child("maxUnavailable"), out);
            int_or_percent(surge, &at_rolling.child("maxSurge"), out);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                out.push(FieldError::invalid(
                    &at_rolling.child("maxUnavailable"),
                    unavailable.clone(),
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            at_most_all(unavailable, &at_rolling.child("maxUnavailable"), out);
        }
        _ => out.push(FieldError::not_supported(at, strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    immutable(get(new, "spec"), get(old, "spec"), &["selector"], &Path::new("spec"), &mut out);
    out
}

fn validate_status(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (status, old_status) = (get(new, "status"), get(old, "status"));
    let counts = ["updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"];
    validate_counts(status, &counts, &mut out);
    let collisions = int(status, "collisionCount").unwrap_or(0);
    if collisions < int(old_status, "collisionCount").unwrap_or(0) {
        out.push(FieldError::invalid("status.collisionCount", collisions, "cannot be decremented"));
    }
    out
}

fn row(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(deployment, "spec"), get(deployment, "status"));
    let [names, images] = table::containers_and_images(get(get(spec, "template"), "spec"));
    vec![
        name(deployment).into(),
        of_desired(deployment, "readyReplicas"),
        table::count(status, "updatedReplicas"),
        table::count(status, "availableReplicas"),
        table::age(deployment, now),
        names,
        images,
        table::selector(get(spec, "selector")),
    ]
}
