//! Create, read, update, patch: one object.

use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{CONFIG_MAPS, PODS, Server, config_map, pod};

#[tokio::test]
async fn an_object_lives() {
    let server = Server::start().await;
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "1"}))).await;
    assert_eq!(created.code, StatusCode::CREATED);
    let created = created.ok();
    assert!(created["metadata"]["uid"].as_str().is_some_and(|u| u.len() == 36));
    assert!(created["metadata"]["creationTimestamp"].as_str().is_some_and(|t| t.ends_with('Z')));
    assert_eq!(created["metadata"]["namespace"], "default");
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(server.get(&path).await.ok(), created);

    // The same again is refused; the same as an update changes nothing, not even the revision.
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.fails(409, "AlreadyExists");
    assert_eq!(server.put(&path, &created).await.ok(), created);

    let mut changed = created.clone();
    changed["data"]["k"] = json!("2");
    let updated = server.put(&path, &changed).await.ok();
    assert_eq!(updated["data"]["k"], "2");
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    server.put(&path, &changed).await.fails(409, "Conflict");

    // Without uid and revision the identity is kept.
    let bare = server.put(&path, &config_map("a", json!({"k": "3"}))).await.ok();
    assert_eq!(bare["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(bare["metadata"]["creationTimestamp"], created["metadata"]["creationTimestamp"]);

    let patched = server.merge(&path, &json!({"data": {"k": null, "l": "x"}})).await.ok();
    assert_eq!(patched["data"], json!({"l": "x"}));
    server.merge(&path, &json!({"metadata": {"resourceVersion": "1"}})).await.fails(409, "Conflict");
    server.put(&format!("{CONFIG_MAPS}/b"), &config_map("b", json!({}))).await.fails(404, "NotFound");
    server.put(&path, &config_map("b", json!({}))).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn kube_works_unchanged() {
    let server = Server::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut map = ConfigMap::default();
    map.metadata.generate_name = Some("gen-".to_owned());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let name = made.metadata.name.unwrap();
    assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
    let patch = json!({"data": {"a": "b"}});
    let patched = maps.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.data.unwrap()["a"], "b");
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.get_opt("missing").await.unwrap().is_none());
}

#[tokio::test]
async fn concurrent_patches_of_one_object_all_land() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.ok();
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..32).map(|i| {
        let (server, path) = (&server, &path);
        async move { server.merge(path, &json!({"data": {(format!("k{i}")): "v"}})).await.ok() }
    });
    futures::future::join_all(patches).await;
    let all = server.get(&path).await.ok();
    assert_eq!(all["data"].as_object().unwrap().len(), 32);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let server = Server::start().await;
    let before = skiff_store::Store::revision(server.store.as_ref());
    let dry = server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", json!({}))).await.ok();
    assert!(dry["metadata"]["uid"].is_string());
    server.post(&format!("{CONFIG_MAPS}?dryRun=Yes"), &config_map("a", json!({}))).await.fails(422, "Invalid");
    server.get(&format!("{CONFIG_MAPS}/a")).await.fails(404, "NotFound");
    assert_eq!(skiff_store::Store::revision(server.store.as_ref()), before);
}

#[tokio::test]
async fn namespaces_guard_their_content() {
    let server = Server::start().await;
    let missing = server.post("/api/v1/namespaces/none/configmaps", &config_map("a", json!({}))).await;
    assert_eq!(missing.fails(404, "NotFound")["message"], "namespaces \"none\" not found");
    server.delete("/api/v1/namespaces/default", &json!(null)).await.fails(403, "Forbidden");
    let ns = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
    server.post("/api/v1/namespaces", &ns).await.ok();
    let marked = server.delete("/api/v1/namespaces/n", &json!(null)).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = server.post("/api/v1/namespaces/n/configmaps", &config_map("a", json!({}))).await;
    let refused = refused.fails(403, "Forbidden");
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let done = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {"finalizers": []}});
    server.put("/api/v1/namespaces/n/finalize", &done).await.ok();
    server.get("/api/v1/namespaces/n").await.fails(404, "NotFound");
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = Server::start().await;
    let created = server.post(PODS, &pod("p")).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(created["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"},
    });
    let path = format!("{PODS}/p/binding");
    assert_eq!(server.post(&path, &binding).await.code, StatusCode::CREATED);
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    server.post(&path, &binding).await.fails(409, "Conflict");

    // The status is written through its own door, and the spec is not.
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let patch = json!({"status": {"phase": "Running"}, "spec": {"nodeName": "n2"}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let running = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(
        (running["status"]["phase"].as_str(), running["spec"]["nodeName"].as_str()),
        (Some("Running"), Some("n1"))
    );
}
