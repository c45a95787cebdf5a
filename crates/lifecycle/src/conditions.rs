//! The conditions that a node owns; those of others are kept as they are.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{observed::PodObserved, restart::is_sidecar, seconds};

const OWNED: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// What a condition says: status, reason, message.
#[derive(Clone, Debug)]
struct Says {
    is: bool,
    reason: &'static str,
    message: String,
}

impl Says {
    fn yes() -> Self {
        Self { is: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { is: false, reason, message }
    }
}

pub(crate) fn of(
    pod: &Pod,
    spec: &PodSpec,
    observed: &PodObserved,
    last: Option<&PodStatus>,
    status: &PodStatus,
    now: Timestamp,
) -> Vec<PodCondition> {
    let of_api = status.conditions.as_deref().unwrap_or_default();
    let mut conditions: Vec<_> = of_api.iter().filter(|c| !OWNED.contains(&c.type_.as_str())).cloned().collect();
    let containers_ready = containers_ready(spec, status);
    let ready = ready(spec, &containers_ready, &conditions);
    let sandbox = if observed.sandbox.current().is_some() { Says::yes() } else { Says::no("", String::new()) };
    let told = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(spec, status)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Says::yes()),
    ];
    let before = last.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.extend(told.map(|(type_, says)| condition(pod, type_, says, before, of_api, now)));
    conditions
}

fn condition(
    pod: &Pod,
    type_: &str,
    says: Says,
    before: &[PodCondition],
    of_api: &[PodCondition],
    now: Timestamp,
) -> PodCondition {
    let status = if says.is { "True" } else { "False" };
    let same = |list: &[PodCondition]| {
        let found = list.iter().find(|c| c.type_ == type_ && c.status == status);
        found.and_then(|c| c.last_transition_time.clone())
    };
    let since = same(before).or_else(|| same(of_api)).unwrap_or_else(|| Time(seconds(now)));
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        last_probe_time: None,
        last_transition_time: Some(since),
        observed_generation: pod.metadata.generation,
        reason: text(says.reason),
        message: text(&says.message),
    }
}

fn initialized(spec: &PodSpec, status: &PodStatus) -> Says {
    let phase = status.phase.as_deref().unwrap_or_default();
    if phase == "Succeeded" {
        return Says { is: true, reason: "PodCompleted", message: String::new() };
    }
    let mains = status.container_statuses.as_deref().unwrap_or_default();
    let has_run = |c: &ContainerStatus| c.started == Some(true) || c.container_id.is_some();
    if mains.iter().any(has_run) {
        return Says::yes();
    }
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let complete = |(c, s): &(&k8s_openapi::api::core::v1::Container, &ContainerStatus)| {
        if is_sidecar(c) { s.started == Some(true) } else { s.ready }
    };
    let containers = spec.init_containers.iter().flatten().zip(inits);
    let incomplete: Vec<&str> = containers.filter(|p| !complete(p)).map(|(c, _)| c.name.as_str()).collect();
    if incomplete.is_empty() {
        return Says::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Says::no("ContainersNotInitialized", message)
}

fn containers_ready(spec: &PodSpec, status: &PodStatus) -> Says {
    match status.phase.as_deref() {
        Some("Succeeded") => return Says::no("PodCompleted", String::new()),
        Some("Failed") => return Says::no("PodFailed", String::new()),
        _ => {}
    }
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let sidecars = spec.init_containers.iter().flatten().zip(inits).filter(|(c, _)| is_sidecar(c)).map(|(_, s)| s);
    let mains = status.container_statuses.as_deref().unwrap_or_default();
    let unready: Vec<&str> = sidecars.chain(mains).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Says::yes();
    }
    Says::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

/// All containers are ready, and so is every gate that others keep.
fn ready(spec: &PodSpec, containers: &Says, others: &[PodCondition]) -> Says {
    if !containers.is {
        return containers.clone();
    }
    let unmet = |gate: &str| match others.iter().find(|c| c.type_ == gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(c) if c.status != "True" => {
            Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but {}", c.status))
        }
        Some(_) => None,
    };
    let gates = spec.readiness_gates.iter().flatten();
    let messages: Vec<String> = gates.filter_map(|g| unmet(&g.condition_type)).collect();
    if messages.is_empty() {
        return Says::yes();
    }
    Says::no("ReadinessGatesNotReady", messages.join(", "))
}
