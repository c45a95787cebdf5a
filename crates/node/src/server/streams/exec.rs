//! `/exec` and `/attach`: a client's streams on one side, a process's on the other.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{Request, StatusCode},
    response::Response,
};
use futures::future::BoxFuture;
use skiff_runtime::{
    Attached, Error, ExecRequest, StreamsWanted,
    streams::{Reader, Writer},
};
use skiff_spdy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use super::{
    CHUNK_BYTES, IDLE, converse, sizes, spdy,
    status::Outcome,
    target,
    upgrade::{Handshake, Io, Offer, Wire},
    websocket::{self, Channels, Encoding},
};
use crate::{agent::Agent, server::refuse};

const PROTOCOLS: Offer = Offer {
    websocket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
        "",
    ],
    spdy: &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""],
};

/// The channels of a WebSocket.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

type Parameters = Vec<(String, String)>;
type Place = (String, String, String);

pub(super) async fn exec(
    State(agent): State<Arc<Agent>>,
    Path(place): Path<Place>,
    Query(parameters): Query<Parameters>,
    request: Request<Body>,
) -> Response {
    let command = parameters.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
    serve(&agent, place, &parameters, Some(command), request).unwrap_or_else(|refused| *refused)
}

pub(super) async fn attach(
    State(agent): State<Arc<Agent>>,
    Path(place): Path<Place>,
    Query(parameters): Query<Parameters>,
    request: Request<Body>,
) -> Response {
    serve(&agent, place, &parameters, None, request).unwrap_or_else(|refused| *refused)
}

/// With a command: exec; without: attach.
fn serve(
    agent: &Arc<Agent>,
    (namespace, pod, container): Place,
    parameters: &Parameters,
    command: Option<Vec<String>>,
    request: Request<Body>,
) -> Result<Response, Box<Response>> {
    let streams = wanted(parameters).map_err(|message| Box::new(refuse(StatusCode::BAD_REQUEST, message)))?;
    let pod = target::pod(agent, namespace, pod)?;
    let container = target::container(agent, &pod, &container)?;
    let (handshake, answer) = Handshake::of(request, &PROTOCOLS)?;
    let process: BoxFuture<'static, _> = Box::pin(async move {
        let target::Container { runtime, id } = container;
        match command {
            Some(command) => (runtime.exec(&id, ExecRequest { command, streams }).await, EXECUTING),
            None => (runtime.attach(&id, streams).await, ATTACHING),
        }
    });
    let stop = agent.stop.clone();
    agent.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = connected(handshake, streams, process) => {}
        }
    });
    Ok(answer)
}

const EXECUTING: &str = "executing command in container";
const ATTACHING: &str = "attaching to container";

/// A process that is being started, and what that is called in a message.
type Process = BoxFuture<'static, (Result<Attached, Error>, &'static str)>;

/// The kubelet's names and the API's.
fn wanted(parameters: &Parameters) -> Result<StreamsWanted, &'static str> {
    let flag = |names: [&str; 2]| {
        let mut values = parameters.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value);
        values.any(|value| value == "1" || value == "true")
    };
    let tty = flag(["tty", "tty"]);
    let stderr = flag(["error", "stderr"]) && !tty;
    let wanted = StreamsWanted { stdin: flag(["input", "stdin"]), stdout: flag(["output", "stdout"]), stderr, tty };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err("you must specify at least 1 of stdin, stdout, stderr");
    }
    Ok(wanted)
}

async fn connected(handshake: Handshake, wanted: StreamsWanted, process: Process) {
    let (wire, protocol) = (handshake.wire, handshake.protocol);
    let (io, _kept) = match handshake.connect().await {
        Ok(connected) => connected,
        Err(error) => return debug!(%error, "a connection for exec or attach was lost"),
    };
    match wire {
        Wire::WebSocket => over_websocket(io, wanted, protocol, process).await,
        Wire::Spdy => over_spdy(io, wanted, protocol, process).await,
    }
}

