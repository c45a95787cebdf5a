//! Grace, finalizers, preconditions, propagation.

use serde_json::json;

use crate::support::{CONFIG_MAPS, Server, config_map};

#[tokio::test]
async fn preconditions_and_finalizers_hold() {
    let server = Server::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut map = config_map("a", json!({}));
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let created = server.post(CONFIG_MAPS, &map).await.ok();
    server.delete(&path, &json!({"preconditions": {"uid": "other"}})).await.fails(409, "Conflict");
    let marked = server.delete(&path, &json!({"preconditions": {"uid": created["metadata"]["uid"]}})).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let gone = server.merge(&path, &json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(gone["metadata"]["name"], "a");
    server.get(&path).await.fails(404, "NotFound");
}

#[tokio::test]
async fn propagation_leaves_its_finalizer_for_the_collector() {
    let server = Server::start().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let path = format!("{CONFIG_MAPS}/{finalizer}");
        server.post(CONFIG_MAPS, &config_map(&finalizer.to_lowercase(), json!({}))).await.ok();
        let path = path.to_lowercase();
        let marked = server.delete(&path, &json!({"propagationPolicy": policy})).await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.ok();
    let answer = server.delete(&format!("{CONFIG_MAPS}/b"), &json!({"propagationPolicy": "Background"})).await.ok();
    assert_eq!((answer["kind"].as_str(), answer["status"].as_str()), (Some("Status"), Some("Success")));
    server.delete(&format!("{CONFIG_MAPS}/b"), &json!({"propagationPolicy": "Sideways"})).await.fails(422, "Invalid");
}
