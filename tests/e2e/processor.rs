//! A container's share of the processor: what it may use is its limit, whatever it tries.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::wat;

/// Seconds of the processor that a pod has used, as its node tells.
async fn used(cluster: &Cluster, pod: &str) -> f64 {
    let request = http::Request::get("/api/v1/nodes/skiff-1/proxy/stats/summary").body(Vec::new()).unwrap();
    let summary: Value = cluster.client().request(request).await.unwrap();
    let pods = summary["pods"].as_array().cloned().unwrap_or_default();
    let found = pods.iter().find(|found| found["podRef"]["name"] == pod);
    found.and_then(|found| found["containers"][0]["cpu"]["usageCoreNanoSeconds"].as_f64()).unwrap_or_default() / 1e9
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_processor_time_holds() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/loop:latest", &wat("loop.wat")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    for (name, limits) in [("limited", json!({ "cpu": "100m" })), ("free", json!({}))] {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "runtimeClassName": "wasm", "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "main", "image": "localhost/loop:latest", "imagePullPolicy": "Never",
                "resources": { "limits": limits },
            }] },
        }));
        pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    }
    eventually!(used(&cluster, "limited").await > 0.1 && used(&cluster, "free").await > 1.0, "both compute");
    // Read first, so that what comes between counts against it.
    let (limited, free) = (used(&cluster, "limited").await, used(&cluster, "free").await);
    assert!(limited < free / 2.0, "limited to a tenth of a processor: {limited} s, not limited: {free} s");
    cluster.stop().await;
}
