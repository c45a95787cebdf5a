//! What is answered by a node and passed on as it comes: a container's log, and everything below `nodes/NAME/proxy`.

use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::Value;
use skiff_api::{FieldError, Status, kinds::Subresource};
use url::form_urlencoded::Serializer;

use crate::{context::Context, http::errors, registry};

/// The most bytes of an error that a node answers with.
const ERROR_BYTES_MAX: usize = 64 << 10;

pub(super) async fn log(cx: &Context) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    let pod = registry::parse(&entry.value)?;
    let query = log_query(cx, name)?;
    let container = container(cx, &pod)?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    // Upstream: a pod without a node has an empty log.
    if node.is_empty() {
        return Ok(text(Body::empty()));
    }
    let namespace = cx.namespace().unwrap_or("");
    let path = format!("/containerLogs/{namespace}/{name}/{container}{query}");
    let request = Request::get(path).body(Body::empty()).map_err(Status::internal)?;
    let permit = cx.api.gates.watch()?;
    let answer = cx.api.nodes.call(node, request).await.map_err(|e| errors::of_node(&e))?;
    if !answer.status().is_success() {
        return Err(refused(cx, answer).await);
    }
    Ok(text(held(answer.into_body(), permit)))
}

fn text(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The stream counts against the limit until it ends.
pub(super) fn held(body: Body, permit: impl Send + 'static) -> Body {
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let _held = &permit;
        chunk
    }))
}

/// The container that is named, or the only one.
pub(super) fn container(cx: &Context, pod: &Value) -> Result<String, Status> {
    let name = cx.target.name();
    let of = |list: &str| {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str()).collect::<Vec<_>>()
    };
    let (main, init) = (of("containers"), of("initContainers"));
    let wanted = match (cx.query.text("container"), main.as_slice()) {
        (Some(wanted), _) => wanted,
        (None, [only]) => *only,
        (None, _) => {
            let mut message =
                format!("a container name must be specified for pod {name}, choose one of: {}", go_list(&main));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: {}", go_list(&init)));
            }
            return Err(Status::bad_request(message));
        }
    };
    if [main, init, of("ephemeralContainers")].concat().contains(&wanted) {
        Ok(wanted.to_owned())
    } else {
        Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
    }
}

/// `[a b]`, as Go prints a list.
fn go_list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

/// The options of a log, checked here so that every node's answer to nonsense is the same.
fn log_query(cx: &Context, name: &str) -> Result<String, Status> {
    let query = &cx.query;
    let mut wrong = Vec::new();
    let mut out = Serializer::new(String::new());
    for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let Some(number) = query.number(field)? else { continue };
        if number < least {
            let detail = match least {
                0 => "must be greater than or equal to 0",
                _ => "must be greater than 0",
            };
            wrong.push(FieldError::invalid(field, number, detail));
        }
        out.append_pair(field, &number.to_string());
    }
    if query.has("sinceSeconds") && query.has("sinceTime") {
        wrong.push(FieldError::forbidden(
            "sinceSeconds",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if !wrong.is_empty() {
        let causes = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Status::new(422, "Invalid", format!("PodLogOptions {name:?} is invalid: {causes}")));
    }
    if let Some(since) = query.text("sinceTime") {
        since.parse::<jiff::Timestamp>().map_err(|e| Status::bad_request(format!("sinceTime: {e}")))?;
        out.append_pair("sinceTime", since);
    }
    for field in ["follow", "timestamps", "previous"] {
        if query.flag(field) {
            out.append_pair(field, "true");
        }
    }
    let text = out.finish();
    Ok(if text.is_empty() { text } else { format!("?{text}") })
}

/// What a node that refused said.
pub(super) async fn said(answer: Response<Body>) -> (StatusCode, String) {
    let code = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), ERROR_BYTES_MAX).await.unwrap_or_default();
    (code, String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The error of a node as a status: its text is the message.
pub(super) async fn refused(cx: &Context, answer: Response<Body>) -> Status {
    let (code, message) = said(answer).await;
    match code {
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", message),
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        code => Status::internal(format_args!(
            "node answered {code} for {} {:?}: {message}",
            cx.kind().plural,
            cx.target.name()
        )),
    }
}

/// Method, query, headers and body go to the node; the answer comes back as it is.
pub(super) async fn proxy(cx: &Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    if !cx.resource().is("", "nodes") {
        return Err(super::not_served(cx, Subresource::Proxy));
    }
    cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    let path = if cx.target.rest.is_empty() { "/" } else { &cx.target.rest };
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let (mut parts, body) = request.into_parts();
    parts.uri = uri.parse().map_err(|e| Status::bad_request(format!("{uri}: {e}")))?;
    // The client's credentials are for this server.
    parts.headers.remove(header::AUTHORIZATION);
    let permit = Arc::new(cx.api.gates.watch()?);
    parts.extensions.insert(permit.clone());
    let answer = cx.api.nodes.call(name, Request::from_parts(parts, body)).await;
    let answer = answer.map_err(|e| errors::of_node(&e))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    Ok(answer.map(|body| held(body, permit)))
}
