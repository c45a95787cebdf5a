//! `/skiff/v1/proxy/NAMESPACE/POD/SCHEME:PORT/PATH`: HTTP or HTTPS to a port of a pod, for the API's
//! `pods/SCHEME:NAME:PORT/proxy`. Connections that change their protocol (WebSockets) go on as bytes.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use skiff_runtime::Connection;
use tokio::time::timeout;
use tracing::debug;

use super::target;
use crate::{agent::Agent, mailbox::PodHandle, server::refuse, tls::encrypted};

/// How long a pod may take for its handshake; as Go's default transport.
const TLS: Duration = Duration::from_secs(10);

#[derive(serde::Deserialize)]
pub(in crate::server) struct Place {
    namespace: String,
    pod: String,
    port: String,
}

/// `None` for what is no `SCHEME:PORT`: this path is the API server's own.
fn scheme_and_port(text: &str) -> Option<(bool, u16)> {
    let (scheme, port) = text.split_once(':')?;
    Some((scheme == "https", port.parse().ok()?))
}

pub(in crate::server) async fn serve(
    State(agent): State<Arc<Agent>>,
    Path(Place { namespace, pod, port }): Path<Place>,
    request: Request<Body>,
) -> Response {
    let pod = match target::pod(&agent, namespace, pod) {
        Ok(pod) => pod,
        Err(refused) => return *refused,
    };
    let Some((https, port)) = scheme_and_port(&port) else {
        return refuse(StatusCode::BAD_REQUEST, format!("{port:?} is not SCHEME:PORT"));
    };
    let connection = match connect(&agent, &pod, https, port).await {
        Ok(connection) => connection,
        Err(error) => return unreachable(&error),
    };
    let (mut sender, driver) = match hyper::client::conn::http1::handshake(TokioIo::new(connection)).await {
        Ok(both) => both,
        Err(error) => return unreachable(&error),
    };
    let stop = agent.stop.clone();
    agent.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            ended = driver.with_upgrades() => if let Err(error) = ended {
                debug!(%error, "a proxied connection ended badly");
            },
        }
    });
    let Some((request, client)) = outgoing(request, &pod.key.name) else {
        return refuse(StatusCode::BAD_REQUEST, "the path is not valid");
    };
    match sender.send_request(request).await {
        Ok(mut answer) => {
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                bridge(&agent, client, hyper::upgrade::on(&mut answer));
            }
            answer.map(Body::new).into_response()
        }
        Err(error) => unreachable(&error),
    }
}

async fn connect(agent: &Agent, pod: &PodHandle, https: bool, port: u16) -> Result<Box<dyn Connection>, String> {
    let connection = target::dial(agent, pod, port).await.map_err(|error| error.to_string())?;
    if !https {
        return Ok(connection);
    }
    let ip = pod.snapshot.borrow().status.pod_ip.clone();
    let handshake = encrypted(connection, ip.as_deref().unwrap_or("localhost"));
    timeout(TLS, handshake).await.unwrap_or_else(|_| Err("net/http: TLS handshake timeout".to_owned()))
}

/// The whole answer, in upstream's words: what a pod answers is passed on as it is, so that this one has to be told from it.
fn unreachable(error: &dyn std::fmt::Display) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("error trying to reach service: {error}"), "reason": "ServiceUnavailable", "code": 503 });
    (StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response()
}

/// Five parts of the path are ours; the rest is the guest's, as the client wrote it.
fn outgoing(mut request: Request<Body>, host: &str) -> Option<(Request<Body>, Option<OnUpgrade>)> {
    let client = request.extensions_mut().remove::<OnUpgrade>();
    let rest: String = request.uri().path().splitn(8, '/').nth(7).unwrap_or_default().to_owned();
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    *request.uri_mut() = format!("/{rest}{query}").parse::<Uri>().ok()?;
    *request.version_mut() = axum::http::Version::HTTP_11;
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::from_str(host).ok()?);
    }
    if !headers.contains_key(header::UPGRADE) {
        headers.remove(header::CONNECTION);
    }
    Some((request, client))
}

/// Both sides have changed their protocol: bytes go both ways.
fn bridge(agent: &Arc<Agent>, client: Option<OnUpgrade>, guest: OnUpgrade) {
    let (Some(client), stop) = (client, agent.stop.clone()) else { return };
    agent.tasks.spawn(async move {
        let copying = async {
            let (Ok(client), Ok(guest)) = tokio::join!(client, guest) else { return };
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(guest)).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = copying => {}
        }
    });
}
