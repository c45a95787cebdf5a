//! `metrics.k8s.io`: what pods and nodes use, read from the nodes' `/stats/summary` when it is asked for.
//!
//! Limits: a node's answer is used for [`FRESH`] by everybody who asks; [`NODES_AT_ONCE`] nodes are asked at once, each for at
//! most [`NODE_TIMEOUT`] and [`SUMMARY_BYTES_MAX`]. A node that does not answer is left out, and so is what was not measured.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_api::{Status, metrics_k8s};
use skiff_store::Entry;
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    context::Context,
    encode,
    http::{present::Presenter, query::ListOptions, route::Verb},
    object,
    registry::{self, Resource, filter::Filter, list, list::Page},
    server::ApiServer,
    verbs::respond,
};

const FRESH: Duration = Duration::from_secs(2);
const NODES_AT_ONCE: usize = 16;
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
const SUMMARY_BYTES_MAX: usize = 64 << 20;

/// What nodes said last.
#[derive(Default)]
pub(crate) struct Usage(Mutex<HashMap<String, Arc<Slot>>>);

type Slot = AsyncMutex<Option<(Instant, Arc<Summary>)>>;

/// One node's figures.
#[derive(Default)]
struct Summary {
    node: Option<Figure>,
    /// By namespace and name: per container.
    pods: HashMap<(String, String), Vec<(String, Figure)>>,
}

#[derive(Clone, Copy)]
struct Figure {
    nano_cores: u64,
    memory_bytes: u64,
    window_s: f64,
    at: jiff::Timestamp,
}

pub(crate) fn serves(cx: &Context) -> bool {
    cx.kind().group == metrics_k8s::GROUP && matches!(cx.verb, Verb::Get | Verb::List)
}

/// get and list of PodMetrics and NodeMetrics.
pub(crate) async fn read(cx: &Context) -> Result<Response<Body>, Status> {
    let of_pods = cx.resource().is(metrics_k8s::GROUP, "pods");
    let core = cx.api.registry.find("", "v1", if of_pods { "pods" } else { "nodes" });
    let core = core.ok_or_else(Status::no_such_resource)?;
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    if cx.verb == Verb::Get {
        let name = cx.target.name();
        let entry = cx.api.store.get(&core.key(cx.namespace(), name));
        let entry = entry.ok_or_else(|| Status::not_found(cx.kind(), name))?;
        let found = measured(cx, &core, vec![entry], of_pods).await?;
        let one = found.first().ok_or_else(|| Status::not_found(cx.kind(), name))?;
        return Ok(respond(cx, StatusCode::OK, presenter.object(&one.value)?));
    }
    let options = ListOptions::parse(&cx.query, false)?;
    // Everything at once: figures of different times would say little.
    let options =
        ListOptions { limit: 0, continue_token: None, resource_version: None, version_match: None, ..options };
    let filter = Filter::new(&core, cx.namespace(), None, &options)?;
    let page = list::list(cx.api.store.as_ref(), &core, &filter, &options).await?;
    let entries = measured(cx, &core, page.entries, of_pods).await?;
    let page = Page { revision: page.revision, entries, next: None, remaining: None };
    Ok(respond(cx, StatusCode::OK, presenter.list(&page)?))
}

/// The figures of these pods or nodes; those that have none are left out.
async fn measured(
    cx: &Context,
    core: &Resource,
    entries: Vec<Arc<Entry>>,
    of_pods: bool,
) -> Result<Vec<Arc<Entry>>, Status> {
    let mut objects = Vec::with_capacity(entries.len());
    for entry in &entries {
        objects.push(registry::parse(&entry.value)?);
    }
    let node_of = |object: &Value| {
        let place = if of_pods { &object["spec"]["nodeName"] } else { &object["metadata"]["name"] };
        place.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    };
    let mut names: Vec<String> = objects.iter().filter_map(node_of).collect();
    names.sort_unstable();
    names.dedup();
    let summaries = stream::iter(names).map(|name| async {
        let summary = summary(&cx.api, &name).await;
        (name, summary)
    });
    let summaries: HashMap<_, _> = summaries.buffer_unordered(NODES_AT_ONCE).collect().await;
    let mut found = Vec::new();
    for (entry, source) in entries.iter().zip(&objects) {
        let Some(summary) = node_of(source).and_then(|node| summaries.get(&node)?.clone()) else { continue };
        let (namespace, name) = core.split_key(&entry.key);
        let about = if of_pods {
            let key = (namespace.unwrap_or("").to_owned(), name.to_owned());
            summary.pods.get(&key).and_then(|containers| of_containers(containers))
        } else {
            summary.node.map(|figure| (json!({ "usage": figure.usage() }), figure))
        };
        let Some((body, figure)) = about else { continue };
        let object = object_of(cx, source, body, figure);
        found.push(Arc::new(Entry::new(cx.resource().key(namespace, name), entry.revision, object)));
    }
    Ok(found)
}

