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
