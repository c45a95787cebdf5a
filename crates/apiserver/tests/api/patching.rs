//! The four patches, and who owns which field.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, Server, config_map};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "one", "image": "i" }, { "name": "two", "image": "i" }] },
            },
        },
    })
}

#[tokio::test]
async fn json_and_strategic_patches() {
    let server = Server::start().await;
    let made = server.post(DEPLOYMENTS, &deployment()).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/d");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "new"}]}}}});
    let patched = server.patch(&path, "application/strategic-merge-patch+json", &patch).await.ok();
    let images: Vec<_> = patched["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["image"].clone())
        .collect();
    assert_eq!(images, [json!("i"), json!("new")]);
    assert_eq!(patched["metadata"]["generation"], 2);

    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let patched = server.patch(&path, "application/json-patch+json", &patch).await.ok();
    assert_eq!(patched["spec"]["replicas"], 3);
    server.patch(&path, "application/json-patch+json", &patch).await.fails(422, "Invalid");
    server.patch(&path, "application/json", &patch).await.fails(415, "UnsupportedMediaType");

    // A result that is not valid names the field.
    let bad = server.merge(&path, &json!({"spec": {"replicas": -1}})).await.fails(422, "Invalid");
    assert_eq!(bad["details"]["causes"][0]["field"], "spec.replicas");
    let strict = format!("{path}?fieldValidation=Strict");
    server.merge(&strict, &json!({"spec": {"replcas": 1}})).await.fails(400, "BadRequest");
    let warned = server.merge(&path, &json!({"spec": {"replcas": 1}})).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.replcas\\\"\""]);
    assert_eq!(warned.ok()["metadata"]["generation"], 3);
}

#[tokio::test]
async fn apply_owns_what_it_names() {
    let server = Server::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let apply = |manager: &str, force: bool, data: Value| {
        let path = format!("{path}?fieldManager={manager}&force={force}");
        let server = &server;
        async move { server.patch(&path, "application/apply-patch+yaml", &config_map("a", data)).await }
    };
    let created = apply("one", false, json!({"x": "1", "y": "1"})).await;
    assert_eq!(created.code, 201);
    let again = apply("one", false, json!({"x": "1", "y": "1"})).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.ok()["metadata"]["resourceVersion"], created.body["metadata"]["resourceVersion"]);
    apply("two", false, json!({"x": "2"})).await.fails(409, "Conflict");
    let forced = apply("two", true, json!({"x": "2"})).await.ok();
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
    // What it no longer names goes; what the other has taken stays.
    let less = apply("one", false, json!({})).await.ok();
    assert_eq!(less["data"], json!({"x": "2"}));
    let no_manager = server.patch(&path, "application/apply-patch+yaml", &config_map("a", json!({}))).await;
    no_manager.fails(422, "Invalid");
}

/// Defaults and canonical forms that the server adds are nobody's, and no reason to write or to conflict again.
#[tokio::test]
async fn applying_a_deployment_again_changes_nothing() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let deployment = |image: &str, more: Value| {
        let mut containers = vec![json!({
            "name": "web", "image": image, "ports": [{ "containerPort": 80 }],
            "resources": { "requests": { "cpu": "1000m" } },
            "livenessProbe": { "httpGet": { "path": "/", "port": 80 } },
        })];
        containers.extend(more.as_array().cloned().unwrap_or_default());
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "labels": { "app": "web" } },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": containers } },
            },
        })
    };
    let apply = async |manager: &str, object: &Value| {
        let path = format!("{path}?fieldManager={manager}");
        server.patch(&path, "application/apply-patch+yaml", object).await
    };
    let sidecar = json!([{ "name": "sidecar", "image": "b" }]);
    let created = apply("one", &deployment("a", sidecar.clone())).await.ok();
    assert_eq!(created["spec"]["replicas"], 1, "it was defaulted: {created}");
    let again = apply("one", &deployment("a", sidecar)).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    // Somebody scales, which the applier never spoke of.
    server.merge(&format!("{path}?fieldManager=scaler"), &json!({ "spec": { "replicas": 4 } })).await.ok();
    let less = apply("one", &deployment("c", json!([]))).await.ok();
    assert_eq!(less["spec"]["replicas"], 4);
    let containers = less["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "the sidecar went with all its defaults: {containers:?}");
    assert_eq!(containers[0]["image"], "c");
    let mut scaled = deployment("c", json!([]));
    scaled["spec"]["replicas"] = 2.into();
    let refused = apply("one", &scaled).await.fails(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldManagerConflict");
}
