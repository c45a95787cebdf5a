//! HorizontalPodAutoscalers, in the form in which they are stored.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::v1::horizontal_pod_autoscaler as v1;
use crate::Hooks;
use crate::apps::v1::workload::not_negative;
use crate::core::v1::pod_spec::{one_of, one_of_if_set};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{
    Object, at, child, default as default_to, existing, get, has, int, items, keep_status, name, object, text,
};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks { default, row, ..HOOKS_BASE };

/// What both versions share.
pub(crate) const HOOKS_BASE: Hooks = Hooks {
    prepare_create: crate::object::drop_status,
    prepare_update: keep_status,
    validate,
    validate_status,
    columns: &[
        Column::NAME,
        Column::new("Reference", "string").about("What it scales."),
        Column::new("Targets", "string").about("Current and wanted values of its metrics."),
        Column::new("MinPods", "string").about("Never fewer."),
        Column::new("MaxPods", "string").about("Never more."),
        Column::new("Replicas", "string").about("As many as there are."),
        Column::AGE,
    ],
    row,
    convert: Some(v1::convert),
    ..Hooks::GENERIC
};

/// The source types and the member that each is described in.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
/// How many metrics a table shows before it counts the rest.
const SHOWN: usize = 2;

fn default(autoscaler: &mut Value) {
    let Some(spec) = object(autoscaler, "spec") else { return };
    default_to(spec, "minReplicas", 1);
    let unset = spec.get("metrics").is_none_or(|m| m.is_null() || m.as_array().is_some_and(Vec::is_empty));
    if unset {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        spec.insert(
            "metrics".to_owned(),
            json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]),
        );
    }
    if let Some(behavior) = existing(spec, "behavior") {
        scaling_rules(behavior);
    }
}

fn scaling_rules(behavior: &mut Object) {
    let by = |kind: &str, value: i64| json!({ "type": kind, "value": value, "periodSeconds": 15 });
    if let Some(up) = child(behavior, "scaleUp") {
        default_to(up, "stabilizationWindowSeconds", 0);
        default_to(up, "selectPolicy", "Max");
        default_to(up, "policies", json!([by("Pods", 4), by("Percent", 100)]));
    }
    if let Some(down) = child(behavior, "scaleDown") {
        default_to(down, "selectPolicy", "Max");
        default_to(down, "policies", json!([by("Percent", 100)]));
    }
}

fn validate(autoscaler: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(autoscaler, "spec");
    let at = Path::new("spec");
    let (min, max) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|n| *n < 1) {
        out.push(FieldError::invalid(&at.child("minReplicas"), min, "must be greater than or equal to 1"));
    }
    match max {
        0 => out.push(FieldError::required(&at.child("maxReplicas"), "must be set and greater than 0")),
        n if n < 0 => {
            out.push(FieldError::invalid(&at.child("maxReplicas"), n, "must be greater than or equal to 1"));
        }
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        let message = "must be greater than or equal to `minReplicas`";
        out.push(FieldError::invalid(&at.child("maxReplicas"), max, message));
    }
    let target = get(spec, "scaleTargetRef");
    let at_target = at.child("scaleTargetRef");
    for key in ["kind", "name"] {
        match text(target, key) {
            "" => out.push(FieldError::required(&at_target.child(key), "")),
            value => invalid_each(&mut out, &at_target.child(key), value, names::path_segment(value)),
        }
    }
    let at_metrics = at.child("metrics");
    for (i, metric) in items(spec, "metrics").iter().enumerate() {
        validate_metric(metric, &at_metrics.index(i), &mut out);
    }
    for key in ["scaleUp", "scaleDown"] {
        let rules = get(get(spec, "behavior"), key);
        if !rules.is_null() {
            validate_rules(rules, &at.child("behavior").child(key), &mut out);
        }
    }
    out
}

fn validate_metric(metric: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let kind = text(metric, "type");
    let Some((_, member)) = SOURCES.iter().find(|(k, _)| *k == kind) else {
        if kind.is_empty() {
            out.push(FieldError::required(&at.child("type"), "must specify a metric source type"));
        }
        return out.push(FieldError::not_supported(&at.child("type"), kind, &SOURCES.map(|(k, _)| k)));
    };
    if !has(metric, member) {
        let message = "must populate information for the given metric source";
        out.push(FieldError::required(&at.child(member), message));
    }
    for (_, other) in SOURCES.iter().filter(|(k, m)| *k != kind && has(metric, m)) {
        out.push(FieldError::forbidden(&at.child(other), "must populate the given metric source only"));
    }
    let source = get(metric, member);
    let at_source = at.child(member);
    if matches!(kind, "Resource" | "ContainerResource") && text(source, "name").is_empty() {
        out.push(FieldError::required(&at_source.child("name"), "must specify a resource name"));
    }
    if has(source, "target") {
        let supported = ["Utilization", "Value", "AverageValue"];
        one_of_if_set(get(source, "target"), "type", &supported, &at_source.child("target"), out);
    }
}

