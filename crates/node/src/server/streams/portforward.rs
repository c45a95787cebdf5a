//! `/portForward`: connections to a pod's ports. Over SPDY (also inside of a WebSocket) each is a pair of streams with one
//! `requestID`: data, and an error if there is one. Over plain WebSockets each port of the query is a pair of channels.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{Request, StatusCode},
    response::Response,
};
use futures::{StreamExt, stream::FuturesUnordered};
use skiff_runtime::Error;
use skiff_spdy::{Session, Stream, get};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::{
    IDLE, LINGER, OPEN, converse, target, tunnel,
    upgrade::{Handshake, Io, Offer, Wire},
    websocket::{self, Channels, Encoding},
};
use crate::{agent::Agent, mailbox::PodHandle, server::refuse};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOLS: Offer =
    Offer { websocket: &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"], spdy: &["portforward.k8s.io"] };
/// Ports of one plain WebSocket: channels have a byte, and its last value means something else.
const PORTS_MAX: usize = 100;
/// Of one whose channels are digits.
const BASE64_PORTS_MAX: usize = 5;

pub(super) async fn serve(
    State(agent): State<Arc<Agent>>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(parameters): Query<Vec<(String, String)>>,
    request: Request<Body>,
) -> Response {
    answer(&agent, namespace, pod, &parameters, request).unwrap_or_else(|refused| *refused)
}

fn answer(
    agent: &Arc<Agent>,
    namespace: String,
    pod: String,
    parameters: &[(String, String)],
    request: Request<Body>,
) -> Result<Response, Box<Response>> {
    let bad = |message| Box::new(refuse(StatusCode::BAD_REQUEST, message));
    let ports = ports(parameters).map_err(bad)?;
    let pod = target::pod(agent, namespace, pod)?;
    let (handshake, answer) = Handshake::of(request, &PROTOCOLS)?;
    let channels = handshake.wire == Wire::WebSocket && handshake.protocol != TUNNEL;
    if channels && ports.is_empty() {
        return Err(bad("query parameter \"port\" is required".to_owned()));
    }
    if channels && Encoding::of(handshake.protocol) == Encoding::Base64 && ports.len() > BASE64_PORTS_MAX {
        return Err(bad(format!("at most {BASE64_PORTS_MAX} ports can be forwarded over {}", handshake.protocol)));
    }
    let (agent, stop) = (agent.clone(), agent.stop.clone());
    let tasks = agent.tasks.clone();
    tasks.spawn(async move {
        let forward = Forward { agent, pod };
        tokio::select! {
            () = stop.cancelled() => {}
            () = forward.connected(handshake, ports) => {}
        }
    });
    Ok(answer)
}

fn ports(parameters: &[(String, String)]) -> Result<Vec<u16>, String> {
    let texts = parameters.iter().filter(|(name, _)| name == "port" || name == "ports").flat_map(|(_, v)| v.split(','));
    let ports: Result<Vec<u16>, String> = texts.filter(|text| !text.is_empty()).map(port).collect();
    let ports = ports?;
    if ports.len() > PORTS_MAX {
        return Err(format!("at most {PORTS_MAX} ports can be forwarded over one WebSocket"));
    }
    Ok(ports)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("port {text:?} must be a number from 1 to 65535"))
}

struct Forward {
    agent: Arc<Agent>,
    pod: Arc<PodHandle>,
}

impl Forward {
    async fn connected(self, handshake: Handshake, ports: Vec<u16>) {
        let (wire, protocol) = (handshake.wire, handshake.protocol);
        let (io, _kept) = match handshake.connect().await {
            Ok(connected) => connected,
            Err(error) => return debug!(%error, "a connection for port-forward was lost"),
        };
        match wire {
            Wire::Spdy => self.over_spdy(io).await,
            Wire::WebSocket if protocol == TUNNEL => {
                let (stream, connection) = tunnel::open(websocket::open(io).await);
                converse(connection, self.over_spdy(stream)).await;
            }
            Wire::WebSocket => self.over_websocket(io, protocol, ports).await,
        }
    }

