//! StatefulSets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{
    self, amount, at_most_all, immutable, int_or_percent, not_negative, of_desired, validate_counts,
    validate_own_selector, validate_running_template,
};
use crate::Hooks;
use crate::core::v1::persistent_volume_claim;
use crate::core::v1::pod_spec::{defaults, one_of};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{
    child, default as default_to, each, existing, get, has, int, items, keep_status, name, object, text,
};
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
        Column::new("Ready", "string").about("Pods that are ready, of how many."),
        Column::AGE,
        Column::new("Containers", "string").wide(),
        Column::new("Images", "string").wide(),
    ],
    row,
    scale: Some(workload::SCALE),
    ..Hooks::GENERIC
};

fn default(set: &mut Value) {
    let Some(spec) = object(set, "spec") else { return };
    default_to(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        let unset = strategy.get("type").and_then(Value::as_str).unwrap_or_default().is_empty();
        if unset && !strategy.get("type").is_some_and(|t| !t.is_null() && !t.is_string()) {
            strategy.insert("type".to_owned(), "RollingUpdate".into());
            let _ = child(strategy, "rollingUpdate");
        }
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = existing(strategy, "rollingUpdate")
        {
            default_to(rolling, "partition", 0);
            default_to(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(retention) = child(spec, "persistentVolumeClaimRetentionPolicy") {
        default_to(retention, "whenDeleted", "Retain");
        default_to(retention, "whenScaled", "Retain");
    }
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    workload::default_template(spec);
    for claim in each(spec, "volumeClaimTemplates") {
        default_to(claim, "apiVersion", "v1");
        default_to(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = existing(claim, "spec") {
            defaults::claim_spec(spec);
        }
        if let Some(status) = child(claim, "status") {
            default_to(status, "phase", "Pending");
        }
    }
}

fn prepare_create(set: &mut Value) {
    if let Some(map) = set.as_object_mut() {
        map.insert("status".to_owned(), json!({ "replicas": 0, "availableReplicas": 0 }));
    }
}

fn validate(set: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(set, "spec");
    let at = Path::new("spec");
    let policy = text(spec, "podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let message = "must be 'OrderedReady' or 'Parallel'";
        out.push(FieldError::invalid(&at.child("podManagementPolicy"), policy, message));
    }
    strategy(get(spec, "updateStrategy"), &at.child("updateStrategy"), &mut out);
    let at_retention = at.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let retention = get(spec, "persistentVolumeClaimRetentionPolicy");
        one_of(retention, key, &["Retain", "Delete"], &at_retention, &mut out);
    }
    let at_claims = at.child("volumeClaimTemplates");
    for (i, claim) in items(spec, "volumeClaimTemplates").iter().enumerate() {
        persistent_volume_claim::validate_spec(get(claim, "spec"), &at_claims.index(i).child("spec"), &mut out);
    }
    not_negative(spec, &["replicas", "minReadySeconds"], &at, &mut out);
    if let Some(start) = int(get(spec, "ordinals"), "start").filter(|n| *n < 0) {
        out.push(FieldError::invalid(&at.child("ordinals.start"), start, workload::NOT_NEGATIVE));
    }
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        invalid_each(&mut out, &at.child("serviceName"), service, names::dns_label(service));
    }
    validate_own_selector(spec, "statefulset", &at, &mut out);
    validate_running_template(&with_claims(spec), "StatefulSet", &at, &mut out);
    out
}

/// The template as its pods will be: every claim template is a volume.
fn with_claims(spec: &Value) -> Value {
    let mut template = get(spec, "template").clone();
    let claims = items(spec, "volumeClaimTemplates");
    if claims.is_empty() {
        return template;
    }
    let Some(pod_spec) = object(&mut template, "spec") else { return template };
    let mut volumes: Vec<Value> =
        claims.iter().map(|c| json!({ "name": name(c), "persistentVolumeClaim": { "claimName": name(c) } })).collect();
    let own = pod_spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    volumes.extend(own.into_iter().filter(|v| !claims.iter().any(|c| name(c) == text(v, "name"))));
    pod_spec.insert("volumes".to_owned(), volumes.into());
    template
}

fn strategy(strategy: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let rolling = get(strategy, "rollingUpdate");
    let at_rolling = at.child("rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" if has(strategy, "rollingUpdate") => {
            let message = "only allowed for updateStrategy 'RollingUpdate'";
            out.push(FieldError::invalid(&at_rolling, rolling.clone(), message));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            not_negative(rolling, &["partition"], &at_rolling, out);
            let unavailable = get(rolling, "maxUnavailable");
            if !unavailable.is_null() {
                let at = at_rolling.child("maxUnavailable");
                int_or_percent(unavailable, &at, out);
                if amount(unavailable) == 0 {
                    out.push(FieldError::invalid(&at, unavailable.clone(), "cannot be 0"));
                }
                at_most_all(unavailable, &at, out);
            }
        }
        _ => out.push(FieldError::invalid(at, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    const FIXED: [&str; 4] = ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"];
    immutable(get(new, "spec"), get(old, "spec"), &FIXED, &Path::new("spec"), &mut out);
    out
}

fn validate_status(new: &Value, _: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let counts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    validate_counts(get(new, "status"), &counts, &mut out);
    out
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = table::containers_and_images(get(get(get(set, "spec"), "template"), "spec"));
    vec![name(set).into(), of_desired(set, "readyReplicas"), table::age(set, now), names, images]
}