fn validate_rules(rules: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if let Some(seconds) = int(rules, "stabilizationWindowSeconds").filter(|s| !(0..=3600).contains(s)) {
        let message =
            if seconds < 0 { "must be greater than or equal to zero" } else { "must be less than or equal to 3600" };
        out.push(FieldError::invalid(&at.child("stabilizationWindowSeconds"), seconds, message));
    }
    one_of_if_set(rules, "selectPolicy", &["Disabled", "Max", "Min"], at, out);
    let list = at.child("policies");
    let policies = items(rules, "policies");
    if policies.is_empty() {
        out.push(FieldError::required(&list, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = list.index(i);
        one_of(policy, "type", &["Percent", "Pods"], &at, out);
        for (key, max) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let n = int(policy, key).unwrap_or(0);
            if n <= 0 {
                out.push(FieldError::invalid(&at.child(key), n, "must be greater than zero"));
            } else if n > max {
                out.push(FieldError::invalid(&at.child(key), n, format!("must be less than or equal to {max}")));
            }
        }
    }
}

fn validate_status(new: &Value, _: &Value) -> FieldErrors {
    let mut out = Vec::new();
    not_negative(get(new, "status"), &["currentReplicas", "desiredReplicas"], &Path::new("status"), &mut out);
    out
}

/// `cpu: 12%/80%`.
fn target(metric: &Value, current: &Value) -> String {
    let kind = text(metric, "type");
    let Some((_, member)) = SOURCES.iter().find(|(k, _)| *k == kind) else { return "<unknown type>".to_owned() };
    let (wanted, now) = (at(metric, &[member, "target"]), at(current, &[member, "current"]));
    let text_of = |v: &Value, key: &str| get(v, key).as_str().map(str::to_owned);
    let unknown = || "<unknown>".to_owned();
    let prefix = match kind {
        "Resource" | "ContainerResource" => format!("{}: ", text(get(metric, member), "name")),
        _ => String::new(),
    };
    let average = text_of(wanted, "averageValue");
    match (kind, average) {
        ("Pods" | "Resource" | "ContainerResource", Some(wanted)) => {
            format!("{prefix}{}/{wanted}", text_of(now, "averageValue").unwrap_or_else(unknown))
        }
        (_, Some(wanted)) => format!("{}/{wanted} (avg)", text_of(now, "averageValue").unwrap_or_else(unknown)),
        ("Resource" | "ContainerResource", None) => {
            let percent = |v: &Value| int(v, "averageUtilization").map(|n| format!("{n}%"));
            let wanted = percent(wanted).unwrap_or_else(|| "<auto>".to_owned());
            format!("{prefix}{}/{wanted}", percent(now).unwrap_or_else(unknown))
        }
        (_, None) => {
            let wanted = text_of(wanted, "value").unwrap_or_default();
            format!("{}/{wanted}", text_of(now, "value").unwrap_or_else(unknown))
        }
    }
}

pub(crate) fn row(autoscaler: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(autoscaler, "spec"), get(autoscaler, "status"));
    let current = items(status, "currentMetrics");
    let targets: Vec<String> = items(spec, "metrics")
        .iter()
        .enumerate()
        .map(|(i, m)| target(m, current.get(i).unwrap_or(&Value::Null)))
        .collect();
    let shown = match targets.len().checked_sub(SHOWN) {
        _ if targets.is_empty() => "<none>".to_owned(),
        None | Some(0) => targets.join(", "),
        Some(more) => format!("{} + {more} more...", targets[..SHOWN].join(", ")),
    };
    let reference = get(spec, "scaleTargetRef");
    vec![
        name(autoscaler).into(),
        format!("{}/{}", text(reference, "kind"), text(reference, "name")).into(),
        shown.into(),
        int(spec, "minReplicas").map_or_else(|| "<unset>".into(), |n| n.to_string().into()),
        table::count(spec, "maxReplicas"),
        table::count(status, "currentReplicas"),
        table::age(autoscaler, now),
    ]
}
