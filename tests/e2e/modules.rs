//! What a pod's annotations ask of its programs' runtime, from the API's end.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::{Kubectl, root, wasm, wat};

fn pod(name: &str, image: &str, annotations: Value, env: Value) -> Pod {
    let image = format!("localhost/{image}:latest");
    serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never", "containers": [
            { "name": "main", "image": image, "imagePullPolicy": "Never", "env": env },
        ] },
    }))
    .unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn waiting(pod: &Pod) -> String {
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).and_then(|s| s.first());
    let waiting = status.and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.clone()).unwrap_or_default();
    format!("{}: {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}

/// Runs it to its success and gives its log.
async fn log(pods: &Api<Pod>, pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap();
    pods.create(&PostParams::default(), pod).await.unwrap();
    eventually!(phase(&pods.get(name).await.unwrap()) == "Succeeded", "{name} succeeds");
    pods.logs(name, &Default::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_and_secrets_are_read_by_key() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/stores:latest", wat("stores.wat")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let annotations = json!({ "skiff.dev/config": "secret/words", "skiff.dev/keyvalue": "configmap/texts" });
    pods.create(&PostParams::default(), &pod("early", "stores", annotations.clone(), json!([]))).await.unwrap();
    let told = |pod: &Pod| waiting(pod).starts_with("CreateContainerConfigError") && waiting(pod).contains("not found");
    eventually!(told(&pods.get("early").await.unwrap()), "what is not there is named");

    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "texts" }, "data": { "a": "text\n" } })).unwrap();
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map).await.unwrap();
    let secret: Secret =
        serde_json::from_value(json!({ "metadata": { "name": "words" }, "stringData": { "greeting": "hello\n" } }))
            .unwrap();
    Api::<Secret>::default_namespaced(cluster.client()).create(&PostParams::default(), &secret).await.unwrap();
    eventually!(phase(&pods.get("early").await.unwrap()) == "Succeeded", "it is tried again");
    let second = log(&pods, &pod("second", "stores", annotations, json!([]))).await;
    assert_eq!(second, "hello\n2\ntext\ndenied\n", "the count is kept from pod to pod");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_by_key_follows_the_api() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/follow:latest", wat("stores-follow.wat")).await.unwrap();
    let client = cluster.client();
    let (maps, secrets) = (Api::<ConfigMap>::default_namespaced(client.clone()), Api::default_namespaced(client));
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let map = |value: &str| json!({ "metadata": { "name": "texts" }, "data": { "a": value } });
    let secret = |value: &str| json!({ "metadata": { "name": "words" }, "stringData": { "greeting": value } });
    maps.create(&PostParams::default(), &serde_json::from_value(map("a1\n")).unwrap()).await.unwrap();
    let first: Secret = serde_json::from_value(secret("g1\n")).unwrap();
    secrets.create(&PostParams::default(), &first).await.unwrap();
    let annotations = json!({ "skiff.dev/config": "secret/words", "skiff.dev/keyvalue": "configmap/texts" });
    let mut follow = pod("follow", "follow", annotations, json!([]));
    // It has no volume at all: what it reads by key is followed for itself.
    follow.spec.as_mut().unwrap().automount_service_account_token = Some(false);
    pods.create(&PostParams::default(), &follow).await.unwrap();
    let tail = || async {
        let log = pods.logs("follow", &Default::default()).await.unwrap_or_default();
        log.lines().rev().take(2).map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let shows = |words: [&str; 2]| words.map(str::to_owned).into();
    eventually!(tail().await == shows(["a1", "g1"]));
    let changed = std::time::Instant::now();
    secrets.patch("words", &PatchParams::default(), &Patch::Merge(secret("g2\n"))).await.unwrap();
    eventually!(tail().await == shows(["a1", "g2"]), "a Secret is followed");
    println!("a Secret's change was read after {:?}", changed.elapsed());
    maps.patch("texts", &PatchParams::default(), &Patch::Merge(map("a2\n"))).await.unwrap();
    eventually!(tail().await == shows(["a2", "g2"]), "a ConfigMap is followed");
    // What is gone stays as it was, and an event says so.
    maps.delete("texts", &Default::default()).await.unwrap();
    let events = Api::<k8s_openapi::api::core::v1::Event>::default_namespaced(cluster.client());
    let told = |list: kube::core::ObjectList<k8s_openapi::api::core::v1::Event>| {
        list.items.iter().any(|event| event.message.as_deref().unwrap_or_default().contains("\"texts\" not found"))
    };
    eventually!(told(events.list(&Default::default()).await.unwrap()), "an event tells what is gone");
    assert_eq!(tail().await, shows(["a2", "g2"]));
    let restarts = pods.get("follow").await.unwrap().status.unwrap().container_statuses.unwrap()[0].restart_count;
    assert_eq!(restarts, 0, "one container saw it all");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtrace_tells_file_and_line_where_it_is_asked_for() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/fault:latest", root().join("wasm-examples/c/fault.wasm")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    for (name, annotations, told) in
        [("lines", json!({ "skiff.dev/backtrace": "source" }), true), ("plain", json!({}), false)]
    {
        pods.create(&PostParams::default(), &pod(name, "fault", annotations, json!([]))).await.unwrap();
        eventually!(phase(&pods.get(name).await.unwrap()) == "Failed");
        let status = pods.get(name).await.unwrap().status.unwrap().container_statuses.unwrap().remove(0);
        let end = status.state.unwrap().terminated.unwrap();
        let message = end.message.unwrap();
        assert_eq!(end.exit_code, 136, "{message}");
        for (function, line) in [("share", "fault.c:7:"), ("shares", "fault.c:11:"), ("_start", "fault.c:16:")] {
            assert!(message.contains(function), "{function}: {message}");
            assert_eq!(message.contains(line), told, "{line}: {message}");
        }
        println!("{name}: {message}");
    }
    if let Some(kubectl) = Kubectl::of(&cluster) {
        let described = kubectl.ok(&["describe", "pod", "lines"]).await;
        assert!(described.contains("fault.c:7:"), "{described}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deterministic_pod_sleeps_in_no_time() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/ticker:latest", wasm("ticker.wasm")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let hours = json!([{ "name": "COUNT", "value": "3" }, { "name": "INTERVAL_MS", "value": "36000000" }]);
    let pod = pod("ticker", "ticker", json!({ "skiff.dev/deterministic": "1" }), hours);
    assert_eq!(log(&pods, &pod).await, "tick 1\ntick 2\ntick 3\n");
    cluster.stop().await;
}
