//! HorizontalPodAutoscalers as version 1 has them: one CPU percentage. What it has no field for is carried in
//! annotations, so that a client of this version does not lose it by reading and writing back.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::v2::horizontal_pod_autoscaler as v2;
use crate::object::{Object, at, child, default as default_to, get, int, items, object, text};
use crate::{Hooks, Status};

pub static HOOKS: Hooks = Hooks { default, row, ..v2::HOOKS_BASE };

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

fn default(autoscaler: &mut Value) {
    if let Some(spec) = object(autoscaler, "spec") {
        default_to(spec, "minReplicas", 1);
    }
}

fn row(autoscaler: &Value, now: Timestamp) -> Vec<Value> {
    let mut stored = autoscaler.clone();
    // Only a version that is not there cannot be converted to.
    let _ = convert(&mut stored, "autoscaling/v2");
    v2::row(&stored, now)
}

pub(crate) fn convert(autoscaler: &mut Value, to_version: &str) -> Result<(), Status> {
    match to_version {
        "autoscaling/v1" => to_v1(autoscaler),
        "autoscaling/v2" => to_v2(autoscaler),
        other => return Err(Status::internal(format!("autoscalers have no version {other}"))),
    }
    if let Some(map) = autoscaler.as_object_mut() {
        map.insert("apiVersion".to_owned(), to_version.into());
    }
    Ok(())
}

fn is_cpu_percentage(metric: &Value) -> bool {
    text(metric, "type") == "Resource"
        && text(get(metric, "resource"), "name") == "cpu"
        && !at(metric, &["resource", "target", "averageUtilization"]).is_null()
}

fn set_annotation(autoscaler: &mut Value, key: &str, value: &Value) {
    if let Some(map) = object(autoscaler, "metadata").and_then(|m| child(m, "annotations")) {
        map.insert(key.to_owned(), value.to_string().into());
    }
}

fn take_annotation(autoscaler: &mut Value, key: &str) -> Option<Value> {
    let metadata = object(autoscaler, "metadata")?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let value = serde_json::from_str(annotations.get(key)?.as_str()?).ok()?;
    annotations.remove(key);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    Some(value)
}

fn take(autoscaler: &mut Value, part: &str, key: &str) -> Option<Value> {
    autoscaler.get_mut(part)?.as_object_mut()?.remove(key)
}

fn to_v1(autoscaler: &mut Value) {
    if let Some(metrics) = take(autoscaler, "spec", "metrics") {
        let all = metrics.as_array().cloned().unwrap_or_default();
        let percent = all.iter().find(|m| is_cpu_percentage(m));
        let percent = percent.map(|m| at(m, &["resource", "target", "averageUtilization"]).clone());
        if let (Some(percent), Some(spec)) = (percent, object(autoscaler, "spec")) {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
        }
        if all.len() != 1 || !is_cpu_percentage(&all[0]) {
            set_annotation(autoscaler, METRICS, &metrics);
        }
    }
    if let Some(behavior) = take(autoscaler, "spec", "behavior") {
        set_annotation(autoscaler, BEHAVIOR, &behavior);
    }
    if let Some(current) = take(autoscaler, "status", "currentMetrics") {
        let percent = items(&json!({ "m": current }), "m")
            .iter()
            .find(|m| text(get(m, "resource"), "name") == "cpu")
            .and_then(|m| int(at(m, &["resource", "current"]), "averageUtilization"));
        if let (Some(percent), Some(status)) = (percent, object(autoscaler, "status")) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent.into());
        }
        set_annotation(autoscaler, CURRENT_METRICS, &current);
    }
    if let Some(conditions) = take(autoscaler, "status", "conditions") {
        set_annotation(autoscaler, CONDITIONS, &conditions);
    }
}

fn to_v2(autoscaler: &mut Value) {
    let percent = take(autoscaler, "spec", "targetCPUUtilizationPercentage").filter(|p| !p.is_null());
    take(autoscaler, "status", "currentCPUUtilizationPercentage");
    let kept = take_annotation(autoscaler, METRICS).and_then(|m| m.as_array().cloned());
    let metrics = match (kept, percent) {
        (Some(mut metrics), Some(percent)) => {
            // The field is what the client sees and may have changed.
            for metric in metrics.iter_mut().filter(|m| is_cpu_percentage(m)) {
                metric["resource"]["target"]["averageUtilization"] = percent.clone();
            }
            Some(metrics)
        }
        (kept @ Some(_), None) => kept,
        (None, Some(percent)) => {
            let target = json!({ "type": "Utilization", "averageUtilization": percent });
            Some(vec![json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })])
        }
        (None, None) => None,
    };
    let behavior = take_annotation(autoscaler, BEHAVIOR);
    if let Some(spec) = autoscaler.get_mut("spec").and_then(Value::as_object_mut) {
        insert(spec, "metrics", metrics.map(Value::from));
        insert(spec, "behavior", behavior);
    }
    let current = take_annotation(autoscaler, CURRENT_METRICS);
    let conditions = take_annotation(autoscaler, CONDITIONS);
    if let Some(status) = autoscaler.get_mut("status").and_then(Value::as_object_mut) {
        insert(status, "currentMetrics", current);
        insert(status, "conditions", conditions);
    }
}

fn insert(map: &mut Object, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_the_versions() {
        let metric = |name: &str| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": 50}}});
        for metrics in [json!([metric("cpu")]), json!([metric("memory")]), json!([metric("memory"), metric("cpu")])] {
            let stored = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "metrics": metrics, "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
                "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]}});
            let mut there = stored.clone();
            convert(&mut there, "autoscaling/v1").unwrap();
            assert!(there["spec"].get("metrics").is_none() && there["spec"].get("behavior").is_none());
            convert(&mut there, "autoscaling/v2").unwrap();
            assert_eq!(there, stored);
        }
        let mut simple = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
        convert(&mut simple, "autoscaling/v2").unwrap();
        assert_eq!(simple["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    }
}
