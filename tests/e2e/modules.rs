//! What a pod's annotations ask of its programs' runtime, from the API's end.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::{wasm, wat};

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
async fn a_deterministic_pod_sleeps_in_no_time() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/ticker:latest", wasm("ticker.wasm")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let hours = json!([{ "name": "COUNT", "value": "3" }, { "name": "INTERVAL_MS", "value": "36000000" }]);
    let pod = pod("ticker", "ticker", json!({ "skiff.dev/deterministic": "1" }), hours);
    assert_eq!(log(&pods, &pod).await, "tick 1\ntick 2\ntick 3\n");
    cluster.stop().await;
}
