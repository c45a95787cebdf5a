//! Several nodes in one process, real and simulated.

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{Api, api::PostParams};
use serde_json::json;
use skiff_node::ImageGc;
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

/// The files of compiled modules, and of modules, below a cluster's directory.
fn kept(dir: &std::path::Path) -> (usize, usize) {
    let count = |directory: &str, wanted: fn(&str) -> bool| {
        let path = dir.join("nodes/skiff-1/runtime").join(directory);
        let entries = std::fs::read_dir(path).unwrap().flatten();
        entries.filter(|entry| wanted(&entry.file_name().to_string_lossy())).count()
    };
    (count("compiled", |name| name.len() >= 64), count("images/modules", |_| true))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_images_that_nobody_uses() {
    let cluster = Cluster::with(|options| {
        options.ephemeral = false;
        options.node_limits.lease_renew_s = 1;
        // Any disk is as full as that, and never empty enough.
        options.node_limits.image_gc = ImageGc { high_percent: 0, low_percent: 0, min_age_s: 5 };
    });
    let cluster = cluster.await.unwrap();
    cluster.load("localhost/sleep:latest", wat("sleep.wat")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("sleeper")).await.unwrap();
    eventually!(!node_of(&pods.get("sleeper").await.unwrap()).is_empty());
    cluster.load("localhost/hello:latest", wat("hello.wat")).await.unwrap();
    assert_eq!(kept(cluster.dir()), (2, 2), "both are there, compiled");
    let nodes = Api::<Node>::all(cluster.client());
    let names = || async {
        let status = nodes.get("skiff-1").await.unwrap().status.unwrap();
        let images: Vec<_> =
            status.images.into_iter().flatten().flat_map(|image| image.names.unwrap_or_default()).collect();
        images.into_iter().filter(|name| name.ends_with(":latest")).collect::<Vec<_>>()
    };
    eventually!(names().await.len() == 2, "the node tells of both");
    eventually!(names().await == ["localhost/sleep:latest"], "what nobody uses goes");
    assert_eq!(kept(cluster.dir()), (1, 1), "with its module and what was compiled of it");
    let events = Api::<Event>::default_namespaced(cluster.client());
    let told = |list: kube::core::ObjectList<Event>| {
        let failed = list.items.into_iter().find(|event| event.reason.as_deref() == Some("ImageGCFailed"));
        failed.is_some_and(|event| event.message.unwrap_or_default().contains("only found"))
    };
    eventually!(
        told(events.list(&Default::default()).await.unwrap()),
        "the disk is still not empty, and an event says so"
    );
    // It runs on, and another of its image starts from what is there; one of the other image does not.
    pods.create(&PostParams::default(), &pod("second")).await.unwrap();
    eventually!(!node_of(&pods.get("second").await.unwrap()).is_empty());
    let mut gone = pod("gone");
    gone.spec.as_mut().unwrap().containers[0].image = Some("localhost/hello:latest".to_owned());
    pods.create(&PostParams::default(), &gone).await.unwrap();
    let waits = |pod: &Pod| {
        let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).and_then(|s| s.first());
        let waiting = status.and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default()
    };
    eventually!(waits(&pods.get("gone").await.unwrap()) == "ErrImageNeverPull");
    assert!(!node_of(&pods.get("sleeper").await.unwrap()).is_empty(), "it runs on");
    cluster.stop().await;
}
