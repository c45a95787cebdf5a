//! Guests that misbehave: each ends with a message that says why, and its neighbour does not notice.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::{wasm, wat};

fn pod(name: &str, image: &str, extra: Value) -> Pod {
    let mut container = json!({ "name": "main", "image": image, "imagePullPolicy": "IfNotPresent" });
    for (key, value) in extra.as_object().unwrap() {
        container[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never", "containers": [container] },
    }))
    .unwrap()
}

fn ended(pod: &Pod) -> Option<ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.clone()
}

fn waiting(pod: &Pod) -> String {
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).and_then(|s| s.first());
    let waiting = status.and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.clone()).unwrap_or_default();
    format!("{}: {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}

async fn run(cluster: &Cluster, pod: Pod) -> ContainerStateTerminated {
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let name = pod.metadata.name.clone().unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    eventually!(ended(&pods.get(&name).await.unwrap()).is_some(), "{name} ends");
    ended(&pods.get(&name).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_and_traps_are_told_apart() {
    let cluster = Cluster::start().await.unwrap();
    for (name, file) in [("hello", "hello.wat"), ("trap", "trap.wat")] {
        cluster.load(&format!("localhost/{name}:latest"), wat(file)).await.unwrap();
    }
    cluster.load("localhost/exit-code:latest", wasm("exit-code.wasm")).await.unwrap();
    let end = run(&cluster, pod("fine", "localhost/hello:latest", json!({}))).await;
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    let end = run(&cluster, pod("three", "localhost/exit-code:latest", json!({ "args": ["3"] }))).await;
    assert_eq!((end.exit_code, end.reason.as_deref()), (3, Some("Error")));
    let end = run(&cluster, pod("trap", "localhost/trap:latest", json!({}))).await;
    assert!(end.exit_code > 128 && end.reason.as_deref() == Some("Error"), "{end:?}");
    assert!(end.message.unwrap_or_default().contains("unreachable"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_over_its_memory_is_killed_and_says_so() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/grow:latest", wat("memory-growth.wat")).await.unwrap();
    let limits = json!({ "resources": { "limits": { "memory": "4Mi" } } });
    let end = run(&cluster, pod("grow", "localhost/grow:latest", limits)).await;
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("OOMKilled")));
    assert!(end.message.unwrap_or_default().contains("4194304"), "the limit is in the message");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_loops_leave_room_for_neighbours_and_die_when_deleted() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/loop:latest", wat("loop.wat")).await.unwrap();
    cluster.load("localhost/hello:latest", wat("hello.wat")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    for n in 0..4 {
        pods.create(&PostParams::default(), &pod(&format!("loop-{n}"), "localhost/loop:latest", json!({})))
            .await
            .unwrap();
    }
    let running = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    for n in 0..4 {
        eventually!(running(&pods.get(&format!("loop-{n}")).await.unwrap()));
    }
    let end = run(&cluster, pod("neighbour", "localhost/hello:latest", json!({}))).await;
    assert_eq!(end.exit_code, 0);
    for n in 0..4 {
        pods.delete(&format!("loop-{n}"), &Default::default()).await.unwrap();
    }
    eventually!(pods.list(&Default::default()).await.unwrap().items.len() == 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_run_say_why() {
    let cluster = Cluster::start().await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let never = json!({ "imagePullPolicy": "Never" });
    for (name, image, extra, expected) in [
        ("absent", "localhost/absent:latest", never, "ErrImageNeverPull"),
        ("name", "UPPER/Case:latest", json!({}), "InvalidImageName"),
        ("refused", "127.0.0.1:1/x:latest", json!({}), "ErrImagePull|ImagePullBackOff"),
    ] {
        pods.create(&PostParams::default(), &pod(name, image, extra)).await.unwrap();
        let fits = |text: &str| expected.split('|').any(|e| text.starts_with(e));
        eventually!(fits(&waiting(&pods.get(name).await.unwrap())), "{name} says {expected}");
    }
    let import = cluster.dir().join("import.wat");
    std::fs::write(&import, r#"(module (import "mystery" "thing" (func)) (func (export "_start")))"#).unwrap();
    cluster.load("localhost/import:latest", &import).await.unwrap();
    pods.create(&PostParams::default(), &pod("import", "localhost/import:latest", json!({}))).await.unwrap();
    let told = |p: &Pod| {
        let text = waiting(p) + &ended(p).and_then(|e| e.message).unwrap_or_default();
        text.contains("mystery") && text.contains("thing")
    };
    eventually!(told(&pods.get("import").await.unwrap()), "the unsatisfied import is named");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_flood_is_rotated_and_harms_nobody() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/flood:latest", wat("log-flood.wat")).await.unwrap();
    cluster.load("localhost/hello:latest", wat("hello.wat")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("flood", "localhost/flood:latest", json!({}))).await.unwrap();
    assert_eq!(run(&cluster, pod("neighbour", "localhost/hello:latest", json!({}))).await.exit_code, 0);
    pods.delete("flood", &Default::default()).await.unwrap();
    eventually!(pods.get_opt("flood").await.unwrap().is_none());
    cluster.stop().await;
}