    async fn over_spdy<IO: AsyncRead + AsyncWrite + Send + 'static>(&self, io: IO) {
        let (session, connection) = Session::serve(io, IDLE);
        converse(connection, self.pairs(session)).await;
    }

    /// Puts streams together and forwards each pair, until the client ends the connection.
    async fn pairs(&self, mut session: Session) {
        let mut waiting: HashMap<String, Half> = HashMap::new();
        let mut forwarding = FuturesUnordered::new();
        loop {
            let due = waiting.values().map(|half| half.since + OPEN).min();
            let due = due.unwrap_or_else(|| Instant::now() + OPEN);
            tokio::select! {
                stream = session.accept() => {
                    let Some(stream) = stream else { return };
                    if let Some((port, pair)) = pair(&mut waiting, stream) {
                        forwarding.push(self.forward(port, pair));
                    }
                }
                Some(()) = forwarding.next() => {}
                // Dropping a half resets it.
                () = sleep_until(due) => waiting.retain(|_, half| half.since + OPEN > Instant::now()),
            }
        }
    }

    async fn forward(&self, port: u16, Pair { mut data, mut error }: Pair) {
        match target::dial(&self.agent, &self.pod, port).await {
            // An end of either side that is not a clean one is seen by both; there is nothing else to tell.
            Ok(guest) => {
                let (from_guest, to_guest) = tokio::io::split(guest);
                let (from_client, to_client) = tokio::io::split(data);
                let sending = copy(from_client, to_guest);
                tokio::pin!(sending);
                let receiving = async {
                    copy(from_guest, to_client).await;
                    // The client waits for the end of the errors before it ends its own side.
                    let _ = error.shutdown().await;
                };
                tokio::pin!(receiving);
                tokio::select! {
                    () = &mut receiving => {
                        let _ = timeout(LINGER, sending).await;
                    }
                    () = &mut sending => receiving.await,
                }
            }
            Err(refused) => {
                let _ = error.write_all(self.message(port, &refused).as_bytes()).await;
                let _ = error.shutdown().await;
                let _ = data.shutdown().await;
            }
        }
    }

    fn message(&self, port: u16, error: &Error) -> String {
        format!("error forwarding port {port} to pod {}, uid {}: {error}", self.pod.key.name, self.pod.uid)
    }

    /// A pair of channels per port; each begins with the number of its port, low byte first.
    async fn over_websocket(&self, io: Io, protocol: &'static str, ports: Vec<u16>) {
        let numbered = || (0u8..).step_by(2).zip(ports.iter().copied());
        let read: Vec<u8> = numbered().map(|(channel, _)| channel).collect();
        let (mut channels, connection) = Channels::serve(websocket::open(io).await, Encoding::of(protocol), &read);
        let conversation = async move {
            let mut forwarding = FuturesUnordered::new();
            for (channel, port) in numbered() {
                for channel in [channel, channel + 1] {
                    channels.send(channel, &port.to_le_bytes()).await;
                }
                let Some(from) = channels.reader(channel) else { continue };
                let (data, mut error) = (channels.writer(channel), channels.writer(channel + 1));
                forwarding.push(async move {
                    match target::dial(&self.agent, &self.pod, port).await {
                        // A port cannot end by itself here: it ends with what its guest sends.
                        Ok(guest) => {
                            let (from_guest, to_guest) = tokio::io::split(guest);
                            let sending = async {
                                copy(from, to_guest).await;
                                std::future::pending::<()>().await;
                            };
                            tokio::select! {
                                () = copy(from_guest, data) => {}
                                () = sending => {}
                            }
                        }
                        Err(refused) => {
                            let _ = error.write_all(self.message(port, &refused).as_bytes()).await;
                        }
                    }
                });
            }
            drop(channels);
            while forwarding.next().await.is_some() {}
        };
        converse(connection, conversation).await;
    }
}

/// To the end of one side, which the other then learns.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

struct Pair {
    data: Stream,
    error: Stream,
}

/// One stream of a pair that waits for the other.
struct Half {
    stream: Stream,
    is_data: bool,
    since: Instant,
}

/// The pair that this stream completes. A stream that makes no sense is dropped, which resets it.
fn pair(waiting: &mut HashMap<String, Half>, stream: Stream) -> Option<(u16, Pair)> {
    let headers = stream.headers();
    let port = port(get(headers, "port")?).ok()?;
    let id = get(headers, "requestid")?.to_owned();
    let is_data = match get(headers, "streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    match waiting.remove(&id) {
        Some(other) if other.is_data != is_data => {
            let (data, error) = if is_data { (stream, other.stream) } else { (other.stream, stream) };
            Some((port, Pair { data, error }))
        }
        _ => {
            waiting.insert(id, Half { stream, is_data, since: Instant::now() });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_either_form() {
        let of =
            |texts: &[&str]| ports(&texts.iter().map(|t| ("port".to_owned(), (*t).to_owned())).collect::<Vec<_>>());
        assert_eq!(of(&["80,81", "82"]), Ok(vec![80, 81, 82]));
        assert_eq!(of(&[]), Ok(vec![]));
        for wrong in ["0", "65536", "x"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
        assert!(of(&["1"; PORTS_MAX + 1]).is_err());
    }
}
