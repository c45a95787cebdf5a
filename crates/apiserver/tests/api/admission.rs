//! What a new pod gets from the cluster, and what it may not have.

use serde_json::{Value, json};

use crate::support::{PODS, Server, pod};

fn with(name: &str, field: &str, value: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"][field] = value;
    pod
}

#[tokio::test]
async fn a_runtime_class_must_exist_and_brings_its_overhead_and_place() {
    let server = Server::start().await;
    let refused = server.post(PODS, &with("a", "runtimeClassName", json!("none"))).await.fails(403, "Forbidden");
    assert_eq!(refused["message"], "pods \"a\" is forbidden: pod rejected: RuntimeClass \"none\" not found");
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "heavy"}, "handler": "h",
        "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"kind": "wasm"}, "tolerations": [{"key": "wasm", "operator": "Exists"}]},
    });
    server.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.ok();
    let made = server.post(PODS, &with("b", "runtimeClassName", json!("heavy"))).await.ok();
    assert_eq!(made["spec"]["overhead"]["memory"], "64Mi");
    assert_eq!(made["spec"]["nodeSelector"]["kind"], "wasm");
    assert_eq!(made["spec"]["tolerations"][0]["key"], "wasm");
    let mut elsewhere = with("c", "runtimeClassName", json!("heavy"));
    elsewhere["spec"]["nodeSelector"] = json!({"kind": "linux"});
    server.post(PODS, &elsewhere).await.fails(403, "Forbidden");
    // Those by which manifests of other runtimes name theirs are there from the start.
    server.post(PODS, &with("d", "runtimeClassName", json!("wasmtime-spin-v2"))).await.ok();
}

#[tokio::test]
async fn a_priority_comes_from_its_class() {
    let server = Server::start().await;
    let critical = server.post(PODS, &with("a", "priorityClassName", json!("system-node-critical"))).await.ok();
    assert_eq!(critical["spec"]["priority"], 2_000_001_000_i64);
    server.post(PODS, &with("b", "priorityClassName", json!("none"))).await.fails(403, "Forbidden");
    server.post(PODS, &with("c", "priority", json!(7))).await.fails(403, "Forbidden");
    let plain = server.post(PODS, &pod("d")).await.ok();
    assert_eq!(
        (&plain["spec"]["priority"], &plain["spec"]["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "usual"},
        "value": 5, "globalDefault": true,
    });
    server.post(classes, &class).await.ok();
    // The default is followed by a watch: it takes effect soon.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    for i in 0.. {
        let made = server.post(PODS, &pod(&format!("e{i}"))).await.ok();
        if made["spec"]["priorityClassName"] == "usual" {
            assert_eq!(made["spec"]["priority"], 5);
            break;
        }
        assert!(std::time::Instant::now() < patience, "the default class has no effect");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn own_tolerations_are_respected() {
    let server = Server::start().await;
    let own = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    let made = server.post(PODS, &with("a", "tolerations", own)).await.ok();
    let seconds: Vec<_> =
        made["spec"]["tolerations"].as_array().unwrap().iter().map(|t| t["tolerationSeconds"].clone()).collect();
    assert_eq!(seconds, [json!(5), json!(300)]);
    let named = server.post(PODS, &with("b", "serviceAccountName", json!("robot"))).await.ok();
    assert_eq!(
        (&named["spec"]["serviceAccountName"], &named["spec"]["serviceAccount"]),
        (&json!("robot"), &json!("robot"))
    );
}
