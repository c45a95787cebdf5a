//! Nodes that fall silent: their conditions become Unknown, they are tainted, and the pods that do not tolerate the
//! taints are evicted when their time is up.
//!
//! A node is silent when neither its Lease nor its Ready condition was renewed for [`GRACE`] (the times are the node's;
//! clocks within a few seconds of each other are assumed, as Leases assume it). What must stay true:
//! - nothing is judged within [`GRACE`] of the controller's own start: after an outage of the control plane all leases
//!   are old;
//! - a pod that tolerates a taint for ever is never evicted for it; one that tolerates it for n seconds not before n
//!   seconds have passed since the taint was added;
//! - the taints of this controller follow the Ready condition, those of others are not touched.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Pod, PodCondition, Taint, Toleration},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use skiff_reconcile::{
    Action, Controller, Entropy, EventType, KindRef, ObjectKey, Plan, PlannedEvent, Preconditions, View, ViewExt, Watch,
};

/// Upstream's default for `--node-monitor-grace-period`.
pub const GRACE: Duration = Duration::from_secs(50);
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Condition type, the status that taints, the taint (NoSchedule).
const PRESSURES: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

pub struct NodeLifecycleController {
    /// When the controller began to watch.
    pub started: Timestamp,
}

#[derive(Debug)]
pub struct Observed {
    node: Arc<Node>,
    renewed: Option<Timestamp>,
    /// Of a node with a NoExecute taint, or about to have one; empty for all others.
    pods: Vec<Arc<Pod>>,
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}
fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}
fn evicts(node: &Node) -> bool {
    taints(node).iter().any(|t| t.effect == NO_EXECUTE)
}
fn condition<'a>(node: &'a Node, condition_type: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == condition_type)
}

impl Controller for NodeLifecycleController {
    type Observed = Observed;
    const NAME: &'static str = "node-lifecycle-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::itself::<Node>(),
            // A pod matters only where pods are being evicted.
            Watch::by::<Pod>(|view, pod| {
                let key = ObjectKey::new("", node_of(pod));
                let evicting = !key.name.is_empty() && view.get::<Node>(&key).is_some_and(|n| evicts(&n));
                if evicting { vec![key] } else { Vec::new() }
            }),
            // A heartbeat only moves the time at which the node would be silent: the timer looks it up.
            Watch::only_read::<Lease>(),
        ]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let node = view.get::<Node>(key)?;
        let lease = view.get::<Lease>(&ObjectKey::new(LEASE_NAMESPACE, &key.name));
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref().map(|t| t.0));
        let pods = if evicts(&node) {
            view.list::<Pod>(None).into_iter().filter(|p| node_of(p) == key.name).collect()
        } else {
            Vec::new()
        };
        Some(Observed { node, renewed, pods })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, _entropy: &mut dyn Entropy) -> Plan {
        let mut plan = Plan::default();
        let node = &observed.node;
        let ready = condition(node, "Ready");
        let heard = [observed.renewed, ready.and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0)];
        let created = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let heard = heard.into_iter().flatten().max().or(created).map_or(self.started, |t| t.max(self.started));
        let silent_ms = now.as_millisecond() - heard.as_millisecond();
        let left_ms = GRACE.as_millis() as i64 - silent_ms;
        let silent = left_ms <= 0;
        if !silent {
            plan.requeue = Some(Duration::from_millis(left_ms.unsigned_abs()));
        }
        let status = ready.map_or("Unknown", |c| c.status.as_str());
        if silent && (status != "Unknown" || ready.is_none()) {
            plan.status = Some(silence(node, now));
            plan.events.push(event(node, EventType::Normal, "NodeNotReady", "status is now: NodeNotReady"));
        }
        // Until the node has said something for the first time it is not ready rather than unreachable.
        let status = if silent {
            "Unknown"
        } else if ready.is_none() {
            "False"
        } else {
            status
        };
        // Both writes insist on the version that was seen: one at a time, the conditions first.
        if plan.status.is_none() {
            plan.actions.extend(retaint(node, status, now));
        }
        let next = evict(observed, now, &mut plan);
        plan.requeue = [plan.requeue, next].into_iter().flatten().min();
        plan
    }
}

