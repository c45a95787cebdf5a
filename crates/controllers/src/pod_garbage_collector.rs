//! Pods that nobody will finish: on nodes that are gone, being deleted without ever having had a node, or ended and too
//! many.
//!
//! A sweep every [`SWEEP`]: it hangs off the namespace `kube-system`, which always exists. What must stay true: a pod of
//! a node whose object is missing is deleted only after [`QUARANTINE`] since it was placed, because the node may be
//! registering, and a pod that has not ended is marked as failed first, so that its controller counts it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use skiff_reconcile::{Action, Controller, Entropy, KindRef, ObjectKey, Plan, Preconditions, View, ViewExt, Watch};

pub const SWEEP: Duration = Duration::from_secs(20);
pub const QUARANTINE: Duration = Duration::from_secs(40);
/// Upstream's default for `--terminated-pod-gc-threshold`.
pub const TERMINATED_PODS_MAX: usize = 12_500;
const ANCHOR: &str = "kube-system";

pub struct PodGarbageCollector {
    pub terminated_pods_max: usize,
}
impl Default for PodGarbageCollector {
    fn default() -> Self {
        Self { terminated_pods_max: TERMINATED_PODS_MAX }
    }
}

#[derive(Debug)]
pub struct Observed {
    nodes: BTreeSet<String>,
    pods: Vec<Arc<Pod>>,
}

impl Controller for PodGarbageCollector {
    type Observed = Observed;
    const NAME: &'static str = "pod-garbage-collector";

    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::by::<Namespace>(|_, namespace| {
                let ours = namespace.metadata.name.as_deref() == Some(ANCHOR);
                if ours { vec![ObjectKey::new("", ANCHOR)] } else { Vec::new() }
            }),
            Watch::only_read::<Node>(),
            Watch::only_read::<Pod>(),
        ]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        view.get::<Namespace>(key)?;
        let nodes = view.list::<Node>(None).iter().filter_map(|n| n.metadata.name.clone()).collect();
        Some(Observed { nodes, pods: view.list::<Pod>(None) })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, _entropy: &mut dyn Entropy) -> Plan {
        let mut plan = Plan { requeue: Some(SWEEP), ..Plan::default() };
        let mut deleted = BTreeSet::new();
        for pod in &observed.pods {
            if let Some(why) = forsaken(pod, &observed.nodes, now) {
                if !ended(pod) {
                    plan.actions.push(fail(pod, why, now));
                }
                plan.actions.push(delete(pod));
                deleted.insert(pod.metadata.uid.clone());
            }
        }
        let mut terminated: Vec<&Arc<Pod>> = observed
            .pods
            .iter()
            .filter(|p| ended(p) && p.metadata.deletion_timestamp.is_none() && !deleted.contains(&p.metadata.uid))
            .collect();
        let excess = terminated.len().saturating_sub(self.terminated_pods_max);
        terminated.sort_by_key(|p| (created(p), ObjectKey::of(&p.metadata)));
        plan.actions.extend(terminated.into_iter().take(excess).map(|p| delete(p)));
        plan
    }
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}
fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

/// Why nobody will finish this pod.
fn forsaken(pod: &Pod, nodes: &BTreeSet<String>, now: Timestamp) -> Option<&'static str> {
    let node = node_of(pod);
    if node.is_empty() {
        return pod.metadata.deletion_timestamp.is_some().then_some("pod was deleted before it was scheduled");
    }
    if nodes.contains(node) {
        return None;
    }
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let scheduled = conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled");
    let placed = scheduled.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0).or(created(pod));
    let waited = placed.map_or(i64::MAX, |at| now.as_second() - at.as_second());
    (waited >= QUARANTINE.as_secs() as i64).then_some("PodGC: node no longer exists")
}

fn fail(pod: &Pod, why: &str, now: Timestamp) -> Action {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByPodGC".into()),
        message: Some(why.into()),
        last_transition_time: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
        ..PodCondition::default()
    });
    Action::Patch {
        kind: KindRef::of::<Pod>(),
        key: ObjectKey::of(&pod.metadata),
        subresource: Some("status"),
        patch: json!({ "status": { "phase": "Failed", "conditions": conditions } }),
        preconditions: Preconditions { uid: pod.metadata.uid.clone(), resource_version: None },
    }
}

fn delete(pod: &Pod) -> Action {
    Action::Delete {
        kind: KindRef::of::<Pod>(),
        key: ObjectKey::of(&pod.metadata),
        propagation: None,
        grace_seconds: Some(0),
        preconditions: Preconditions { uid: pod.metadata.uid.clone(), resource_version: None },
    }
}

#[cfg(test)]
mod tests {
    use skiff_reconcile::fixpoint::{Model, settle};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }
    fn pod(name: &str, node: &str, phase: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("default".into());
        pod.spec.get_or_insert_default().node_name = Some(node.into()).filter(|n: &String| !n.is_empty());
        pod.status.get_or_insert_default().phase = Some(phase.into());
        pod
    }
    fn model(pods: Vec<(Pod, i64)>) -> Model {
        let mut model = Model::new();
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(ANCHOR.into());
        model.insert(namespace, at(0));
        let mut node = Node::default();
        node.metadata.name = Some("here".into());
        model.insert(node, at(0));
        for (pod, created) in pods {
            model.insert(pod, at(created));
        }
        model
    }
    fn sweep(model: &mut Model, terminated_pods_max: usize, now: i64) -> String {
        let collector = PodGarbageCollector { terminated_pods_max };
        let plans = settle(&collector, model, &ObjectKey::new("", ANCHOR), at(now)).expect("settles");
        let actions = plans.iter().flat_map(|p| &p.actions).map(|a| match a {
            Action::Patch { key, patch, .. } => format!("fail {key} {}", patch["status"]["phase"]),
            other => other.to_string(),
        });
        actions.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn pods_of_a_missing_node_fail_and_go_after_the_quarantine() {
        let mut model = model(vec![(pod("a", "gone", "Running"), 0), (pod("b", "here", "Running"), 0)]);
        assert_eq!(sweep(&mut model, 10, 39), "");
        assert_eq!(sweep(&mut model, 10, 40), "fail default/a \"Failed\"\ndelete Pod default/a");
        assert_eq!(sweep(&mut model, 10, 80), "");
    }

    #[test]
    fn the_oldest_ended_pods_go_when_they_are_too_many() {
        let mut model = model(vec![
            (pod("new", "here", "Succeeded"), 9),
            (pod("old", "here", "Failed"), 1),
            (pod("older", "here", "Succeeded"), 0),
            (pod("runs", "here", "Running"), 0),
        ]);
        assert_eq!(sweep(&mut model, 1, 10), "delete Pod default/older\ndelete Pod default/old");
    }
}
