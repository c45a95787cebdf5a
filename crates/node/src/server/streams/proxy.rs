//! `/skiff/v1/proxy/NAMESPACE/POD/PORT/PATH`: HTTP to a port of a pod, for the API's `pods/NAME:PORT/proxy`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::target;
use crate::{agent::Agent, server::refuse};

#[derive(serde::Deserialize)]
pub(in crate::server) struct Place {
    namespace: String,
    pod: String,
    port: u16,
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
    let gateway = |error: &dyn std::fmt::Display| {
        refuse(StatusCode::BAD_GATEWAY, format!("error trying to reach pod {} on port {port}: {error}", pod.key.name))
    };
    let connection = match target::dial(&agent, &pod, port).await {
        Ok(connection) => connection,
        Err(error) => return gateway(&error),
    };
    let (mut sender, driver) = match hyper::client::conn::http1::handshake(TokioIo::new(connection)).await {
        Ok(both) => both,
        Err(error) => return gateway(&error),
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
        Err(error) => gateway(&error),
    }
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
