//! What is served beside resources: health, version, metrics, discovery, OpenAPI.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use serde_json::{Value, json};
use skiff_api::Status;

use super::{discovery::Documents, query::Query, route::Route};
use crate::{encode, server::ApiServer};

pub(crate) fn answer(api: &Arc<ApiServer>, route: &Route, request: &Request<Body>) -> Result<Response<Body>, Status> {
    if matches!(route, Route::Unknown) {
        return Err(Status::no_such_resource());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let message = "the server does not allow this method on the requested resource";
        return Err(Status { details: json!({}), ..Status::new(405, "MethodNotAllowed", message) });
    }
    let headers: &HeaderMap = request.headers();
    let registry = &api.registry;
    match route {
        Route::Health { endpoint, check } => health(api, endpoint, check.as_deref(), request.uri().query()),
        Route::Version => Ok(json(&version())),
        Route::Paths => Ok(json(&paths(api))),
        Route::Metrics => metrics(api),
        Route::Roots { core } => Ok(api.documents.roots(registry, *core, headers)),
        Route::Group { group } => Documents::group(registry, group, headers),
        Route::Resources { group, version } => Documents::resources(registry, group, version, headers),
        Route::OpenApiV2 => api.documents.openapi_v2(registry, headers),
        Route::OpenApiV3 { document } => api.documents.openapi_v3(registry, document.as_deref(), headers),
        Route::Resource(_) | Route::Unknown => Err(Status::no_such_resource()),
    }
}

fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(encode::json(value)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(body: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// What every health endpoint looks at: that this code runs, and that the cluster's own objects are there.
const CHECKS: &[(&str, Check)] = &[("ping", |_| true), ("poststarthook/bootstrap", is_bootstrapped)];

type Check = fn(&ApiServer) -> bool;

fn is_bootstrapped(api: &ApiServer) -> bool {
    let namespaces = api.registry.find("", "v1", "namespaces");
    namespaces.is_some_and(|n| api.store.get(&n.key(None, "default")).is_some())
}

fn health(api: &ApiServer, endpoint: &str, check: Option<&str>, query: Option<&str>) -> Result<Response<Body>, Status> {
    let query = Query::parse(query);
    let excluded = |name: &str| query.all("exclude").any(|e| e == name);
    let mut failed = false;
    let mut lines = String::new();
    let mut found = false;
    for (name, passes) in CHECKS {
        if check.is_some_and(|wanted| wanted != *name) {
            continue;
        }
        found = true;
        // A server that is not ready is alive all the same.
        let passed = endpoint == "livez" || excluded(name) || passes(api);
        failed |= !passed;
        lines.push_str(&if passed {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        });
    }
    if !found {
        return Err(Status::no_such_resource());
    }
    if failed {
        let mut response = text(format!("{lines}{endpoint} check failed\n"), PLAIN);
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(response);
    }
    if query.has("verbose") {
        return Ok(text(format!("{lines}{endpoint} check passed\n"), PLAIN));
    }
    Ok(text("ok".to_owned(), PLAIN))
}

fn metrics(api: &ApiServer) -> Result<Response<Body>, Status> {
    let body = api.metrics.render(api.store.as_ref(), api.registry.all()).map_err(Status::internal)?;
    Ok(text(body, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
}

fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": skiff_api::KUBERNETES_MAJOR,
        "minor": skiff_api::KUBERNETES_MINOR,
        "gitVersion": skiff_api::GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}

/// `/`: every path that answers.
fn paths(api: &ApiServer) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for resource in api.registry.all().iter().filter(|r| !r.kind.group.is_empty()) {
        for path in [format!("/apis/{}", resource.kind.group), format!("/apis/{}", resource.kind.api_version())] {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    for endpoint in ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] {
        paths.push(endpoint.to_owned());
    }
    for (name, _) in CHECKS {
        paths.extend(["/healthz", "/livez", "/readyz"].map(|e| format!("{e}/{name}")));
    }
    paths.sort();
    json!({ "paths": paths })
}
