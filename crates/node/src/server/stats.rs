//! `GET /stats/summary`, `/metrics/resource` and `/metrics`: figures that the runtimes and the system measured, and none that they
//! did not.

use std::{fmt::Write as _, sync::Arc};

use axum::{Json, extract::State, http::header, response::IntoResponse};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    machine,
    mailbox::Snapshot,
    usage::{Measured, Rate},
};

const TEXT: &str = "text/plain; version=0.0.4";

fn snapshots(agent: &Agent) -> Vec<Snapshot> {
    agent.pods.read().values().map(|p| p.snapshot.borrow().clone()).collect()
}

pub async fn summary(State(agent): State<Arc<Agent>>) -> Json<Value> {
    let now = agent.now();
    let mut pods = vec![];
    let mut total = Total::default();
    for snapshot in snapshots(&agent) {
        let measured = measured(&agent, &snapshot, now).await;
        total.add(&measured);
        pods.push(pod(&snapshot, &measured, now));
    }
    let used = NodeUsage::of(&agent, &total, now);
    let mut node = json!({ "nodeName": agent.config.name });
    if let Some((nanos, rate)) = used.cpu {
        node["cpu"] = cpu(now, nanos, rate);
    }
    if let Some(bytes) = used.memory_bytes {
        node["memory"] = memory(now, bytes);
    }
    if let Some((total, free)) = machine::disk_bytes(&agent.config.data_dir) {
        node["fs"] = json!({ "time": now, "availableBytes": free, "capacityBytes": total, "usedBytes": total - free });
    }
    Json(json!({ "node": node, "pods": pods }))
}

/// By name; one without figures is left out rather than invented.
async fn measured(agent: &Agent, snapshot: &Snapshot, now: Timestamp) -> Vec<(String, Measured)> {
    let mut all = vec![];
    for (name, runtime, id) in &snapshot.running {
        if let Some(measured) = agent.usage.measure(&**agent.runtime(*runtime), id, now).await {
            all.push((name.clone(), measured));
        }
    }
    all
}

/// What containers use together.
#[derive(Default)]
struct Total {
    cpu_nanos: u64,
    memory_bytes: u64,
    rate: Option<Rate>,
}

impl Total {
    fn of(measured: &[(String, Measured)]) -> Self {
        let mut total = Self::default();
        total.add(measured);
        total
    }

    fn add(&mut self, measured: &[(String, Measured)]) {
        for (_, one) in measured {
            self.cpu_nanos += one.stats.cpu_nanos_total;
            self.memory_bytes += one.stats.memory_bytes;
            if let Some(rate) = one.rate {
                let before = self.rate.unwrap_or(Rate { nano_cores: 0, window: rate.window });
                let nano_cores = before.nano_cores + rate.nano_cores;
                self.rate = Some(Rate { nano_cores, window: before.window.max(rate.window) });
            }
        }
    }
}

/// A node is its machine, unless it is simulated: then it is its pods.
struct NodeUsage {
    cpu: Option<(u64, Option<Rate>)>,
    memory_bytes: Option<u64>,
}

impl NodeUsage {
    fn of(agent: &Agent, total: &Total, now: Timestamp) -> Self {
        if agent.config.runtimes.iter().all(|r| r.capabilities().scheme == "fake") {
            return Self { cpu: Some((total.cpu_nanos, total.rate)), memory_bytes: Some(total.memory_bytes) };
        }
        Self { cpu: agent.usage.machine(now), memory_bytes: machine::memory_bytes_used() }
    }
}

fn cpu(now: Timestamp, nanos: u64, rate: Option<Rate>) -> Value {
    let mut cpu = json!({ "time": now, "usageCoreNanoSeconds": nanos });
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = json!(rate.nano_cores);
        // Beyond the kubelet's own: over which time.
        cpu["windowSeconds"] = json!(rate.window.as_secs_f64());
    }
    cpu
}

fn memory(now: Timestamp, bytes: u64) -> Value {
    json!({ "time": now, "usageBytes": bytes, "workingSetBytes": bytes })
}

