//! A node's stories, in process, against the fake runtime and the real API server.

mod cluster;

use cluster::{Cluster, key, summary};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use serde_json::json;
use skiff_reconcile::{KindRef, ObjectKey};

#[tokio::test]
async fn a_bound_pod_runs_to_its_end() {
    let c = Cluster::start().await;
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] });
    c.run("job", spec, json!({ "fake.skiff.dev/exit-after": "20ms" })).await;
    let running = c.phase("job", "Running").await;
    assert_eq!(summary(&running), "Running; a=running x0");
    let status = running.status.clone().expect("a status");
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    assert!(
        status.container_statuses.expect("statuses")[0].container_id.clone().expect("an id").starts_with("fake://")
    );
    let done = c.phase("job", "Succeeded").await;
    assert_eq!(summary(&done), "Succeeded; a=Completed(0) x0");
    for (reason, text) in [
        ("Pulled", "Container image \"x\" already present on machine"),
        ("Created", "Container created"),
        ("Started", "Container started"),
    ] {
        c.event("job", reason, text).await;
    }
}

#[tokio::test]
async fn a_node_registers_with_what_it_has() {
    let c = Cluster::with(|config| {
        config.capacity.insert("cpu".into(), "7".into());
        config.labels.insert("zone".into(), "a".into());
        config.pods_max = Some(5);
    })
    .await;
    let node: Node = c.rest.get(&KindRef::of::<Node>(), &ObjectKey::new("", "node-1")).await.expect("a node");
    let labels = node.metadata.labels.expect("labels");
    assert_eq!((labels["zone"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("a", "node-1"));
    let status = node.status.expect("a status");
    let allocatable = status.allocatable.expect("allocatable");
    assert_eq!((allocatable["cpu"].0.as_str(), allocatable["pods"].0.as_str()), ("7", "5"));
    let conditions = status.conditions.expect("conditions");
    let ready = conditions.iter().find(|c| c.type_ == "Ready").expect("Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
    let handlers = status.runtime_handlers.expect("handlers");
    assert!(handlers.iter().any(|h| h.name.as_deref() == Some("wasmtime")));
}

#[tokio::test]
async fn a_deleted_pod_ends_and_leaves_the_api() {
    let c = Cluster::start().await;
    c.run("web", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("web", "Running").await;
    c.delete("web", 30).await;
    c.gone("web").await;
    c.event("web", "Killing", "Stopping container a").await;
}

#[tokio::test]
async fn a_missing_config_map_is_waited_for_and_used_at_once() {
    let c = Cluster::start().await;
    let env = json!([{ "name": "K", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "k" } } }]);
    c.run("app", json!({ "containers": [{ "name": "a", "image": "x", "env": env }] }), json!({})).await;
    let waiting = |s: &k8s_openapi::api::core::v1::PodStatus| {
        let state = s.container_statuses.as_ref().and_then(|c| c[0].state.clone()).and_then(|s| s.waiting);
        state.is_some_and(|w| w.reason.as_deref() == Some("CreateContainerConfigError"))
    };
    c.until("app", "waiting for its configuration", waiting).await;
    c.event("app", "Failed", "configmap \"c\" not found").await;
    c.create(
        KindRef::of::<ConfigMap>(),
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "c", "namespace": "default" }, "data": { "k": "v" } }),
    )
    .await;
    assert_eq!(summary(&*c.phase("app", "Running").await), "Running; a=running x0");
}

#[tokio::test]
async fn an_object_that_is_forced_away_is_cleaned_up() {
    let c = Cluster::start().await;
    c.run("web", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("web", "Running").await;
    c.delete("web", 0).await;
    c.gone("web").await;
    c.event("web", "Killing", "Stopping container a").await;
    let _ = key("web");
}
