//! skiff's own endpoints for images on this node: list, load, pull, remove.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use skiff_runtime::{Error, Image, ImageSource, Runtime};

use super::refuse;
use crate::{agent::Agent, sync_loop};

type Parameters = HashMap<String, String>;

pub async fn list(State(agent): State<Arc<Agent>>) -> Response {
    let mut images = vec![];
    for runtime in &agent.config.runtimes {
        match runtime.list_images().await {
            Ok(list) => images.extend(list.iter().map(|i| describe(i, &**runtime))),
            Err(e) => return failed(&e),
        }
    }
    Json(json!({ "images": images })).into_response()
}

/// The body is a `.wasm` or `.wat` file (`format=module`, the default) or a tar archive of an OCI layout
/// (`format=oci-layout-tar`).
pub async fn load(State(agent): State<Arc<Agent>>, Query(parameters): Query<Parameters>, body: Body) -> Response {
    let Some(reference) = reference(&parameters) else { return no_reference() };
    let limit = agent.config.limits.image_bytes_max;
    let Ok(bytes) = to_bytes(body, limit).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("an image can have at most {limit} bytes"));
    };
    let source = match parameters.get("format").map(String::as_str) {
        None | Some("" | "module") => ImageSource::Module(bytes),
        Some("oci-layout-tar") => ImageSource::OciLayoutTar(bytes),
        Some(other) => {
            let message = format!("format {other:?} is neither \"module\" nor \"oci-layout-tar\"");
            return refuse(StatusCode::BAD_REQUEST, message);
        }
    };
    let Some(runtime) = store_for(&agent) else {
        return refuse(StatusCode::BAD_REQUEST, "this node has no runtime that takes images");
    };
    answer(&agent, &**runtime, runtime.load_image(reference, source).await)
}

pub async fn pull(State(agent): State<Arc<Agent>>, Query(parameters): Query<Parameters>) -> Response {
    let Some(reference) = reference(&parameters) else { return no_reference() };
    let Some(runtime) = store_for(&agent) else {
        return refuse(StatusCode::BAD_REQUEST, "this node has no runtime that takes images");
    };
    // The semaphore is never closed; if it were, pulls would merely not be bounded.
    let _permit = agent.pulls.acquire().await;
    answer(&agent, &**runtime, runtime.pull_image(reference, None).await)
}

pub async fn remove(State(agent): State<Arc<Agent>>, Query(parameters): Query<Parameters>) -> Response {
    let Some(reference) = reference(&parameters) else { return no_reference() };
    for runtime in &agent.config.runtimes {
        if let Err(e) = runtime.remove_image(reference).await {
            return failed(&e);
        }
    }
    agent.status_changed.notify_one();
    Json(json!({})).into_response()
}

/// The runtime whose store takes what users bring: the Wasm one, if there is one.
fn store_for(agent: &Agent) -> Option<&Arc<dyn Runtime>> {
    let runtimes = &agent.config.runtimes;
    runtimes.iter().find(|r| r.capabilities().wasm).or_else(|| runtimes.first())
}

fn reference(parameters: &Parameters) -> Option<&str> {
    parameters.get("reference").map(String::as_str).filter(|r| !r.is_empty())
}

fn no_reference() -> Response {
    refuse(StatusCode::BAD_REQUEST, "the parameter reference is missing")
}

/// Pods that wait for an image try again at once.
fn answer(agent: &Agent, runtime: &dyn Runtime, done: Result<Image, Error>) -> Response {
    match done {
        Ok(image) => {
            agent.status_changed.notify_one();
            sync_loop::retry(agent, |_| true);
            Json(describe(&image, runtime)).into_response()
        }
        Err(e) => failed(&e),
    }
}

fn describe(image: &Image, runtime: &dyn Runtime) -> Value {
    let kind = format!("{:?}", image.kind).to_lowercase();
    json!({
        "id": image.id, "tags": image.tags, "digests": image.digests, "sizeBytes": image.size_bytes,
        "kind": kind, "runtime": runtime.capabilities().scheme,
    })
}

fn failed(error: &Error) -> Response {
    let code = match error {
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        Error::Invalid(_) | Error::InvalidImageName { .. } | Error::ImageUnusable { .. } => StatusCode::BAD_REQUEST,
        Error::ImagePull { .. } => StatusCode::BAD_GATEWAY,
        Error::InvalidState(_) => StatusCode::CONFLICT,
        Error::Exhausted(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(code, error.to_string())
}
