//! An API server with a node in this process; pods are bound by the test.
#![allow(dead_code)]

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Pod, PodStatus};
use kube::Client;
use serde_json::{Value, json};
use skiff_apiserver::{ApiServer, ApiServerConfig, NoNodes, UserInfo};
use skiff_client::{Rest, Scope, SharedCache, in_process};
use skiff_node::{Node, NodeConfig, NodeHandle};
use skiff_reconcile::{Codec, KindRef, ObjectKey, ViewExt};
use skiff_runtime::{Runtime, fake::FakeRuntime};
use skiff_store::memory::MemoryStore;
use tempfile::TempDir;
use tower::ServiceExt;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub api: Arc<ApiServer>,
    pub client: Client,
    pub rest: Rest,
    pub fake: Arc<FakeRuntime>,
    pub node: NodeHandle,
    /// Everything in the API, for waiting.
    pub view: SharedCache,
    pub dir: TempDir,
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

impl Cluster {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut NodeConfig)) -> Self {
        // RUST_LOG says what to show; a second test of this process finds it set already.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let store = Arc::new(MemoryStore::default());
        let api = ApiServer::new(ApiServerConfig::new(store, Arc::new(NoNodes)));
        api.bootstrap().await.expect("bootstrapped");
        let client = in_process(api.service(UserInfo::admin()));
        let dir = TempDir::new().expect("a directory");
        let fake = FakeRuntime::new();
        let node = start_node(&client, fake.clone(), dir.path(), change).await;
        let view = SharedCache::new(client.clone());
        view.declare_scoped(Codec::of::<Pod>(), Scope::default());
        view.declare_kind::<Event>();
        view.synced().await;
        Self { rest: Rest::new(client.clone()), api, client, fake, node, view, dir }
    }

    /// The node's process ends without a word, and another one starts.
    pub async fn restart_node(&mut self, runtime: Arc<FakeRuntime>) {
        self.node.shutdown(Duration::ZERO).await;
        self.fake = runtime;
        self.node = start_node(&self.client, self.fake.clone(), self.dir.path(), |_| {}).await;
    }

    /// Creates a pod that is bound to the node already.
    pub async fn run(&self, name: &str, spec: Value, annotations: Value) -> Pod {
        let mut spec = spec;
        spec["nodeName"] = json!("node-1");
        let body = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "annotations": annotations }, "spec": spec });
        self.rest.create::<Pod>(&KindRef::of::<Pod>(), "default", &body).await.expect("created")
    }

    pub async fn create(&self, kind: KindRef, body: Value) {
        self.rest.create::<Value>(&kind, "default", &body).await.expect("created");
    }

    pub async fn delete(&self, name: &str, grace: i64) {
        let options = skiff_client::rest::delete_options(None, Some(grace), &Default::default());
        self.rest.delete::<Value>(&KindRef::of::<Pod>(), &key(name), &options).await.expect("deleted");
    }

    pub fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.view.get::<Pod>(&key(name))
    }

    /// Asks the kubelet's server.
    pub async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let request = http::Request::builder().method(method).uri(path).body(axum::body::Body::empty());
        let answer = self.node.router().oneshot(request.expect("a request")).await.expect("an answer");
        let code = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the pod's status in the API is as wanted.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&PodStatus) -> bool) -> Arc<Pod> {
        let found = self.wait(|| self.pod(name).filter(|p| p.status.as_ref().is_some_and(&wanted))).await;
        found.unwrap_or_else(|| panic!("{name} is not {what}: {:#?}", self.pod(name).map(|p| p.status.clone())))
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Arc<Pod> {
        self.until(name, phase, |s| s.phase.as_deref() == Some(phase)).await
    }

    pub async fn gone(&self, name: &str) {
        assert!(self.wait(|| self.pod(name).is_none().then_some(())).await.is_some(), "{name} is still there");
    }

    /// Waits for an event of this reason about the pod whose message holds `text`.
    pub async fn event(&self, pod: &str, reason: &str, text: &str) {
        let fits = |e: &Event| {
            e.involved_object.name.as_deref() == Some(pod)
                && e.reason.as_deref() == Some(reason)
                && e.message.as_deref().is_some_and(|m| m.contains(text))
        };
        let found = self.wait(|| self.view.list::<Event>(None).iter().any(|e| fits(e)).then_some(())).await;
        let all: Vec<String> = self
            .view
            .list::<Event>(None)
            .iter()
            .map(|e| {
                format!(
                    "{} {}: {}",
                    e.involved_object.name.clone().unwrap_or_default(),
                    e.reason.clone().unwrap_or_default(),
                    e.message.clone().unwrap_or_default()
                )
            })
            .collect();
        assert!(found.is_some(), "no event {reason} {text:?} about {pod} in {all:#?}");
    }

    pub async fn wait<T>(&self, look: impl Fn() -> Option<T>) -> Option<T> {
        let mut changes = self.view.subscribe(&[KindRef::of::<Pod>(), KindRef::of::<Event>()]);
        let waiting = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                changes.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.ok()
    }
}

async fn start_node(
    client: &Client,
    runtime: Arc<dyn Runtime>,
    dir: &Path,
    change: impl FnOnce(&mut NodeConfig),
) -> NodeHandle {
    let mut config = NodeConfig::new("node-1", client.clone(), runtime, dir.join("node"));
    change(&mut config);
    let node = Node::start(config).await.expect("started");
    node.ready().await;
    node
}

/// `PHASE; container=STATE xRESTARTS`, on one line.
pub fn summary(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let mut text = status.phase.unwrap_or_default();
    for c in status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten())
    {
        let state = c.state.unwrap_or_default();
        let state = match (state.running, state.waiting, state.terminated) {
            (Some(_), ..) => "running".into(),
            (_, Some(w), _) => w.reason.unwrap_or_default(),
            (.., Some(t)) => format!("{}({})", t.reason.unwrap_or_default(), t.exit_code),
            _ => "none".into(),
        };
        text += &format!("; {}={state} x{}", c.name, c.restart_count);
    }
    text
}
