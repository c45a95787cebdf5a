use std::time::Duration;

use super::*;
use crate::{
    NodeState, Plugin, ScoringStrategy, default_profile,
    framework::Points,
    testing::{NodeBuilder, PodBuilder, node, pod},
};

fn cluster(nodes: impl IntoIterator<Item = NodeBuilder>) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for node in nodes {
        snapshot.upsert_node(&node.build());
    }
    snapshot
}

/// One line per pod: its node, or why not.
fn check(snapshot: &mut Snapshot, profile: &Profile, pods: &[PodBuilder], expected: &str) {
    let batch: Vec<_> = pods.iter().map(|p| p.clone().info()).collect();
    let lines: Vec<_> = schedule(&batch, snapshot, profile)
        .into_iter()
        .map(|decision| match decision.outcome {
            Outcome::Bind { node, .. } => format!("{} on {node}", decision.pod.name),
            Outcome::Wait { node, plugin, .. } => format!("{} waits for {plugin} on {node}", decision.pod.name),
            Outcome::Placed { node } => format!("{} is on {node}", decision.pod.name),
            Outcome::Unschedulable(rejection) => format!("{}: {}", decision.pod.name, rejection.message),
        })
        .collect();
    assert_eq!(lines.join("\n"), expected);
}

fn profile() -> Profile {
    default_profile(ScoringStrategy::LeastAllocated)
}

#[test]
fn equal_pods_spread_over_equal_nodes() {
    let mut snapshot = cluster(["n1", "n2", "n3"].map(|n| node(n).cpu("4").memory("4Gi")));
    let pods: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| pod(n).cpu("1")).collect();
    check(&mut snapshot, &profile(), &pods, "a on n1\nb on n2\nc on n3\nd on n1");
}

#[test]
fn most_allocated_fills_a_node_before_the_next() {
    let mut snapshot = cluster(["n1", "n2"].map(|n| node(n).cpu("2").memory("4Gi")));
    let pods: Vec<_> = ["a", "b", "c"].iter().map(|n| pod(n).cpu("1").memory("1Gi")).collect();
    check(&mut snapshot, &default_profile(ScoringStrategy::MostAllocated), &pods, "a on n1\nb on n1\nc on n2");
}

#[test]
fn the_message_counts_nodes_by_reason_as_kube_scheduler_does() {
    let mut snapshot = cluster([
        node("small").cpu("500m").memory("1Gi"),
        node("red").cpu("8").memory("8Gi").taint("team", "red", "NoSchedule"),
        node("blue").cpu("8").memory("8Gi").taint("team", "blue", "NoExecute"),
        node("cordoned").cpu("8").memory("8Gi").cordoned(),
    ]);
    check(
        &mut snapshot,
        &profile(),
        &[pod("a").cpu("1").memory("2Gi")],
        "a: 0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) were unschedulable, \
         2 node(s) had untolerated taint(s). preemption: 0/4 nodes are available: 4 Preemption is not helpful for \
         scheduling.",
    );
}

#[test]
fn preemption_is_only_spoken_of_where_the_statement_is_true() {
    let mut snapshot = cluster([node("n").cpu("1").memory("1Gi")]);
    let full = "0/1 nodes are available: 1 Insufficient cpu.";
    check(
        &mut snapshot,
        &profile(),
        &[pod("a").cpu("1"), pod("equal").cpu("1"), pod("higher").cpu("1").priority(9)],
        &format!(
            "a on n\nequal: {full} preemption: 0/1 nodes are available: 1 No preemption victims found for incoming \
             pod.\nhigher: {full}"
        ),
    );
}

#[test]
fn without_nodes_the_pod_waits_for_one() {
    let mut snapshot = cluster([]);
    check(&mut snapshot, &profile(), &[pod("a")], "a: no nodes available to schedule pods");
}

#[test]
fn a_pod_that_has_a_node_is_not_decided_again() {
    let mut snapshot = cluster([node("n")]);
    check(&mut snapshot, &profile(), &[pod("a"), pod("a")], "a on n\na is on n");
}

#[test]
fn preferences_outweigh_free_room_and_avoided_taints_outweigh_preferences() {
    let mut snapshot = cluster([
        node("free").cpu("4").memory("4Gi"),
        node("liked").cpu("4").memory("4Gi").label("disk", "ssd"),
        node("avoided").cpu("4").memory("4Gi").label("disk", "ssd").taint("k", "v", "PreferNoSchedule"),
    ]);
    let picky = |name| pod(name).cpu("2").prefer(1, "disk", "In", &["ssd"]);
    check(&mut snapshot, &profile(), &[picky("a"), picky("b"), picky("c")], "a on liked\nb on liked\nc on free");
}

#[test]
fn rejections_declare_what_could_help() {
    let mut snapshot = cluster([node("n").cpu("1").taint("k", "v", "NoSchedule")]);
    let decision = schedule(&[pod("a").info()], &mut snapshot, &profile()).remove(0);
    let Outcome::Unschedulable(rejection) = decision.outcome else { panic!("{decision:?}") };
    assert_eq!(rejection.plugins, ["TaintToleration"]);
    assert!(rejection.events.intersects(crate::Events::NODE_TAINT));
    assert!(!rejection.events.intersects(crate::Events::ASSIGNED_POD_DELETE));
}

/// Lets pods whose name starts with `wait` wait, and rejects those that start with `no`.
struct Gatekeeper;
impl Plugin for Gatekeeper {
    fn name(&self) -> &'static str {
        "Gatekeeper"
    }
    fn points(&self) -> Points {
        Points { reserve: true, permit: true, ..Points::default() }
    }
    fn reserve(&self, pod: &PodInfo, _: &NodeState) -> Verdict {
        if pod.name.starts_with("full") { Verdict::Unschedulable(vec!["no ticket".into()]) } else { Verdict::Fit }
    }
    fn permit(&self, pod: &PodInfo, _: &NodeState) -> Permit {
        match &pod.name[..2] {
            "wa" => Permit::Wait(Duration::from_secs(5)),
            "no" => Permit::Reject("not allowed".into()),
            _ => Permit::Allow,
        }
    }
}

#[test]
fn reserve_and_permit_have_the_last_word() {
    let mut profile = profile();
    profile.plugins.push((Box::new(Gatekeeper), 0));
    let mut snapshot = cluster([node("n").cpu("2").memory("1Gi")]);
    let pods = ["wait", "no", "full", "yes"].map(|n| pod(n).cpu("1"));
    check(
        &mut snapshot,
        &profile,
        &pods,
        "wait waits for Gatekeeper on n\nno: 0/1 nodes are available: 1 not allowed.\n\
         full: 0/1 nodes are available: 1 no ticket.\nyes on n",
    );
    // Who waits keeps its room; who was rejected took none.
    assert_eq!(snapshot.node("n").map(|n| n.requested.milli_cpu), Some(2000));
}
