//! A control plane in a test: the API server on the in-memory store, the manager, and nodes that pretend.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use skiff_apiserver::{ApiServer, ApiServerConfig, NoNodes, UserInfo};
use skiff_client::{Rest, SharedCache, rest::delete_options, system_clock};
use skiff_manager::{Manager, ManagerConfig, ManagerHandle};
use skiff_reconcile::{KindRef, Object, ObjectKey, Preconditions, View, ViewExt};
use skiff_store::memory::MemoryStore;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub api: Arc<ApiServer>,
    pub rest: Rest,
    pub caches: SharedCache,
    pub manager: ManagerHandle,
    nodes: Vec<JoinHandle<()>>,
}

impl Cluster {
    /// With one node that starts what it is given and finishes what its name says: `done-…` containers succeed.
    pub async fn start() -> Self {
        Self::with_nodes(1).await
    }

    pub async fn with_nodes(count: usize) -> Self {
        // `RUST_LOG=skiff_manager=debug cargo test …` shows what the loops do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let store = Arc::new(MemoryStore::default());
        let api = ApiServer::new(ApiServerConfig::new(store, Arc::new(NoNodes)));
        api.bootstrap().await.expect("an empty store takes the first objects");
        let client = skiff_client::in_process(api.service(UserInfo::admin()));
        let caches = SharedCache::new(client.clone());
        let manager = Manager::start(ManagerConfig {
            client: client.clone(),
            scheduler_client: None,
            caches: Some(caches.clone()),
            leader_elect: false,
            root_ca_pem: "PEM".into(),
            clock: system_clock(),
        });
        manager.synced().await;
        let rest = Rest::new(client);
        let mut nodes = Vec::new();
        for n in 0..count {
            nodes.push(pretend(&rest, &caches, format!("node-{n}")).await);
        }
        Self { api, rest, caches, manager, nodes }
    }

    pub async fn create(&self, kind: KindRef, body: Value) -> String {
        let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let made: Value = self.rest.create(&kind, &namespace, &body).await.expect("created");
        made["metadata"]["uid"].as_str().expect("a uid").to_owned()
    }

    pub async fn delete<K: Object>(&self, name: &str, propagation: Option<&str>) {
        let key = key::<K>(name);
        let options = delete_options(propagation, None, &Preconditions::default());
        self.rest.delete::<IgnoredAny>(&KindRef::of::<K>(), &key, &options).await.expect("deleted");
    }

    /// As the API has it now.
    pub async fn get<K: Object>(&self, name: &str) -> Option<K> {
        match self.rest.get(&KindRef::of::<K>(), &key::<K>(name)).await {
            Ok(found) => Some(found),
            Err(e) if e.is_not_found() => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Waits, from change to change of the caches, until the condition holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&SharedCache) -> bool) {
        let kinds: Vec<KindRef> = self.caches.kinds().iter().map(|c| c.codec().kind).collect();
        let mut changes = self.caches.subscribe(&kinds);
        let wait = async {
            while !condition(&self.caches) {
                changes.changed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("not within {PATIENCE:?}: {what}\n{:#?}", self.manager.metrics());
        }
    }

    pub async fn stop(self) {
        self.nodes.iter().for_each(JoinHandle::abort);
        self.manager.shutdown().await;
        self.caches.shutdown().await;
        self.api.shut_down().await;
    }
}

/// Of the namespace `default`, for kinds that have namespaces.
pub fn key<K: Object>(name: &str) -> ObjectKey {
    ObjectKey::new(if K::NAMESPACED { "default" } else { "" }, name)
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Registers a node and plays its agent: pods run at once; one whose first container is named `done` succeeds; one that
/// is deleted goes.
async fn pretend(rest: &Rest, caches: &SharedCache, name: String) -> JoinHandle<()> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "status": {
            "capacity": { "cpu": "64", "memory": "256Gi", "pods": "1000" },
            "allocatable": { "cpu": "64", "memory": "256Gi", "pods": "1000" },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Pretending", "message": "",
                "lastHeartbeatTime": now(), "lastTransitionTime": now(),
            }],
        },
    });
    rest.create::<IgnoredAny>(&KindRef::of::<Node>(), "", &node).await.expect("the node registers");
    let (rest, caches) = (rest.clone(), caches.clone());
    let mut changes = caches.subscribe(&[KindRef::of::<Pod>()]);
    tokio::spawn(async move {
        loop {
            for (_, key) in changes.changed().await {
                let Some(pod) = caches.get::<Pod>(&key) else { continue };
                if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(&name) {
                    tokio::spawn(step(rest.clone(), key, pod));
                }
            }
        }
    })
}

async fn step(rest: Rest, key: ObjectKey, pod: Arc<Pod>) {
    let kind = KindRef::of::<Pod>();
    let uid = pod.metadata.uid.clone();
    let done = pod.spec.as_ref().is_some_and(|s| s.containers[0].name == "done");
    let ended = matches!(phase(&pod), "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() && (!done || ended || phase(&pod) == "Running") {
        let options = delete_options(None, Some(0), &Preconditions { uid, resource_version: None });
        if let Err(e) = rest.delete::<IgnoredAny>(&kind, &key, &options).await {
            assert!(e.is_not_found() || e.is_conflict(), "the node cannot let a pod go: {e}");
        }
        return;
    }
    let (next, ready) = match (phase(&pod), done) {
        ("Pending", true) => ("Succeeded", "False"),
        ("Pending", false) => ("Running", "True"),
        _ => return,
    };
    let condition = |t: &str| json!({ "type": t, "status": ready, "lastTransitionTime": now() });
    let state = if done {
        json!({ "terminated": { "exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now() } })
    } else {
        json!({ "running": { "startedAt": now() } })
    };
    let patch = json!({ "metadata": { "uid": uid }, "status": {
        "phase": next,
        "startTime": now(),
        "conditions": [condition("Ready"), condition("ContainersReady"), condition("Initialized")],
        "containerStatuses": [{
            "name": if done { "done" } else { "run" }, "image": "x", "imageID": "x", "ready": !done, "restartCount": 0,
            "started": !done, "state": state,
        }],
    }});
    if let Err(e) = rest.merge_patch::<IgnoredAny>(&kind, &key, Some("status"), &patch).await {
        assert!(e.is_not_found() || e.is_conflict(), "the node cannot write a status: {e}");
    }
}

pub fn now() -> String {
    Timestamp::now().strftime("%FT%TZ").to_string()
}

/// Objects of a kind in the namespace `default`, as the caches have them.
pub fn all<K: Object>(caches: &SharedCache) -> Vec<Arc<K>> {
    let view: &dyn View = caches;
    view.list::<K>(Some("default"))
}