impl Figure {
    fn usage(&self) -> Value {
        metrics_k8s::usage(self.nano_cores, self.memory_bytes)
    }
}

/// The window of a pod is the longest of its containers.
fn of_containers(containers: &[(String, Figure)]) -> Option<(Value, Figure)> {
    let list: Vec<Value> = containers.iter().map(|(name, f)| json!({ "name": name, "usage": f.usage() })).collect();
    let longest = containers.iter().map(|(_, figure)| *figure).max_by(|a, b| a.window_s.total_cmp(&b.window_s))?;
    Some((json!({ "containers": list }), longest))
}

fn object_of(cx: &Context, source: &Value, mut body: Value, figure: Figure) -> bytes::Bytes {
    let mut metadata = json!({ "name": source["metadata"]["name"], "creationTimestamp": object::time(cx.now) });
    for field in ["namespace", "labels"] {
        if !source["metadata"][field].is_null() {
            metadata[field] = source["metadata"][field].clone();
        }
    }
    body["apiVersion"] = cx.kind().api_version().into();
    body["kind"] = cx.kind().kind.as_ref().into();
    body["metadata"] = metadata;
    body["timestamp"] = object::time(figure.at).into();
    body["window"] = format!("{:.3}s", figure.window_s).into();
    encode::json(&body)
}

/// Whoever asks for a node that is being asked waits for that answer.
async fn summary(api: &Arc<ApiServer>, node: &str) -> Option<Arc<Summary>> {
    let slot = slot(api, node)?;
    let mut slot = slot.lock().await;
    if let Some((at, summary)) = slot.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        let _ = at;
        return Some(summary.clone());
    }
    match tokio::time::timeout(NODE_TIMEOUT, ask(api, node)).await.unwrap_or(Err("it does not answer".to_owned())) {
        Ok(summary) => {
            let summary = Arc::new(summary);
            *slot = Some((Instant::now(), summary.clone()));
            Some(summary)
        }
        Err(error) => {
            tracing::debug!(node, error, "no usage figures");
            None
        }
    }
}

/// Nodes that are gone are forgotten when a new one comes.
fn slot(api: &ApiServer, node: &str) -> Option<Arc<Slot>> {
    let nodes = api.registry.find("", "v1", "nodes")?;
    let mut slots = api.usage.0.lock();
    if !slots.contains_key(node) {
        slots.retain(|name, _| api.store.get(&nodes.key(None, name)).is_some());
        // A pod may name a node that never was.
        api.store.get(&nodes.key(None, node))?;
    }
    Some(slots.entry(node.to_owned()).or_default().clone())
}

async fn ask(api: &ApiServer, node: &str) -> Result<Summary, String> {
    let request = Request::get("/stats/summary").body(Body::empty()).map_err(|e| e.to_string())?;
    let answer = api.nodes.call(node, request).await.map_err(|e| e.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let bytes = axum::body::to_bytes(answer.into_body(), SUMMARY_BYTES_MAX).await.map_err(|e| e.to_string())?;
    let raw: wire::Summary = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let pods = raw.pods.into_iter().map(|pod| {
        let containers = pod.containers.into_iter().filter_map(|c| Some((c.name, figure(c.cpu, c.memory)?)));
        ((pod.pod_ref.namespace, pod.pod_ref.name), containers.collect())
    });
    Ok(Summary { node: figure(raw.node.cpu, raw.node.memory), pods: pods.collect() })
}

/// Both or nothing.
fn figure(cpu: Option<wire::Cpu>, memory: Option<wire::Memory>) -> Option<Figure> {
    let (cpu, memory) = (cpu?, memory?);
    Some(Figure {
        nano_cores: cpu.usage_nano_cores?,
        memory_bytes: memory.working_set_bytes?,
        window_s: cpu.window_seconds.unwrap_or(WINDOW_UNSAID_S),
        at: cpu.time,
    })
}

/// Over which a kubelet measures that does not say.
const WINDOW_UNSAID_S: f64 = 10.0;

/// The kubelet's summary, as far as it is read.
mod wire {
    use super::Deserialize;

    #[derive(Deserialize)]
    pub(super) struct Summary {
        pub node: Node,
        #[serde(default)]
        pub pods: Vec<Pod>,
    }

    #[derive(Deserialize)]
    pub(super) struct Node {
        pub cpu: Option<Cpu>,
        pub memory: Option<Memory>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Pod {
        pub pod_ref: PodRef,
        #[serde(default)]
        pub containers: Vec<Container>,
    }

    #[derive(Deserialize)]
    pub(super) struct PodRef {
        pub name: String,
        pub namespace: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Container {
        pub name: String,
        pub cpu: Option<Cpu>,
        pub memory: Option<Memory>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Cpu {
        pub time: jiff::Timestamp,
        pub usage_nano_cores: Option<u64>,
        pub window_seconds: Option<f64>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Memory {
        pub working_set_bytes: Option<u64>,
    }
}
