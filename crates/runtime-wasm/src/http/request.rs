//! One request: a place, an instance, an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
};

use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use skiff_runtime::Exit;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::Error;

use super::{
    body::{Body, text},
    call::{Call, Fault, Held, Outcome},
    connection::Busy,
    held::CHUNKS,
    server::{Place, Room, Server},
    service::{Answer, Given, Handler},
    slots::Slot,
    state::BODY_CHUNK_BYTES_MAX,
};
use crate::{
    guest::{self, Host},
    lanes::Metered,
};

/// What an instance counts from its first memory on for the bodies of its request: chunks of the answer that wait to be sent,
/// and a part of what came that was not read yet.
const BODIES_BYTES: u64 = (CHUNKS + 1) * BODY_CHUNK_BYTES_MAX as u64;

pub async fn answer(
    server: Arc<Server>,
    busy: Busy,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Err(status) = name_host(&mut request, &server.address) {
        return Ok(text(status));
    }
    if request.version() == Version::HTTP_2 && !busy.connection().has_windows() {
        return Ok(text(StatusCode::SERVICE_UNAVAILABLE));
    }
    let Some(server) = server.component(&mut request) else { return Ok(text(StatusCode::NOT_FOUND)) };
    let Some(place) = server.place().await else { return Ok(text(StatusCode::SERVICE_UNAVAILABLE)) };
    server.await_processor().await;
    let head_only = request.method() == Method::HEAD;
    let (sender, mut receiver) = oneshot::channel();
    let call = match begin(&server, &busy, request, sender, place) {
        Ok(call) => call,
        Err(status) => return Ok(text(status)),
    };
    let answer = std::future::poll_fn(|context| {
        call.poll(context);
        match Pin::new(&mut receiver).poll(context) {
            Poll::Ready(answer) => Poll::Ready(answer.ok()),
            // A warm instance may keep what it should have answered with.
            Poll::Pending if call.ended() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    Ok(match answer.await {
        // Nothing of it has been sent yet.
        Some(Ok(_)) if call.ended() && call.failed() => text(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Ok(response)) => {
            call.answered();
            let (head, body) = response.into_parts();
            match Body::of(call, body, busy, head_only, |bytes| server.charge(bytes)) {
                Some(body) => Response::from_parts(head, body),
                None => text(StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        Some(Err(code)) => text(status_of(&code)),
        None => text(match call.fault() {
            Some(Fault::NoRoom | Fault::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Some(Fault::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Some(Fault::Failed) | None => StatusCode::INTERNAL_SERVER_ERROR,
        }),
    })
}

/// A request without a host is for this one, if it is old enough not to know better.
fn name_host(request: &mut Request<Incoming>, address: &HeaderValue) -> Result<(), StatusCode> {
    if request.uri().authority().is_some() {
        return Ok(());
    }
    match request.headers().get(header::HOST) {
        Some(host) if host.to_str().is_ok() => Ok(()),
        Some(_) => Err(StatusCode::BAD_REQUEST),
        None if request.version() <= Version::HTTP_10 => {
            request.headers_mut().insert(header::HOST, address.clone());
            Ok(())
        }
        None => Err(StatusCode::BAD_REQUEST),
    }
}

/// An instance, or what one will be made in.
pub struct Instance {
    pub store: Store<Host>,
    pub handler: Option<Handler>,
    pub yielded: Arc<AtomicBool>,
    /// Requests that it has answered.
    pub served: u32,
    /// Dropped after the store: then its room is free.
    _slot: Slot,
}

impl Instance {
    fn new(server: &Server, slot: Slot) -> Result<Self, String> {
        let yielded = Arc::new(AtomicBool::new(false));
        let mut store = guest::store(&server.launch, None, &yielded)?;
        let limits = &mut store.data_mut().limits;
        limits.set_instance_max(server.setting.instance_memory_bytes_max);
        limits.set_host_bytes(BODIES_BYTES);
        Ok(Self { store, handler: None, yielded, served: 0, _slot: slot })
    }
}

fn begin(
    server: &Arc<Server>,
    busy: &Busy,
    request: Request<Incoming>,
    sender: oneshot::Sender<Answer>,
    Place { room, turn }: Place,
) -> Result<Held, StatusCode> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut instance = match room {
        Room::Warm(instance) => instance,
        Room::Fresh(slot) => Instance::new(server, slot).map_err(|error| {
            tracing::warn!(error, "no store for a request");
            StatusCode::SERVICE_UNAVAILABLE
        })?,
    };
    let given = server.program.hand_over(&mut instance.store, request, sender).map_err(|error| {
        tracing::debug!(error = %error, "request not understood");
        StatusCode::BAD_REQUEST
    })?;
    let outcome = Outcome::default();
    let yielded = instance.yielded.clone();
    let run = std::panic::AssertUnwindSafe(run(server.clone(), instance, given, turn, outcome.clone()));
    let guard = outcome.clone();
    let guest = run.catch_unwind().map(move |ended| {
        ended.unwrap_or_else(|_| {
            guard.set(Fault::Failed);
            guest::start_error("the host failed while it ran this request; its log tells more".to_owned())
        })
    });
    let guest = Metered {
        guest: Box::pin(guest),
        kill: None,
        yielded,
        usage: server.launch.usage.clone(),
        ticker: server.ticker.clone(),
        log: Some(server.log.clone()),
        bucket: server.bucket.clone(),
        slices: 0,
        pause: None,
    };
    Ok(Held::new(Call::new(server, busy.connection(), method, uri, outcome, guest)))
}

async fn run(
    server: Arc<Server>,
    mut instance: Instance,
    given: Given,
    turn: OwnedSemaphorePermit,
    outcome: Outcome,
) -> Exit {
    let exit = match handle(&server, &mut instance, given, &outcome).await {
        Ok(()) => {
            instance.served += 1;
            if !instance.store.data().limits.over {
                server.keep_warm(instance);
            }
            Exit::from_code(0)
        }
        Err(error) if matches!(error.downcast_ref(), Some(I32Exit(0))) => Exit::from_code(0),
        Err(error) => {
            let refused = instance.store.data().limits.refused.as_ref();
            // Before the store and its streams are gone.
            outcome.set(Fault::Failed);
            guest::exit_of(&error, refused, &server.launch.usage)
        }
    };
    drop(turn);
    exit
}

async fn handle(server: &Server, instance: &mut Instance, given: Given, outcome: &Outcome) -> wasmtime::Result<()> {
    let store = &mut instance.store;
    if instance.handler.is_none() {
        let made = server.program.instantiate(store).await.inspect_err(|error| {
            if store.data().limits.refused.is_some() || error.is::<PoolConcurrencyLimitError>() {
                outcome.set(Fault::NoRoom);
            }
        })?;
        instance.handler = Some(made);
    }
    let Some(handler) = &instance.handler else { return Err(wasmtime::Error::msg("no instance")) };
    handler.handle(store, given).await
}

/// What a guest's own error code means to the client: the codes are those of a proxy.
fn status_of(code: &Error) -> StatusCode {
    use Error as E;
    match code {
        E::HttpRequestDenied | E::DestinationIpProhibited => StatusCode::FORBIDDEN,
        E::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
        E::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
        E::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
        E::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
        E::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
        E::HttpRequestHeaderSectionSize(_) | E::HttpRequestHeaderSize { .. } => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        E::DnsTimeout | E::ConnectionTimeout | E::ConnectionReadTimeout | E::HttpResponseTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
        E::DnsError { .. }
        | E::DestinationNotFound
        | E::DestinationUnavailable
        | E::DestinationIpUnroutable
        | E::ConnectionRefused
        | E::ConnectionTerminated
        | E::HttpResponseIncomplete => StatusCode::BAD_GATEWAY,
        E::ConnectionLimitReached => StatusCode::SERVICE_UNAVAILABLE,
        E::LoopDetected => StatusCode::LOOP_DETECTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
