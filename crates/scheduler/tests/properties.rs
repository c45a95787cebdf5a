//! Random clusters and random pods: no node is over-committed, a batch equals one pod at a time, runs are repeatable.

use proptest::prelude::*;
use skiff_scheduler::{
    Decision, Outcome, PodInfo, ScoringStrategy, Snapshot, default_profile, schedule,
    testing::{NodeBuilder, PodBuilder, node, pod},
};

fn nodes() -> impl Strategy<Value = Vec<NodeBuilder>> {
    let one = (1..8u32, 1..8u32, 1..6u32, 0..4u8, 0..3u8);
    prop::collection::vec(one, 1..8).prop_map(|specs| {
        let build = |(index, (cpu, memory, pods, taint, zone)): (usize, (u32, u32, u32, u8, u8))| {
            let node = node(&format!("n{index}"))
                .cpu(&cpu.to_string())
                .memory(&format!("{memory}Gi"))
                .pods(pods)
                .label("zone", &zone.to_string());
            match taint {
                0 => node.taint("k", "v", "NoSchedule"),
                1 => node.taint("k", "v", "PreferNoSchedule"),
                _ => node,
            }
        };
        specs.into_iter().enumerate().map(build).collect()
    })
}

fn pods() -> impl Strategy<Value = Vec<PodInfo>> {
    let one = (0..4u32, 0..3u32, 0..6u8, 0..40u16);
    prop::collection::vec(one, 1..40).prop_map(|specs| {
        let build = |(index, (cpu, memory, kind, port)): (usize, (u32, u32, u8, u16))| {
            let pod: PodBuilder =
                pod(&format!("p{index}")).cpu(&format!("{}m", cpu * 700)).memory(&format!("{memory}Gi"));
            let pod = match kind {
                0 => pod.tolerate("k", "Exists", "", ""),
                1 => pod.node_selector("zone", "1"),
                2 => pod.prefer(7, "zone", "In", &["2"]).prefer(3, "zone", "In", &["1"]),
                3 if port < 3 => pod.host_port("", "TCP", 8000 + i32::from(port)),
                _ => pod,
            };
            pod.info()
        };
        specs.into_iter().enumerate().map(build).collect()
    })
}

fn snapshot(nodes: &[NodeBuilder]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for node in nodes {
        snapshot.upsert_node(&node.clone().build());
    }
    snapshot
}

fn strategy(most: bool) -> ScoringStrategy {
    if most { ScoringStrategy::MostAllocated } else { ScoringStrategy::LeastAllocated }
}

proptest! {
    #[test]
    fn a_batch_equals_one_pod_at_a_time(nodes in nodes(), pods in pods(), most: bool) {
        let profile = default_profile(strategy(most));
        let together = schedule(&pods, &mut snapshot(&nodes), &profile);
        let mut one_by_one = snapshot(&nodes);
        let apart: Vec<Decision> =
            pods.iter().flat_map(|p| schedule(std::slice::from_ref(p), &mut one_by_one, &profile)).collect();
        prop_assert_eq!(&together, &apart);
        // And once more: nothing depends on anything but the input, nor on the order in which nodes were seen.
        let reversed: Vec<_> = nodes.iter().rev().cloned().collect();
        prop_assert_eq!(&together, &schedule(&pods, &mut snapshot(&reversed), &profile));
    }

    #[test]
    fn no_node_is_over_committed_and_the_sums_are_true(nodes in nodes(), pods in pods(), most: bool) {
        let profile = default_profile(strategy(most));
        let mut snapshot = snapshot(&nodes);
        let decisions = schedule(&pods, &mut snapshot, &profile);
        let on = |name: &str| -> Vec<&PodInfo> {
            let here = |d: &&Decision| matches!(&d.outcome, Outcome::Bind { node, .. } if **node == *name);
            decisions.iter().filter(here).map(|d| &d.pod).collect()
        };
        for node in snapshot.nodes() {
            let here = on(&node.name);
            let cpu: i64 = here.iter().map(|p| p.template.request.milli_cpu).sum();
            let memory: i64 = here.iter().map(|p| p.template.request.memory).sum();
            prop_assert_eq!((cpu, memory, here.len() as i64), (node.requested.milli_cpu, node.requested.memory, node.pods));
            prop_assert!(cpu <= node.allocatable.milli_cpu && memory <= node.allocatable.memory);
            prop_assert!(node.pods <= node.allocatable_pods);
            let ports: Vec<_> = here.iter().flat_map(|p| &p.template.host_ports).collect();
            for (at, port) in ports.iter().enumerate() {
                prop_assert!(!ports[at + 1..].iter().any(|other| other.conflicts(port)));
            }
        }
        // Forgetting everything leaves nothing behind.
        for pod in &pods {
            snapshot.forget(&pod.uid);
        }
        for node in snapshot.nodes() {
            prop_assert!(node.requested.is_zero() && node.pods == 0 && node.host_ports.is_empty());
        }
    }
}
