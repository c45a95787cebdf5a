//! What is served beside resources: health, version, metrics, discovery, OpenAPI.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, header};
use serde_json::{Value, json};
use skiff_api::Status;

use super::route::Route;
use crate::{encode, server::ApiServer};

pub(crate) async fn answer(
    api: &Arc<ApiServer>,
    route: Route,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if !matches!(route, Route::Unknown) && ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    match route {
        Route::Health { endpoint, check } => health(endpoint, check.as_deref(), request.uri().query()),
        Route::Version => Ok(json(&version())),
        _ => {
            let _ = api;
            Err(Status::no_such_resource())
        }
    }
}

fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(encode::json(value)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The checks of every health endpoint: that this code runs, it has a store.
const CHECKS: &[&str] = &["ping", "store"];

fn health(endpoint: &str, check: Option<&str>, query: Option<&str>) -> Result<Response<Body>, Status> {
    if let Some(check) = check {
        return if CHECKS.contains(&check) { Ok(text("ok".to_owned())) } else { Err(Status::no_such_resource()) };
    }
    if !super::query::Query::parse(query).has("verbose") {
        return Ok(text("ok".to_owned()));
    }
    let lines: String = CHECKS.iter().map(|c| format!("[+]{c} ok\n")).collect();
    Ok(text(format!("{lines}{endpoint} check passed\n")))
}

fn version() -> Value {
    json!({
        "major": skiff_api::KUBERNETES_MAJOR,
        "minor": skiff_api::KUBERNETES_MINOR,
        "gitVersion": skiff_api::GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}
