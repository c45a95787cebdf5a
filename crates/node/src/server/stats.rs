//! `GET /stats/summary` and `GET /metrics`: figures that the runtimes measured, and none that they did not.

use std::sync::Arc;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde_json::{Value, json};
use skiff_runtime::ContainerStats;

use crate::{agent::Agent, machine, mailbox::Snapshot};

pub async fn summary(State(agent): State<Arc<Agent>>) -> Json<Value> {
    let snapshots: Vec<Snapshot> = agent.pods.read().values().map(|p| p.snapshot.borrow().clone()).collect();
    let now = agent.now().to_string();
    let mut pods = vec![];
    for snapshot in snapshots {
        pods.push(pod(&agent, &snapshot, &now).await);
    }
    let mut node = json!({ "nodeName": agent.config.name });
    if let Some((total, free)) = machine::disk_bytes(&agent.config.data_dir) {
        node["fs"] = json!({ "time": now, "availableBytes": free, "capacityBytes": total, "usedBytes": total - free });
    }
    Json(json!({ "node": node, "pods": pods }))
}

async fn measured(agent: &Agent, snapshot: &Snapshot) -> Vec<ContainerStats> {
    let mut all = vec![];
    for (name, runtime, id) in &snapshot.running {
        // One without figures is left out rather than invented.
        if let Ok(mut stats) = agent.runtime(*runtime).container_stats(id).await {
            stats.name.clone_from(name);
            all.push(stats);
        }
    }
    all
}

async fn pod(agent: &Agent, snapshot: &Snapshot, now: &str) -> Value {
    let stats = measured(agent, snapshot).await;
    let memory = |bytes: u64| json!({ "time": now, "usageBytes": bytes, "workingSetBytes": bytes });
    let cpu = |nanos: u64| json!({ "time": now, "usageCoreNanoSeconds": nanos });
    let container = |s: &ContainerStats| {
        json!({
            "name": s.name, "cpu": cpu(s.cpu_nanos_total), "memory": memory(s.memory_bytes),
            "logs": { "time": now, "usedBytes": s.log_bytes },
        })
    };
    let meta = &snapshot.pod.metadata;
    json!({
        "podRef": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "startTime": snapshot.status.start_time,
        "containers": stats.iter().map(container).collect::<Vec<_>>(),
        "cpu": cpu(stats.iter().map(|s| s.cpu_nanos_total).sum()),
        "memory": memory(stats.iter().map(|s| s.memory_bytes).sum()),
    })
}

/// In the text format of Prometheus.
pub async fn metrics(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    let (pods, containers) = {
        let pods = agent.pods.read();
        (pods.len(), pods.values().map(|p| p.snapshot.borrow().running.len()).sum::<usize>())
    };
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: u64| {
        text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    };
    gauge("kubelet_running_pods", "Number of pods that have a worker on this node", pods as u64);
    gauge("kubelet_running_containers", "Number of containers that run on this node", containers as u64);
    let free = |s: &tokio::sync::Semaphore, max: usize| (max - s.available_permits().min(max)) as u64;
    let limits = &agent.config.limits;
    gauge(
        "skiff_node_starts_under_way",
        "Containers being created and started",
        free(&agent.starts, limits.starts_max),
    );
    gauge("skiff_node_pulls_under_way", "Images being pulled", free(&agent.pulls, limits.pulls_max));
    gauge("skiff_node_status_writes_under_way", "Pod statuses being written", free(&agent.writes, limits.writes_max));
    gauge("skiff_node_events_dropped", "Events not written because the queue was full", agent.recorder.dropped());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
