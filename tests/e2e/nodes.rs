//! Several nodes in one process, real and simulated.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::PostParams};
use serde_json::json;
use skiff_testing::{Cluster, eventually};

use crate::tool::wat;

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "runtimeClassName": "wasm", "containers": [
            { "name": "main", "image": "localhost/sleep:latest", "imagePullPolicy": "Never" },
        ] },
    }))
    .unwrap()
}

fn node_of(pod: &Pod) -> String {
    let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
    node.filter(|_| running).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_on_every_wasm_node_and_never_on_a_simulated_one_beside_it() {
    let cluster = Cluster::with(|o| (o.nodes, o.fake_nodes) = (2, 3)).await.unwrap();
    cluster.load("localhost/sleep:latest", wat("sleep.wat")).await.unwrap();
    let nodes = Api::<Node>::all(cluster.client()).list(&Default::default()).await.unwrap();
    assert_eq!(nodes.items.len(), 5);
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let mut used = std::collections::BTreeSet::new();
    for n in 0..8 {
        let name = format!("p{n}");
        pods.create(&PostParams::default(), &pod(&name)).await.unwrap();
        eventually!(!node_of(&pods.get(&name).await.unwrap()).is_empty(), "{name} runs");
        used.insert(node_of(&pods.get(&name).await.unwrap()));
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["skiff-1", "skiff-2"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_simulated_nodes_takes_every_pod() {
    let cluster = Cluster::with(|o| (o.nodes, o.fake_nodes) = (0, 2)).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    eventually!(node_of(&pods.get("p").await.unwrap()).starts_with("fake-"));
    cluster.stop().await;
}
