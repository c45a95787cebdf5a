//! What every cluster has from the start: its namespaces, the service `kubernetes`, priority classes, and the runtime
//! classes by which manifests of other Wasm runtimes name theirs. What exists is left as it is.

use std::sync::Arc;

use axum::body::Body;
use futures::future::try_join_all;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{authn::UserInfo, expiry::Expiry, server::ApiServer};

/// What is needed at the start could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to create {path}: {message}")]
pub struct BootstrapError {
    pub path: String,
    pub message: String,
}

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Name and handler, as k3s, runwasi, SpinKube, the runtime class manager and the usual tutorials have them.
const RUNTIME_CLASSES: &[(&str, &str)] = &[
    ("wasmtime", "wasmtime"),
    ("wasmedge", "wasmedge"),
    ("wasmer", "wasmer"),
    ("spin", "spin"),
    ("slight", "slight"),
    ("wws", "wws"),
    ("lunatic", "lunatic"),
    ("crun", "crun"),
    ("wasm", "wasm"),
    ("wasmtime-spin-v2", "spin"),
    ("wasmtime-spin-v1", "spin"),
    ("wasmtime-spin", "spin"),
    ("wasmtime-v1", "wasmtime-v1"),
    ("crun-wasm", "crun"),
    ("wasmedge-v1", "wasmedge"),
];

/// As upstream.
const PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

impl ApiServer {
    /// Creates what is missing and starts what runs in the background. Call it once, before serving.
    ///
    /// # Errors
    /// When the store refuses a write.
    pub async fn bootstrap(self: &Arc<Self>) -> Result<(), BootstrapError> {
        self.start_background();
        // At the same time, so that a durable store writes them to the disk together; first what holds the rest.
        let namespaces = NAMESPACES.iter().map(|name| {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            self.ensure("/api/v1/namespaces", object)
        });
        try_join_all(namespaces).await?;
        let mut rest = vec![("/api/v1/namespaces/default/services", self.kubernetes_service())];
        rest.extend(PRIORITY_CLASSES.iter().map(|(name, value, description)| {
            let object = json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name },
                "value": value, "description": description,
            });
            ("/apis/scheduling.k8s.io/v1/priorityclasses", object)
        }));
        rest.extend(RUNTIME_CLASSES.iter().map(|(name, handler)| {
            let object = json!({
                "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name },
                "handler": handler,
            });
            ("/apis/node.k8s.io/v1/runtimeclasses", object)
        }));
        try_join_all(rest.into_iter().map(|(path, object)| self.ensure(path, object))).await?;
        if let Some(slice) = self.kubernetes_endpoints() {
            self.apply("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes", &slice).await?;
        }
        Ok(())
    }

    fn start_background(&self) {
        if let Some(classes) = self.registry.find("scheduling.k8s.io", "v1", "priorityclasses") {
            let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
            self.tasks.spawn(self.default_priority.clone().follow(store, classes.prefix(None), shutdown));
        }
        if let Some(events) = self.registry.find("", "v1", "events") {
            let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
            self.tasks.spawn(Expiry { store, events, keep: self.event_ttl, shutdown }.run());
        }
        let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let mut every = tokio::time::interval(BOOKMARK_EVERY);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = every.tick() => store.announce_progress(),
                }
            }
        });
    }

    fn kubernetes_service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kubernetes", "labels": { "component": "apiserver", "provider": "kubernetes" } },
            "spec": {
                "type": "ClusterIP", "clusterIP": self.service_ip.to_string(),
                "clusterIPs": [self.service_ip.to_string()], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{
                    "name": "https", "port": 443, "protocol": "TCP",
                    "targetPort": self.advertise.map_or(6443, |a| a.port()),
                }],
            },
        })
    }

    /// Where the service leads, when this server knows its own address.
    fn kubernetes_endpoints(&self) -> Option<Value> {
        let address = self.advertise?;
        Some(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{ "addresses": [address.ip().to_string()], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "port": address.port(), "protocol": "TCP" }],
        }))
    }

    /// Creates an object unless it is there.
    async fn ensure(self: &Arc<Self>, path: &str, object: Value) -> Result<(), BootstrapError> {
        self.send(Request::post(path).header(header::CONTENT_TYPE, "application/json"), path, &object).await
    }

    /// Makes an object be as it must be now: the address of this server changes from start to start.
    async fn apply(self: &Arc<Self>, path: &str, object: &Value) -> Result<(), BootstrapError> {
        let uri = format!("{path}?fieldManager={AGENT}&force=true");
        self.send(Request::patch(uri).header(header::CONTENT_TYPE, "application/apply-patch+yaml"), path, object).await
    }

    async fn send(
        self: &Arc<Self>,
        request: http::request::Builder,
        path: &str,
        object: &Value,
    ) -> Result<(), BootstrapError> {
        let failed = |message: String| BootstrapError { path: path.to_owned(), message };
        let request = request.header(header::USER_AGENT, AGENT).body(Body::from(object.to_string()));
        let service = self.service(UserInfo::new("system:apiserver", &["system:masters"]));
        let answer = service.oneshot(request.map_err(|e| failed(e.to_string()))?).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        if answer.status().is_success() || answer.status() == StatusCode::CONFLICT {
            return Ok(());
        }
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap_or_default();
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Err(failed(status["message"].as_str().unwrap_or("the answer is not a status").to_owned()))
    }
}

/// Who owns the fields that are written here.
const AGENT: &str = "skiff-apiserver";

/// How often an idle watch is told how far it has come.
const BOOKMARK_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