async fn over_websocket(io: Io, wanted: StreamsWanted, protocol: &'static str, process: Process) {
    let read = [(STDIN, wanted.stdin), (RESIZE, wanted.tty)];
    let read: Vec<u8> = read.into_iter().filter(|(_, is)| *is).map(|(channel, _)| channel).collect();
    let (mut channels, connection) = Channels::serve(websocket::open(io).await, Encoding::of(protocol), &read);
    let conversation = async move {
        // As upstream: an empty message says that the connection stands.
        channels
            .send(
                if wanted.stdout {
                    STDOUT
                } else if wanted.stderr {
                    STDERR
                } else {
                    ERROR
                },
                &[],
            )
            .await;
        let client = Client {
            stdin: channels.reader(STDIN),
            stdout: wanted.stdout.then(|| channels.writer(STDOUT)),
            stderr: wanted.stderr.then(|| channels.writer(STDERR)),
            resize: channels.reader(RESIZE),
            error: channels.writer(ERROR),
            as_status: protocol.starts_with("v4") || protocol.starts_with("v5"),
        };
        drop(channels);
        talk(client, process).await;
    };
    converse(connection, conversation).await;
}

async fn over_spdy(io: Io, wanted: StreamsWanted, protocol: &'static str, process: Process) {
    let (mut session, connection) = Session::serve(io, IDLE);
    let conversation = async move {
        if let Some(client) = spdy::client(&mut session, wanted, protocol).await {
            talk(client, process).await;
        }
    };
    converse(connection, conversation).await;
}

/// The client's ends, whatever the wire. Dropping them ends the conversation.
pub(super) struct Client {
    pub stdin: Option<Reader>,
    pub stdout: Option<Writer>,
    pub stderr: Option<Writer>,
    pub resize: Option<Reader>,
    pub error: Writer,
    /// The error channel carries a `Status`, not text.
    pub as_status: bool,
}

/// Until the process has ended and everything it wrote is handed over.
async fn talk(client: Client, process: Process) {
    let Client { stdin, stdout, stderr, resize, mut error, as_status } = client;
    let (attached, doing) = process.await;
    let outcome = match attached {
        Err(error) => {
            // Its output has ended, which clients wait for.
            tokio::join!(hand_over(None, stdout), hand_over(None, stderr));
            Outcome::failed(doing, &error)
        }
        Ok(attached) => {
            let inputs = async {
                let typing = async {
                    if let (Some(from), Some(to)) = (stdin, attached.stdin) {
                        copy(from, to).await;
                    }
                };
                let sizing = async {
                    if let (Some(from), Some(to)) = (resize, attached.resize) {
                        sizes::copy(from, to).await;
                    }
                };
                tokio::join!(typing, sizing);
                std::future::pending::<()>().await;
            };
            let outputs = async {
                let out = hand_over(attached.stdout, stdout);
                let err = hand_over(attached.stderr, stderr);
                tokio::join!(out, err, attached.exit).2
            };
            let exit = tokio::select! {
                exit = outputs => exit,
                () = inputs => unreachable!("it waits for ever"),
            };
            // Whoever attached learns the exit from the pod's status, as upstream.
            if doing == ATTACHING {
                exit.map_or_else(|e| Outcome::failed(doing, &e), |_| Outcome::Success)
            } else {
                Outcome::of(exit, doing)
            }
        }
    };
    let bytes = outcome.encode(as_status);
    let _ = error.write_all(&bytes).await;
    let _ = error.shutdown().await;
}

/// A stream that the process does not have ends at once.
async fn hand_over(from: Option<Reader>, to: Option<Writer>) {
    match (from, to) {
        (Some(from), Some(to)) => copy(from, to).await,
        (None, Some(mut to)) => {
            let _ = to.shutdown().await;
        }
        _ => {}
    }
}

/// To the end of one of them; then the other end learns it. Either may end early: that is not an error of the conversation.
async fn copy(mut from: Reader, mut to: Writer) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
