//! What goes with its owner, with its namespace, and what stays; and what a new namespace gets.

mod common;

use common::{Cluster, all, key, phase};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, ServiceAccount};
use serde_json::{Value, json};
use skiff_reconcile::{KindRef, ObjectKey, ViewExt};

fn config_map(name: &str, owners: &[(&str, &str, &str)]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(kind, name, uid)| {
            json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "default", "ownerReferences": owners },
    })
}

async fn family(cluster: &Cluster) -> (String, String) {
    let maps = KindRef::of::<ConfigMap>();
    let root = cluster.create(maps, config_map("root", &[])).await;
    let other = cluster.create(maps, config_map("other", &[])).await;
    cluster.create(maps, config_map("child", &[("ConfigMap", "root", &root)])).await;
    cluster.create(maps, config_map("shared", &[("ConfigMap", "root", &root), ("ConfigMap", "other", &other)])).await;
    let all = ["root", "other", "child", "shared"];
    cluster.until("the caches show the family", |c| all.iter().all(|n| has(c, n))).await;
    (root, other)
}

fn has(caches: &skiff_client::SharedCache, name: &str) -> bool {
    caches.get::<ConfigMap>(&key::<ConfigMap>(name)).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_deletion_takes_dependents_but_not_shared_ones() {
    let cluster = Cluster::start().await;
    let (_, other) = family(&cluster).await;
    cluster.delete::<ConfigMap>("root", Some("Background")).await;
    cluster.until("the child goes", |c| !has(c, "child")).await;
    cluster
        .until("the shared one keeps its other owner only", |c| {
            let shared = c.get::<ConfigMap>(&key::<ConfigMap>("shared")).expect("stays");
            shared.metadata.owner_references.as_ref().is_some_and(|r| r.len() == 1 && r[0].uid == other)
        })
        .await;
    cluster.delete::<ConfigMap>("other", None).await;
    cluster.until("with its last owner it goes", |c| !has(c, "shared")).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_waits_for_what_blocks_it() {
    let cluster = Cluster::start().await;
    family(&cluster).await;
    let mut held = config_map("held", &[]);
    let root = cluster.get::<ConfigMap>("root").await.and_then(|m| m.metadata.uid).expect("the root");
    held["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": root, "blockOwnerDeletion": true }]);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(KindRef::of::<ConfigMap>(), held).await;
    cluster.until("the caches show it", |c| has(c, "held")).await;
    cluster.delete::<ConfigMap>("root", Some("Foreground")).await;
    cluster
        .until("the child goes first", |c| {
            let held = c.get::<ConfigMap>(&key::<ConfigMap>("held"));
            !has(c, "child") && held.is_some_and(|h| h.metadata.deletion_timestamp.is_some())
        })
        .await;
    assert!(cluster.get::<ConfigMap>("root").await.is_some(), "the root waits for what is held");
    let free = json!({ "metadata": { "finalizers": null } });
    let maps = KindRef::of::<ConfigMap>();
    cluster.rest.merge_patch::<Value>(&maps, &key::<ConfigMap>("held"), None, &free).await.expect("freed");
    cluster.until("then the root", |c| !has(c, "held") && !has(c, "root")).await;
    assert!(cluster.get::<ConfigMap>("shared").await.is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaning_deletion_leaves_the_dependents() {
    let cluster = Cluster::start().await;
    family(&cluster).await;
    cluster.delete::<ConfigMap>("root", Some("Orphan")).await;
    cluster.until("the root goes", |c| !has(c, "root")).await;
    let child = cluster.get::<ConfigMap>("child").await.expect("the child stays");
    assert_eq!(child.metadata.owner_references.unwrap_or_default(), vec![]);
    let shared = cluster.get::<ConfigMap>("shared").await.expect("stays");
    assert_eq!(shared.metadata.owner_references.map(|r| r.len()), Some(1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_never_were_and_owners_that_nobody_knows() {
    let cluster = Cluster::start().await;
    let maps = KindRef::of::<ConfigMap>();
    let node = cluster.get::<Node>("node-0").await.and_then(|n| n.metadata.uid).expect("the node");
    cluster.create(maps, config_map("of-node", &[("Node", "node-0", &node)])).await;
    cluster.create(maps, config_map("of-unknown", &[("Widget", "w", "uid-of-w")])).await;
    cluster.create(maps, config_map("of-nobody", &[("Secret", "never", "uid-of-never")])).await;
    cluster.create(maps, config_map("last", &[])).await;
    let gone = |c: &skiff_client::SharedCache| has(c, "last") && !has(c, "of-nobody");
    cluster.until("the one whose owner never was goes", gone).await;
    assert!(cluster.get::<ConfigMap>("of-unknown").await.is_some(), "an unknown kind may be served elsewhere");
    assert!(cluster.get::<ConfigMap>("of-node").await.is_some());
    cluster.delete::<Node>("node-0", None).await;
    cluster.until("a cluster-scoped owner counts, too", |c| !has(c, "of-node")).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_gets_its_account_and_goes_with_everything_in_it() {
    let cluster = Cluster::start().await;
    let namespaces = KindRef::of::<Namespace>();
    cluster
        .create(namespaces, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }))
        .await;
    cluster
        .until("the account and the CA", |c| {
            let ca = c.get::<ConfigMap>(&ObjectKey::new("shop", "kube-root-ca.crt"));
            let account = c.get::<ServiceAccount>(&ObjectKey::new("shop", "default"));
            account.is_some() && ca.is_some_and(|m| m.data.as_ref().is_some_and(|d| d["ca.crt"] == "PEM"))
        })
        .await;
    for kind in ["ConfigMap", "Secret"] {
        let body = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "a", "namespace": "shop" } });
        let kind_ref = if kind == "Secret" { KindRef::of::<Secret>() } else { KindRef::of::<ConfigMap>() };
        cluster.create(kind_ref, body).await;
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "shop" },
        "spec": { "containers": [{ "name": "run", "image": "x" }], "terminationGracePeriodSeconds": 1 },
    });
    cluster.create(KindRef::of::<Pod>(), pod).await;
    let running = ObjectKey::new("shop", "p");
    cluster.until("the pod runs", |c| c.get::<Pod>(&running).is_some_and(|p| phase(&p) == "Running")).await;
    cluster.delete::<Namespace>("shop", None).await;
    cluster.until("the namespace goes", |c| c.get::<Namespace>(&ObjectKey::new("", "shop")).is_none()).await;
    for kind in [KindRef::of::<ConfigMap>(), KindRef::of::<Secret>(), KindRef::of::<Pod>()] {
        assert!(!cluster.rest.any(&kind, "shop").await.expect("listed"), "{} remain", kind.plural);
    }
    assert!(all::<ConfigMap>(&cluster.caches).iter().any(|m| m.metadata.name.as_deref() == Some("kube-root-ca.crt")));
    cluster.stop().await;
}
