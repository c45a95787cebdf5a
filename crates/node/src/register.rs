//! The Node object: what this node says of itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
        NodeRuntimeHandlerFeatures, NodeStatus,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use serde_json::{Value, json};
use skiff_client::{Error, rest::Written};
use skiff_reconcile::{KindRef, ObjectKey};

use crate::{agent::Agent, config::NodeConfig, machine};

/// A node tells of so many images at most, the largest ones: the kubelet's default.
const IMAGES_MAX: usize = 50;

/// Everything of the node is for pods: nothing is reserved.
pub fn capacity(config: &NodeConfig) -> BTreeMap<String, Quantity> {
    let mut capacity = BTreeMap::new();
    let mut set = |name: &str, value: String| capacity.insert(name.to_owned(), Quantity(value));
    set("cpu", machine::cpus().to_string());
    set("pods", config.pods_max().to_string());
    if let Some(bytes) = machine::memory_bytes() {
        set("memory", format!("{}Ki", bytes / 1024));
    }
    if let Some((total, _)) = machine::disk_bytes(&config.data_dir) {
        set("ephemeral-storage", format!("{}Ki", total / 1024));
    }
    for (name, value) in &config.capacity {
        set(name, value.clone());
    }
    capacity
}

/// Labels that every start sets.
pub fn labels(config: &NodeConfig) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut set = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        set(&format!("{prefix}/arch"), machine::arch());
        set(&format!("{prefix}/os"), machine::os());
    }
    set("kubernetes.io/hostname", &config.name);
    for (name, value) in &config.labels {
        set(name, value);
    }
    labels
}

/// Creates the Node, or brings the one that is there up to date: its other labels, annotations and its taints stay.
///
/// # Errors
/// The API's.
pub async fn register(agent: &Agent, status: &NodeStatus) -> Result<Node, Error> {
    let (nodes, key) = (KindRef::of::<Node>(), ObjectKey::new("", agent.config.name.as_str()));
    let (labels, annotations) = (labels(&agent.config), &agent.config.annotations);
    let body = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": agent.config.name, "labels": labels, "annotations": annotations },
        "spec": { "taints": agent.config.taints },
        "status": status,
    });
    let node = match agent.rest.create::<Node>(&nodes, "", &body).await {
        Err(e) if e.is_already_exists() => {
            let patch = json!({ "metadata": { "labels": labels, "annotations": annotations } });
            agent.rest.merge_patch::<Node>(&nodes, &key, None, &patch).await?
        }
        created => created?,
    };
    report(agent, node.status.as_ref(), status).await?;
    Ok(node)
}

/// Patches the node's status where it differs from `told`.
///
/// # Errors
/// The API's.
pub async fn report(agent: &Agent, told: Option<&NodeStatus>, status: &NodeStatus) -> Result<(), Error> {
    let Some(patch) = patch(told, status) else { return Ok(()) };
    let (nodes, key) = (KindRef::of::<Node>(), ObjectKey::new("", agent.config.name.as_str()));
    agent.rest.strategic_patch::<Written>(&nodes, &key, Some("status"), &patch).await.map(drop)
}

fn patch(told: Option<&NodeStatus>, status: &NodeStatus) -> Option<Value> {
    let told = serde_json::to_value(told).unwrap_or_default();
    let now = serde_json::to_value(status).unwrap_or_default();
    let fields = now.as_object()?.iter().filter(|(key, value)| told.get(key.as_str()) != Some(*value));
    let fields: serde_json::Map<String, Value> = fields.map(|(k, v)| (k.clone(), v.clone())).collect();
    (!fields.is_empty()).then(|| json!({ "status": fields }))
}

/// The status now. Conditions keep the time of their last change from `last`.
pub async fn status(agent: &Agent, last: Option<&NodeStatus>) -> NodeStatus {
    let config = &agent.config;
    let versions: Vec<String> = config.runtimes.iter().map(|r| r.capabilities().version.clone()).collect();
    let address = |type_: &str, address: &str| NodeAddress { type_: type_.to_owned(), address: address.to_owned() };
    let port = |port: u16| NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }) };
    NodeStatus {
        capacity: Some(agent.capacity.clone()),
        allocatable: Some(agent.capacity.clone()),
        addresses: Some(vec![address("InternalIP", &config.host_ip), address("Hostname", &config.name)]),
        conditions: Some(conditions(machine::pressure(&config.data_dir), last, agent.now())),
        daemon_endpoints: config.kubelet_port.map(port),
        node_info: Some(machine::info(versions.join(","))),
        runtime_handlers: Some(handlers(config)),
        images: images(agent).await,
        ..NodeStatus::default()
    }
}

fn handlers(config: &NodeConfig) -> Vec<NodeRuntimeHandler> {
    let mut names: Vec<&String> = config.runtimes.iter().flat_map(|r| &r.capabilities().handlers).collect();
    names.sort();
    names.dedup();
    let features = NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(false), user_namespaces: Some(false) };
    let handler = |name: &String| NodeRuntimeHandler { name: Some(name.clone()), features: Some(features.clone()) };
    names.into_iter().map(handler).collect()
}

/// The largest images; `None` when there are none.
async fn images(agent: &Agent) -> Option<Vec<ContainerImage>> {
    let mut all = vec![];
    for runtime in &agent.config.runtimes {
        all.extend(runtime.list_images().await.unwrap_or_default());
    }
    all.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let told = all.into_iter().take(IMAGES_MAX).map(|image| ContainerImage {
        names: Some(image.digests.into_iter().chain(image.tags).collect()),
        size_bytes: i64::try_from(image.size_bytes).ok(),
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then_some(told)
}

fn conditions(pressure: machine::Pressure, last: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let pick = |is: bool, bad: (&'static str, &'static str), good: (&'static str, &'static str)| {
        if is { ("True", bad) } else { ("False", good) }
    };
    let told = [
        (
            "MemoryPressure",
            pick(
                pressure.memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            pick(
                pressure.disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            pick(
                pressure.pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ("True", ("KubeletReady", "kubelet is posting ready status"))),
    ];
    let before = last.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let condition = |(type_, (status, (reason, message))): (&str, (&str, (&str, &str)))| {
        let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
        let since = same.and_then(|c| c.last_transition_time.clone()).unwrap_or(Time(now));
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since),
        }
    };
    told.into_iter().map(condition).collect()
}

/// Whether two statuses differ by more than the time of the heartbeat.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |s: &NodeStatus| {
        let mut s = s.clone();
        s.conditions.iter_mut().flatten().for_each(|c| c.last_heartbeat_time = None);
        s
    };
    quiet(a) != quiet(b)
}