fn pod(snapshot: &Snapshot, measured: &[(String, Measured)], now: Timestamp) -> Value {
    let container = |(name, one): &(String, Measured)| {
        json!({
            "name": name, "startTime": one.started,
            "cpu": cpu(now, one.stats.cpu_nanos_total, one.rate), "memory": memory(now, one.stats.memory_bytes),
            "logs": { "time": now, "usedBytes": one.stats.log_bytes },
        })
    };
    let total = Total::of(measured);
    let meta = &snapshot.pod.metadata;
    json!({
        "podRef": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "startTime": snapshot.status.start_time,
        "containers": measured.iter().map(container).collect::<Vec<_>>(),
        "cpu": cpu(now, total.cpu_nanos, total.rate),
        "memory": memory(now, total.memory_bytes),
    })
}

/// What a metrics server reads, in the text format of Prometheus, with the time of each reading.
pub async fn resource(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    let now = agent.now();
    let (mut cpu, mut memory, mut start, mut pods) = (vec![], vec![], vec![], vec![]);
    let mut total = Total::default();
    for snapshot in snapshots(&agent) {
        let measured = measured(&agent, &snapshot, now).await;
        total.add(&measured);
        let meta = &snapshot.pod.metadata;
        let (name, namespace) = (meta.name.as_deref().unwrap_or(""), meta.namespace.as_deref().unwrap_or(""));
        for (container, one) in &measured {
            let labels = format!("container=\"{container}\",namespace=\"{namespace}\",pod=\"{name}\"");
            cpu.push((labels.clone(), seconds(one.stats.cpu_nanos_total)));
            memory.push((labels.clone(), one.stats.memory_bytes.to_string()));
            start.extend(one.started.map(|at| (labels, at.as_duration().as_secs_f64().to_string())));
        }
        let of_pod = Total::of(&measured);
        pods.push((format!("namespace=\"{namespace}\",pod=\"{name}\""), of_pod.cpu_nanos, of_pod.memory_bytes));
    }
    let of_pods = |value: fn(u64, u64) -> String| {
        pods.iter().map(|(labels, cpu, memory)| (labels.clone(), value(*cpu, *memory))).collect::<Vec<_>>()
    };
    let used = NodeUsage::of(&agent, &total, now);
    let of_node = |value: Option<String>| value.map(|v| (String::new(), v)).into_iter().collect::<Vec<_>>();
    let mut text = String::new();
    let at = now.as_millisecond();
    for (name, kind, help, series) in [
        ("container_cpu_usage_seconds_total", "counter", "CPU time used by the container in core-seconds", cpu),
        ("container_memory_working_set_bytes", "gauge", "Working set of the container in bytes", memory),
        ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds", start),
        (
            "pod_cpu_usage_seconds_total",
            "counter",
            "CPU time used by the pod in core-seconds",
            of_pods(|cpu, _| seconds(cpu)),
        ),
        (
            "pod_memory_working_set_bytes",
            "gauge",
            "Working set of the pod in bytes",
            of_pods(|_, memory| memory.to_string()),
        ),
        (
            "node_cpu_usage_seconds_total",
            "counter",
            "CPU time used by the node in core-seconds",
            of_node(used.cpu.map(|(nanos, _)| seconds(nanos))),
        ),
        (
            "node_memory_working_set_bytes",
            "gauge",
            "Working set of the node in bytes",
            of_node(used.memory_bytes.map(|bytes| bytes.to_string())),
        ),
        (
            "resource_scrape_error",
            "gauge",
            "1 if figures could not be read, 0 otherwise",
            of_node(Some("0".to_owned())),
        ),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in series {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let at = if name == "resource_scrape_error" { String::new() } else { format!(" {at}") };
            let _ = writeln!(text, "{name}{labels} {value}{at}");
        }
    }
    ([(header::CONTENT_TYPE, TEXT)], text)
}

#[expect(clippy::cast_precision_loss, reason = "a nanosecond more or less in two hundred days")]
fn seconds(nanos: u64) -> String {
    (nanos as f64 / 1e9).to_string()
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
    ([(header::CONTENT_TYPE, TEXT)], text)
}
