//! Nodes: what they are, what they have, and what their pods ask for.

use anyhow::Result;
use serde_json::Value;
use skiff_api::quantity::Quantity;

use super::page::{Page, pairs, shown};
use super::{conditions, identity, labels};
use crate::server::{JSON, Query, Server};

/// The pods that run on a node, or will.
pub async fn pods_on(server: &Server, node: &Value) -> Result<Vec<Value>> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    let mut list = server.get("/api/v1/pods", &Query::default().with("fieldSelector", selector), JSON).await?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

pub fn describe(page: &mut Page, node: &Value, pods: &[Value]) {
    let (spec, status) = (&node["spec"], &node["status"]);
    identity(page, node);
    labels(page, node);
    page.field("CreationTimestamp", shown(&node["metadata"]["creationTimestamp"]));
    let taints: Vec<String> = list(&spec["taints"])
        .map(|t| {
            let value = t["value"].as_str().filter(|v| !v.is_empty()).map(|v| format!("={v}")).unwrap_or_default();
            format!("{}{value}:{}", shown(&t["key"]), shown(&t["effect"]))
        })
        .collect();
    page.field("Taints", if taints.is_empty() { "<none>".to_owned() } else { taints.join("\n") });
    page.field("Unschedulable", if spec["unschedulable"] == true { "true" } else { "false" });
    conditions(
        page,
        node,
        &[
            ("Type", "type"),
            ("Status", "status"),
            ("LastHeartbeatTime", "lastHeartbeatTime"),
            ("Reason", "reason"),
            ("Message", "message"),
        ],
    );
    page.heading(0, "Addresses");
    for address in list(&status["addresses"]) {
        page.field_at(2, &shown(&address["type"]), shown(&address["address"]));
    }
    for (key, title) in [("capacity", "Capacity"), ("allocatable", "Allocatable")] {
        page.heading(0, title);
        for (resource, amount) in status[key].as_object().into_iter().flatten() {
            page.field_at(2, resource, shown(amount));
        }
    }
    page.heading(0, "System Info");
    for line in pairs(&status["nodeInfo"], ": ").lines() {
        page.line(2, line);
    }
    let handlers: Vec<String> = list(&status["runtimeHandlers"]).map(|h| shown(&h["name"])).collect();
    if !handlers.is_empty() {
        page.field("Runtime Handlers", handlers.join(", "));
    }
    pod_table(page, pods);
    totals(page, &status["allocatable"], pods);
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What the containers of a pod ask for, or are limited to, together.
fn sum(pod: &Value, which: &str, resource: &str) -> Quantity {
    list(&pod["spec"]["containers"]).filter_map(|c| Quantity::from_json(&c["resources"][which][resource]).ok()).sum()
}

fn pod_table(page: &mut Page, pods: &[Value]) {
    page.line(0, format!("Non-terminated Pods:  ({} in total)", pods.len()));
    let rows = pods
        .iter()
        .map(|pod| {
            let mut row = vec![shown(&pod["metadata"]["namespace"]), shown(&pod["metadata"]["name"])];
            for (which, resource) in
                [("requests", "cpu"), ("limits", "cpu"), ("requests", "memory"), ("limits", "memory")]
            {
                row.push(sum(pod, which, resource).to_string());
            }
            row
        })
        .collect();
    page.table(2, &["Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits"], rows);
}

fn totals(page: &mut Page, allocatable: &Value, pods: &[Value]) {
    page.line(0, "Allocated resources:");
    let rows = ["cpu", "memory", "ephemeral-storage"]
        .into_iter()
        .filter(|resource| !allocatable[*resource].is_null())
        .map(|resource| {
            let all = Quantity::from_json(&allocatable[resource]).unwrap_or_default();
            let part = |which: &str| {
                let total: Quantity = pods.iter().map(|pod| sum(pod, which, resource)).sum();
                let percent = if all.is_zero() { 0.0 } else { total.as_f64() / all.as_f64() * 100.0 };
                format!("{total} ({}%)", percent as i64)
            };
            vec![resource.to_owned(), part("requests"), part("limits")]
        })
        .collect();
    page.table(2, &["Resource", "Requests", "Limits"], rows);
}
