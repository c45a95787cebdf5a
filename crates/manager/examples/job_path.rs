//! How fast the control plane alone takes a Job through: API server on the in-memory store, controllers, scheduler and
//! nodes that only pretend. Prints the time, the rate and what each loop did.
//!
//! `cargo run --release -p skiff-manager --example job_path -- [COMPLETIONS] [PARALLELISM] [NODES]`
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{Cluster, key};
use k8s_openapi::api::batch::v1::Job;
use serde_json::json;
use skiff_reconcile::{KindRef, ViewExt};

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>().expect("a number"));
    let completions = args.next().unwrap_or(2000);
    let parallelism = args.next().unwrap_or(200);
    let nodes = args.next().unwrap_or(2);
    let begin = Instant::now();
    let cluster = Cluster::with_nodes(nodes).await;
    println!("ready after {:?}", begin.elapsed());
    let begin = Instant::now();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "sums", "namespace": "default" },
        "spec": {
            "completions": completions, "parallelism": parallelism,
            "template": { "spec": { "containers": [{ "name": "done", "image": "x" }], "restartPolicy": "Never" } },
        },
    });
    cluster.create(KindRef::of::<Job>(), job).await;
    cluster
        .until("the job is complete", |c| {
            let job = c.get::<Job>(&key::<Job>("sums"));
            let status = job.as_ref().and_then(|j| j.status.as_ref());
            status.is_some_and(|s| s.completion_time.is_some())
        })
        .await;
    let took = begin.elapsed();
    println!("{completions} pods in {took:?}: {:.0} pods/s", completions as f64 / took.as_secs_f64());
    println!("{:#?}", cluster.manager.metrics());
    cluster.stop().await;
}
