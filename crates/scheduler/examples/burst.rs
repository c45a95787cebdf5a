//! How long a burst takes: 5,000 equal pods, and 5,000 pods of 50 templates, on 100 nodes.
//! `cargo run --release -p skiff-scheduler --example burst`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use skiff_scheduler::{
    Outcome, PodInfo, ScoringStrategy, Snapshot, default_profile, schedule,
    testing::{node, pod},
};

fn main() {
    for templates in [1, 50, 500] {
        let mut snapshot = Snapshot::new();
        for index in 0..100 {
            snapshot.upsert_node(&node(&format!("node-{index}")).cpu("64").memory("256Gi").build());
        }
        let started = Instant::now();
        let pods: Vec<PodInfo> = (0..5_000)
            .map(|i| pod(&format!("pod-{i}")).cpu(&format!("{}m", 100 + i % templates)).memory("64Mi").info())
            .collect();
        let prepared = started.elapsed();
        let started = Instant::now();
        let decisions = schedule(&pods, &mut snapshot, &default_profile(ScoringStrategy::LeastAllocated));
        let decided = started.elapsed();
        let bound = decisions.iter().filter(|d| matches!(d.outcome, Outcome::Bind { .. })).count();
        println!("{templates:>3} templates: prepared in {prepared:?}, {bound} of {} bound in {decided:?}", pods.len());
    }
}
