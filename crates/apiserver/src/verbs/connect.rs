//! What becomes a conversation with a pod through its node: exec, attach, port-forward and the proxy to a pod's port.
//!
//! The client's connection goes to the node with the request (see [`crate::NodeConnector`]), and so does the permit by which it
//! counts as a stream until it ends.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::Value;
use skiff_api::{Status, kinds::Subresource};
use url::form_urlencoded::Serializer;

use super::node;
use crate::{context::Context, http::errors, registry};

/// exec, attach and port-forward.
pub(super) async fn upgrade(
    cx: &Context,
    subresource: Subresource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    let (pod, namespace) = (pod(cx, name)?, cx.namespace().unwrap_or(""));
    let path = match subresource {
        Subresource::PortForward => format!("/portForward/{namespace}/{name}?{}", ports(cx)),
        _ => {
            let container = node::container(cx, &pod)?;
            let (verb, with_command) =
                if subresource == Subresource::Exec { ("exec", true) } else { ("attach", false) };
            format!("/{verb}/{namespace}/{name}/{container}?{}", options(cx, with_command)?)
        }
    };
    let node = node_of(&pod, name)?;
    if !wants_upgrade(request.headers()) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let answer = call(cx, node, path, request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    // In the node's own words: clients put in front of them what they wanted.
    let (code, message) = node::said(answer).await;
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::FORBIDDEN => "Forbidden",
        _ => "InternalError",
    };
    Err(Status::new(code.as_u16(), reason, message))
}

/// `pods/NAME[:PORT]/proxy/PATH`, where a name may have its scheme before it (`https:NAME:PORT`).
pub(super) async fn proxy(cx: &Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    let id = cx.target.name();
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => ("?", "", ""),
    };
    if name.is_empty() || !["", "http", "https"].contains(&scheme) {
        return Err(Status::bad_request(format!("invalid pod request {id:?}")));
    }
    let pod = pod(cx, name)?;
    let default = if scheme == "https" { 443 } else { 80 };
    let port = match port {
        "" => first_port(&pod).unwrap_or(default),
        text => number(text)?,
    };
    let node = node_of(&pod, name)?;
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    if cx.target.rest.is_empty() && request.method() == Method::GET && !wants_upgrade(request.headers()) {
        return moved(&format!("{}/{query}", request.uri().path()));
    }
    let path = if cx.target.rest.is_empty() { "/" } else { &cx.target.rest };
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    let namespace = cx.namespace().unwrap_or("");
    call(cx, node, format!("/skiff/v1/proxy/{namespace}/{name}/{scheme}:{port}{path}{query}"), request).await
}

/// A port as upstream's dialer takes it (the names of a pod's ports are not among them), and its words for one that is none.
fn number(text: &str) -> Result<u16, Status> {
    let why = match text.parse::<i64>() {
        Ok(number) => match u16::try_from(number) {
            Ok(port) => return Ok(port),
            Err(_) => format!("address {text}: invalid port"),
        },
        Err(_) => match text {
            "http" => return Ok(80),
            "https" => return Ok(443),
            _ => format!("lookup tcp/{text}: unknown port"),
        },
    };
    Err(Status::new(503, "ServiceUnavailable", format!("error trying to reach service: dial tcp: {why}")))
}

/// To the path with a slash at its end, so that a page's links lead on from there.
fn moved(to: &str) -> Result<Response<Body>, Status> {
    let location = HeaderValue::from_str(to).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Passes a request on, with what it carries; the permit is held until the answer's body and the connection have ended.
async fn call(cx: &Context, node: &str, path: String, request: Request<Body>) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    parts.uri = path.parse().map_err(|e| Status::bad_request(format!("{path}: {e}")))?;
    // The client's credentials are for this server.
    parts.headers.remove(header::AUTHORIZATION);
    let permit = Arc::new(cx.api.gates.watch()?);
    parts.extensions.insert(permit.clone());
    let answer = cx.api.nodes.call(node, Request::from_parts(parts, body)).await;
    let answer = answer.map_err(|e| errors::of_node(&e))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    Ok(answer.map(|body| node::held(body, permit)))
}

fn pod(cx: &Context, name: &str) -> Result<Value, Status> {
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    registry::parse(&entry.value)
}

fn node_of<'p>(pod: &'p Value, name: &str) -> Result<&'p str, Status> {
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    node.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))
}

fn first_port(pod: &Value) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array()?;
    let port = containers.iter().find_map(|c| c["ports"].as_array()?.first()?["containerPort"].as_u64())?;
    u16::try_from(port).ok()
}

/// The options of exec and attach under the kubelet's names.
fn options(cx: &Context, with_command: bool) -> Result<String, Status> {
    let mut out = Serializer::new(String::new());
    for (ours, nodes) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if cx.query.flag(ours) {
            out.append_pair(nodes, "1");
        }
    }
    if !["stdin", "stdout", "stderr"].iter().any(|stream| cx.query.flag(stream)) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if with_command {
        let mut words = cx.query.all("command").peekable();
        if words.peek().is_none() {
            return Err(Status::bad_request("you must specify at least one command for the container"));
        }
        words.for_each(|word| {
            out.append_pair("command", word);
        });
    }
    Ok(out.finish())
}

fn ports(cx: &Context) -> String {
    let mut out = Serializer::new(String::new());
    for ports in cx.query.all("ports") {
        out.append_pair("port", ports);
    }
    out.finish()
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::CONNECTION).into_iter().filter_map(|v| v.to_str().ok());
    words.flat_map(|v| v.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}
