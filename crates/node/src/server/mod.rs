//! The kubelet's HTTP server as a router. Whoever serves it has authenticated and authorized the caller.

mod images;
mod logs;
mod stats;
mod streams;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::agent::Agent;

pub fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .merge(streams::router())
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(stats::metrics))
        .route("/metrics/resource", get(stats::resource))
        .route("/skiff/v1/images", get(images::list).post(images::load).delete(images::remove))
        .route("/skiff/v1/images/pull", axum::routing::post(images::pull))
        .route("/skiff/v1/proxy/{namespace}/{pod}/{port}/", any(streams::proxy::serve))
        .route("/skiff/v1/proxy/{namespace}/{pod}/{port}/{*path}", any(streams::proxy::serve))
        .with_state(agent)
}

/// An error as plain text, as the kubelet answers; the API server passes it on.
pub(crate) fn refuse(code: StatusCode, message: impl Into<String>) -> Response {
    (code, message.into()).into_response()
}

/// The pods of this node with the statuses that it knows, which are newer than the API's.
async fn pods(State(agent): State<Arc<Agent>>) -> Json<Value> {
    let snapshots: Vec<_> = agent.pods.read().values().map(|p| p.snapshot.borrow().clone()).collect();
    let pods = snapshots.into_iter().map(|s| Pod { status: Some((*s.status).clone()), ..(*s.pod).clone() });
    let pods: Vec<Pod> = pods.collect();
    Json(json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }))
}
