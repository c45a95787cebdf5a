//! Deployments and their like, and Jobs.

use serde_json::Value;
use skiff_api::table;

use super::page::{Page, shown};
use super::{conditions, controller, identity, labels, pod};

pub fn describe(page: &mut Page, object: &Value) {
    let (spec, status) = (&object["spec"], &object["status"]);
    identity(page, object);
    page.field("CreationTimestamp", shown(&object["metadata"]["creationTimestamp"]));
    labels(page, object);
    page.field("Selector", shown(&table::selector(&spec["selector"])));
    if let Some(owner) = controller(object) {
        page.field("Controlled By", owner);
    }
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    let desired = spec["replicas"].as_i64().unwrap_or(0);
    let replicas = match object["kind"].as_str() {
        Some("Deployment") => format!(
            "{desired} desired | {} updated | {} total | {} available | {} unavailable",
            count("updatedReplicas"),
            count("replicas"),
            count("availableReplicas"),
            count("unavailableReplicas")
        ),
        Some("DaemonSet") => format!(
            "{} desired | {} current | {} ready | {} available",
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("numberAvailable")
        ),
        _ => format!("{} current / {desired} desired | {} ready", count("replicas"), count("readyReplicas")),
    };
    page.field("Replicas", replicas);
    let strategy = if spec["strategy"].is_object() { &spec["strategy"] } else { &spec["updateStrategy"] };
    if strategy.is_object() {
        page.field("StrategyType", shown(&strategy["type"]));
        let rolling = &strategy["rollingUpdate"];
        if rolling["maxUnavailable"] != Value::Null {
            let surge = if rolling["maxSurge"].is_null() {
                String::new()
            } else {
                format!(", {} max surge", shown(&rolling["maxSurge"]))
            };
            page.field(
                "RollingUpdateStrategy",
                format!("{} max unavailable{surge}", shown(&rolling["maxUnavailable"])),
            );
        }
    }
    template(page, &spec["template"]);
    conditions(page, object, &[("Type", "type"), ("Status", "status"), ("Reason", "reason")]);
}

pub fn describe_job(page: &mut Page, job: &Value) {
    let (spec, status) = (&job["spec"], &job["status"]);
    identity(page, job);
    page.field("Selector", shown(&table::selector(&spec["selector"])));
    labels(page, job);
    if let Some(owner) = controller(job) {
        page.field("Controlled By", owner);
    }
    page.field("Parallelism", shown(&spec["parallelism"]));
    page.field("Completions", shown(&spec["completions"]));
    page.field("Completion Mode", shown(&spec["completionMode"]));
    page.field("Suspend", shown(&spec["suspend"]));
    page.field("Backoff Limit", shown(&spec["backoffLimit"]));
    let time = |key: &str| status[key].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    for (key, title) in [("startTime", "Start Time"), ("completionTime", "Completed At")] {
        if status[key].is_string() {
            page.field(title, shown(&status[key]));
        }
    }
    if let (Some(start), Some(end)) = (time("startTime"), time("completionTime")) {
        page.field("Duration", table::short_duration(end.as_second() - start.as_second()));
    }
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    page.field(
        "Pods Statuses",
        format!(
            "{} Active ({} Ready) / {} Succeeded / {} Failed",
            count("active"),
            count("ready"),
            count("succeeded"),
            count("failed")
        ),
    );
    for (key, title) in [("completedIndexes", "Completed Indexes"), ("failedIndexes", "Failed Indexes")] {
        if status[key].is_string() {
            page.field(title, shown(&status[key]));
        }
    }
    template(page, &spec["template"]);
    conditions(page, job, &[("Type", "type"), ("Status", "status"), ("Reason", "reason"), ("Message", "message")]);
}

fn template(page: &mut Page, template: &Value) {
    page.heading(0, "Pod Template");
    page.field_at(2, "Labels", super::pairs(&template["metadata"]["labels"], "="));
    pod::containers(page, &template["spec"], &Value::Null, 2);
    pod::volumes(page, &template["spec"], 2);
}
