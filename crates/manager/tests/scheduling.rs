//! Pods find their nodes, and those that cannot say why.

mod common;

use common::{Cluster, key, phase};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde_json::{Value, json};
use skiff_reconcile::{KindRef, ViewExt};

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
        "spec": { "containers": [{ "name": "run", "image": "x", "resources": { "requests": { "cpu": cpu } } }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_says_why_and_is_placed_when_room_comes() {
    let cluster = Cluster::start().await;
    let pods = KindRef::of::<Pod>();
    cluster.create(pods, pod("small", "100m")).await;
    let mut foreign = pod("foreign", "100m");
    foreign["spec"]["schedulerName"] = json!("somebody-else");
    cluster.create(pods, foreign).await;
    cluster.create(pods, pod("huge", "65")).await;
    let condition = |p: &Pod| {
        let conditions = p.status.as_ref().and_then(|s| s.conditions.as_ref());
        let found = conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
        found.map(|c| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()))
    };
    cluster
        .until("the condition", |c| c.get::<Pod>(&key::<Pod>("huge")).is_some_and(|p| condition(&p).is_some()))
        .await;
    let huge = cluster.get::<Pod>("huge").await.expect("the pod");
    let (reason, message) = condition(&huge).expect("the condition");
    assert_eq!(reason, "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
    cluster
        .until("the small one runs", |c| c.get::<Pod>(&key::<Pod>("small")).is_some_and(|p| phase(&p) == "Running"))
        .await;

    let bigger = json!({ "status": { "allocatable": { "cpu": "128" } } });
    let nodes = KindRef::of::<Node>();
    let node = key::<Node>("node-0");
    cluster.rest.merge_patch::<Value>(&nodes, &node, Some("status"), &bigger).await.expect("the node grows");
    cluster
        .until("the huge one runs", |c| c.get::<Pod>(&key::<Pod>("huge")).is_some_and(|p| phase(&p) == "Running"))
        .await;
    let foreign = cluster.get::<Pod>("foreign").await.expect("the pod");
    assert_eq!(foreign.spec.and_then(|s| s.node_name), None, "it names another scheduler");
    eventually_events(&cluster, "huge", &["FailedScheduling", "Scheduled"]).await;
    cluster.stop().await;
}

/// Events are written after the fact and not cached: waits for them with a watch of its own.
async fn eventually_events(cluster: &Cluster, object: &str, reasons: &[&str]) {
    let events = cluster.caches.declare_kind::<Event>();
    events.reached(1).await;
    cluster
        .until("the events", |c| {
            let of_object: Vec<_> = c
                .list::<Event>(Some("default"))
                .into_iter()
                .filter(|e| e.involved_object.name.as_deref() == Some(object))
                .filter_map(|e| e.reason.clone())
                .collect();
            reasons.iter().all(|r| of_object.iter().any(|o| o == r))
        })
        .await;
}
