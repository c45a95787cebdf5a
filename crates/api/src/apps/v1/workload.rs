//! What the workloads have in common: a selector over the labels of a pod template, counts, and limits that are a
//! number or a percentage.

use serde_json::{Value, json};

use crate::core::v1::pod_spec::{self, defaults};
use crate::field::{FieldError, FieldErrors, Path};
use crate::hooks::Scale;
use crate::names;
use crate::object::{Object, at, existing, get, has, int, items, text};
use crate::selector::{LabelSelector, validate_selector};

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

pub(crate) const SCALE: Scale =
    Scale { spec_replicas: "/spec/replicas", status_replicas: "/status/replicas", selector: "/spec/selector" };

/// Defaults of `spec.template`.
pub(crate) fn default_template(spec: &mut Object) {
    if let Some(pod_spec) = existing(spec, "template").and_then(|t| existing(t, "spec")) {
        defaults::pod_spec(pod_spec);
    }
}

/// The labels of `spec.template`.
pub(crate) fn template_labels(spec: &Value) -> &Value {
    at(spec, &["template", "metadata", "labels"])
}

/// The selector is there, is not empty, and matches the template; `kind` is what upstream calls it in the message.
pub(crate) fn validate_own_selector(spec: &Value, kind: &str, path: &Path<'_>, out: &mut FieldErrors) {
    let selector = get(spec, "selector");
    let at_selector = path.child("selector");
    if selector.is_null() {
        out.push(FieldError::required(&at_selector, ""));
    } else {
        validate_selector(selector, &at_selector, out);
        let parts = get(selector, "matchLabels").as_object().map_or(0, serde_json::Map::len)
            + items(selector, "matchExpressions").len();
        if parts == 0 {
            out.push(FieldError::invalid(
                &at_selector,
                selector.clone(),
                format!("empty selector is invalid for {kind}"),
            ));
        }
    }
    must_match(&LabelSelector::from_object(selector), spec, path, out);
}

pub(crate) fn must_match(selector: &LabelSelector, spec: &Value, path: &Path<'_>, out: &mut FieldErrors) {
    let labels = template_labels(spec);
    if !selector.matches_labels(labels) {
        out.push(FieldError::invalid(
            &path.child("template").child("metadata").child("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
}

/// The pod template of a workload that keeps its pods running; `kind` as in the message about deadlines.
pub(crate) fn validate_running_template(template: &Value, kind: &str, path: &Path<'_>, out: &mut FieldErrors) {
    let at_template = path.child("template");
    pod_spec::validate_template(template, &at_template, out);
    let spec = get(template, "spec");
    let at_spec = at_template.child("spec");
    let policy = text(spec, "restartPolicy");
    if policy != "Always" {
        out.push(FieldError::not_supported(&at_spec.child("restartPolicy"), policy, &["Always"]));
    }
    if has(spec, "activeDeadlineSeconds") {
        let message = format!("activeDeadlineSeconds in {kind} is not Supported");
        out.push(FieldError::forbidden(&at_spec.child("activeDeadlineSeconds"), message));
    }
}

pub(crate) fn not_negative(v: &Value, keys: &[&str], path: &Path<'_>, out: &mut FieldErrors) {
    for key in keys {
        if let Some(n) = int(v, key).filter(|n| *n < 0) {
            out.push(FieldError::invalid(&path.child(key), n, NOT_NEGATIVE));
        }
    }
}

/// `selector` may not change.
pub(crate) fn immutable(spec: &Value, old_spec: &Value, keys: &[&str], path: &Path<'_>, out: &mut FieldErrors) {
    for key in keys {
        if !crate::object::same(get(spec, key), get(old_spec, key)) {
            out.push(FieldError::immutable(&path.child(key), get(spec, key).clone()));
        }
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn int_or_percent(value: &Value, path: &Path<'_>, out: &mut FieldErrors) {
    match value {
        Value::String(s) => {
            out.extend(names::percent(s).into_iter().map(|m| FieldError::invalid(path, s.as_str(), m)));
        }
        other => {
            let n = other.as_i64().unwrap_or(0);
            if n < 0 {
                out.push(FieldError::invalid(path, n, NOT_NEGATIVE));
            }
        }
    }
}

fn percent_of(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}
/// The number, or the percentage's.
pub(crate) fn amount(value: &Value) -> i64 {
    percent_of(value).or_else(|| value.as_i64()).unwrap_or(0)
}
pub(crate) fn at_most_all(value: &Value, path: &Path<'_>, out: &mut FieldErrors) {
    if percent_of(value).is_some_and(|p| p > 100) {
        out.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

/// Counts are not negative, none is above `replicas`, and no more are available than ready.
pub(crate) fn validate_counts(status: &Value, keys: &[&str], out: &mut FieldErrors) {
    let path = Path::new("status");
    not_negative(status, &["replicas", "observedGeneration", "collisionCount"], &path, out);
    not_negative(status, keys, &path, out);
    let count = |key| int(status, key).unwrap_or(0);
    for key in keys.iter().filter(|k| **k != "unavailableReplicas") {
        if count(key) > count("replicas") {
            out.push(FieldError::invalid(&path.child(key), count(key), "cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let message = "cannot be greater than readyReplicas";
        out.push(FieldError::invalid(&path.child("availableReplicas"), count("availableReplicas"), message));
    }
}

/// `3/5`.
pub(crate) fn of_desired(object: &Value, ready: &str) -> Value {
    let desired = at(object, &["spec", "replicas"]).as_i64().unwrap_or(0);
    format!("{}/{desired}", int(get(object, "status"), ready).unwrap_or(0)).into()
}

/// Spec and annotations, for kinds whose annotations count.
pub(crate) fn spec_and_annotations(object: &Value) -> Value {
    json!([get(object, "spec"), at(object, &["metadata", "annotations"])])
}

/// What is worth a warning in `spec.template`.
pub(crate) fn template_warnings(object: &Value) -> Vec<String> {
    let path = Path::new("spec");
    let template = path.child("template");
    crate::core::v1::pod::spec_warnings(at(object, &["spec", "template", "spec"]), &template.child("spec"))
}
