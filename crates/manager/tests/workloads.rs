//! Deployments and Jobs from creation to the end, through API server, controllers, scheduler and a pretended node.

mod common;

use common::{Cluster, all, key, phase};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::Pod,
};
use serde_json::{Value, json};
use skiff_client::SharedCache;
use skiff_reconcile::{KindRef, ViewExt};

fn deployment(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "run", "image": "x:1" }], "terminationGracePeriodSeconds": 1 },
            },
        },
    })
}

fn job(completions: i32, parallelism: i32) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "sums", "namespace": "default" },
        "spec": {
            "completions": completions, "parallelism": parallelism,
            "template": { "spec": { "containers": [{ "name": "done", "image": "x" }], "restartPolicy": "Never" } },
        },
    })
}

fn running(caches: &SharedCache, image: &str) -> usize {
    let runs = |p: &Pod| {
        let same = p.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some(image));
        same && phase(p) == "Running" && p.metadata.deletion_timestamp.is_none()
    };
    all::<Pod>(caches).iter().filter(|p| runs(p)).count()
}

fn available(caches: &SharedCache) -> Option<(i32, i32)> {
    let deployment = caches.get::<Deployment>(&key::<Deployment>("web"))?;
    let status = deployment.status.as_ref()?;
    let current = status.observed_generation == deployment.metadata.generation;
    current.then_some((status.available_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_runs_scales_rolls_and_goes() {
    let cluster = Cluster::with_nodes(2).await;
    let deployments = KindRef::of::<Deployment>();
    let web = key::<Deployment>("web");
    cluster.create(deployments, deployment(3)).await;
    cluster.until("three are available", |c| available(c) == Some((3, 3)) && running(c, "x:1") == 3).await;

    let scale = json!({ "spec": { "replicas": 5 } });
    cluster.rest.merge_patch::<Value>(&deployments, &web, None, &scale).await.expect("scaled");
    cluster.until("five are available", |c| available(c) == Some((5, 5))).await;
    assert_eq!(all::<ReplicaSet>(&cluster.caches).len(), 1);

    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "run", "image": "x:2" }] } } } });
    cluster.rest.merge_patch::<Value>(&deployments, &web, None, &image).await.expect("rolled");
    cluster
        .until("five new ones and no old ones", |c| {
            available(c) == Some((5, 5)) && running(c, "x:2") == 5 && all::<Pod>(c).len() == 5
        })
        .await;
    assert_eq!(all::<ReplicaSet>(&cluster.caches).len(), 2, "the old one is kept for a rollback");

    cluster.delete::<Deployment>("web", Some("Foreground")).await;
    cluster
        .until("everything goes, the deployment last", |c| {
            let (pods, sets) = (all::<Pod>(c).len(), all::<ReplicaSet>(c).len());
            let there = c.get::<Deployment>(&web).is_some();
            !there && pods == 0 && sets == 0
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_and_takes_its_pods_along_when_it_is_deleted() {
    let cluster = Cluster::start().await;
    cluster.create(KindRef::of::<Job>(), job(30, 10)).await;
    cluster
        .until("the job is complete", |c| {
            let job = c.get::<Job>(&key::<Job>("sums"));
            let status = job.as_ref().and_then(|j| j.status.as_ref());
            let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
            let complete = conditions.filter(|c| c.type_ == "Complete" && c.status == "True").count() == 1;
            complete && status.is_some_and(|s| s.succeeded == Some(30) && s.active.unwrap_or(0) == 0)
        })
        .await;
    let pods = all::<Pod>(&cluster.caches);
    assert_eq!(pods.len(), 30, "neither more nor fewer pods than completions");
    assert!(pods.iter().all(|p| p.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)), "all are accounted for");
    cluster.delete::<Job>("sums", Some("Background")).await;
    cluster.until("its pods go", |c| all::<Pod>(c).is_empty()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_orphans_it_adopts_again() {
    let cluster = Cluster::start().await;
    cluster.create(KindRef::of::<Deployment>(), deployment(2)).await;
    cluster.until("two are available", |c| available(c) == Some((2, 2))).await;
    let before: Vec<_> = all::<Pod>(&cluster.caches).iter().map(|p| p.metadata.uid.clone()).collect();
    cluster.delete::<Deployment>("web", Some("Orphan")).await;
    cluster
        .until("the set has no owner", |c| {
            let sets = all::<ReplicaSet>(c);
            let free = sets.iter().all(|s| s.metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
            c.get::<Deployment>(&key::<Deployment>("web")).is_none() && sets.len() == 1 && free
        })
        .await;
    cluster.create(KindRef::of::<Deployment>(), deployment(2)).await;
    cluster.until("two are available again", |c| available(c) == Some((2, 2))).await;
    let mut after: Vec<_> = all::<Pod>(&cluster.caches).iter().map(|p| p.metadata.uid.clone()).collect();
    after.sort();
    let mut before = before;
    before.sort();
    assert_eq!(before, after, "the same pods");
    cluster.stop().await;
}