/// Every condition that the node should have renewed becomes Unknown.
fn silence(node: &Node, now: Timestamp) -> Action {
    let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    for condition_type in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let at = conditions.iter().position(|c| c.type_ == condition_type);
        let at = at.unwrap_or_else(|| {
            conditions.push(NodeCondition { type_: condition_type.into(), ..NodeCondition::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status == "Unknown" {
            continue;
        }
        let never = condition.last_heartbeat_time.is_none();
        let (reason, message) = if never {
            ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        } else {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
        };
        condition.status = "Unknown".into();
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
        condition.last_transition_time = Some(seconds(now));
    }
    Action::Patch {
        kind: KindRef::of::<Node>(),
        key: ObjectKey::of(&node.metadata),
        subresource: Some("status"),
        patch: json!({ "status": { "conditions": conditions } }),
        preconditions: Preconditions {
            uid: node.metadata.uid.clone(),
            resource_version: node.metadata.resource_version.clone(),
        },
    }
}

/// The taints of this controller, if they are not what they should be.
fn retaint(node: &Node, ready: &str, now: Timestamp) -> Option<Action> {
    let unschedulable = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    let mut wanted: Vec<(&str, &str)> = match ready {
        "True" => Vec::new(),
        "False" => vec![(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)],
        _ => vec![(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)],
    };
    for (condition_type, status, taint) in PRESSURES {
        if condition(node, condition_type).is_some_and(|c| c.status == status) {
            wanted.push((taint, NO_SCHEDULE));
        }
    }
    if unschedulable {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let ours = |t: &Taint| {
        let effect = t.effect.as_str();
        let by_ready = (t.key == NOT_READY || t.key == UNREACHABLE) && (effect == NO_SCHEDULE || effect == NO_EXECUTE);
        let by_condition = PRESSURES.iter().any(|(_, _, key)| *key == t.key) || t.key == UNSCHEDULABLE;
        by_ready || by_condition && effect == NO_SCHEDULE
    };
    let old = taints(node);
    let is_wanted = |t: &&Taint| wanted.iter().any(|(key, effect)| t.key == *key && t.effect == *effect);
    let mut new: Vec<Taint> = old.iter().filter(|t| !ours(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in &wanted {
        if !new.iter().any(|t| t.key == *key && t.effect == *effect) {
            let time_added = (*effect == NO_EXECUTE).then(|| seconds(now));
            new.push(Taint { key: (*key).into(), effect: (*effect).into(), value: None, time_added });
        }
    }
    if new == old {
        return None;
    }
    let taints = if new.is_empty() { Value::Null } else { json!(new) };
    Some(Action::Patch {
        kind: KindRef::of::<Node>(),
        key: ObjectKey::of(&node.metadata),
        subresource: None,
        patch: json!({ "spec": { "taints": taints } }),
        preconditions: Preconditions {
            uid: node.metadata.uid.clone(),
            resource_version: node.metadata.resource_version.clone(),
        },
    })
}

/// Evicts the pods whose time is up; returns when the next one's is.
fn evict(observed: &Observed, now: Timestamp, plan: &mut Plan) -> Option<Duration> {
    let mut next: Option<Duration> = None;
    for pod in observed.pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let Some(at) = evicted_at(pod, taints(&observed.node), now) else { continue };
        let left_ms = at.as_millisecond() - now.as_millisecond();
        if left_ms > 0 {
            let left = Duration::from_millis(left_ms.unsigned_abs());
            next = Some(next.map_or(left, |n| n.min(left)));
            continue;
        }
        plan.actions.push(mark(pod, now));
        plan.actions.push(Action::Delete {
            kind: KindRef::of::<Pod>(),
            key: ObjectKey::of(&pod.metadata),
            propagation: None,
            grace_seconds: None,
            preconditions: Preconditions { uid: pod.metadata.uid.clone(), resource_version: None },
        });
        let message = format!("Marking for deletion Pod {}", ObjectKey::of(&pod.metadata));
        plan.events.push(PlannedEvent {
            kind: KindRef::of::<Pod>(),
            key: ObjectKey::of(&pod.metadata),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            event_type: EventType::Normal,
            reason: "TaintManagerEviction",
            message,
        });
    }
    next
}

/// When a pod has to leave; `None` for never.
fn evicted_at(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.iter().filter(|t| t.effect == NO_EXECUTE) {
        let added = taint.time_added.as_ref().map_or(now, |t| t.0);
        let tolerating: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let at = if tolerating.is_empty() {
            now.min(added)
        } else {
            // The shortest of the bounded ones counts; none bounded: for ever.
            match tolerating.iter().filter_map(|t| t.toleration_seconds).min() {
                None => continue,
                Some(s) => added.checked_add(jiff::SignedDuration::from_secs(s.max(0))).unwrap_or(Timestamp::MAX),
            }
        };
        earliest = Some(earliest.map_or(at, |e| e.min(at)));
    }
    earliest
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let matches_key = key == taint.key || key.is_empty();
    let matches_value = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => {
            !key.is_empty() && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
        _ => false,
    };
    (effect.is_empty() || effect == taint.effect) && matches_key && matches_value
}

fn mark(pod: &Pod, now: Timestamp) -> Action {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByTaintManager".into()),
        message: Some("Taint manager: deleting due to NoExecute taint".into()),
        last_transition_time: Some(seconds(now)),
        ..PodCondition::default()
    });
    Action::Patch {
        kind: KindRef::of::<Pod>(),
        key: ObjectKey::of(&pod.metadata),
        subresource: Some("status"),
        patch: json!({ "status": { "conditions": conditions } }),
        preconditions: Preconditions { uid: pod.metadata.uid.clone(), resource_version: None },
    }
}

fn event(node: &Node, event_type: EventType, reason: &'static str, what: &str) -> PlannedEvent {
    let name = node.metadata.name.clone().unwrap_or_default();
    let message = format!("Node {name} {what}");
    PlannedEvent {
        kind: KindRef::of::<Node>(),
        key: ObjectKey::new("", name),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        event_type,
        reason,
        message,
    }
}

/// Times in the API have whole seconds.
fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
#[path = "node_lifecycle_tests.rs"]
mod tests;
