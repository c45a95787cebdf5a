//! The two kinds of components that answer requests: those of WASI 0.2, which are handed a place for their response, and those
//! of 0.3, which return it and may write its body afterwards.
//!
//! What must stay true: what a 0.3 guest still does when it has answered (its body above all) goes on until it has ended and
//! its body was read or given up; only then is its instance another request's.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use wasmtime::{
    Store,
    component::{Accessor, Resource},
};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView as _,
    p2::{
        bindings::{Proxy, ProxyPre, http::types::Scheme},
        types::{HostIncomingRequest, HostResponseOutparam},
    },
    p3::{
        self,
        bindings::{Service as Service3, ServicePre as Service3Pre},
    },
};

use crate::guest::{Host, RESOURCES_MAX};

/// What a component of 0.3 exports that answers requests.
pub const HANDLER_0_3: &str = "wasi:http/handler@0.3.";

pub type Answer = Result<Response<WasiBody>, Error>;

/// What an instance is made of.
#[derive(Clone)]
pub enum Service {
    Wasi2(ProxyPre<Host>),
    Wasi3(Service3Pre<Host>),
}

/// An instance's entry.
pub enum Handler {
    Wasi2(Proxy),
    Wasi3(Service3),
}

/// A request in the guest's table, and where its answer goes.
pub enum Given {
    Wasi2(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>),
    Wasi3(Given3),
}

pub struct Given3 {
    request: Resource<p3::Request>,
    /// How the host's reading of the request's body ended.
    read: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
    sender: oneshot::Sender<Answer>,
}

impl Service {
    pub async fn instantiate(&self, store: &mut Store<Host>) -> wasmtime::Result<Handler> {
        Ok(match self {
            Self::Wasi2(program) => Handler::Wasi2(program.instantiate_async(store).await?),
            Self::Wasi3(program) => Handler::Wasi3(program.instantiate_async(store).await?),
        })
    }

    /// Puts the request, and where to answer it, into the guest's table. What a warm instance has left there is no hindrance.
    pub fn hand_over(
        &self,
        store: &mut Store<Host>,
        request: Request<Incoming>,
        sender: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<Given> {
        let host = store.data_mut();
        host.wasi.ctx().table.set_max_capacity(usize::MAX);
        let given = match self {
            Self::Wasi2(_) => hand_over_2(host, request, sender),
            Self::Wasi3(_) => hand_over_3(host, request, sender),
        };
        host.wasi.ctx().table.set_max_capacity(RESOURCES_MAX);
        given
    }
}

fn hand_over_2(
    host: &mut Host,
    request: Request<Incoming>,
    sender: oneshot::Sender<Answer>,
) -> wasmtime::Result<Given> {
    let request = host.http().new_incoming_request(Scheme::Http, request)?;
    let out = host.http().new_response_outparam_from_callback(move |answer| {
        let _ = sender.send(answer.map_err(Error::from));
    })?;
    Ok(Given::Wasi2(request, out))
}

fn hand_over_3(
    host: &mut Host,
    request: Request<Incoming>,
    sender: oneshot::Sender<Answer>,
) -> wasmtime::Result<Given> {
    let authority = match (request.uri().authority(), request.headers().get(header::HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => Some(host.as_bytes().try_into()?),
        (None, None) => None,
    };
    let (mut request, read) = p3::Request::from_http(host.http().hooks, request);
    request.scheme = Some(http::uri::Scheme::HTTP);
    request.authority = authority;
    let request = host.wasi.ctx().table.push(request)?;
    Ok(Given::Wasi3(Given3 { request, read: Box::pin(read), sender }))
}

impl Handler {
    /// Runs the guest until it has nothing left to do for the request.
    pub async fn handle(&self, store: &mut Store<Host>, given: Given) -> wasmtime::Result<()> {
        match (self, given) {
            (Self::Wasi2(proxy), Given::Wasi2(request, out)) => {
                proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
            }
            (Self::Wasi3(service), Given::Wasi3(given)) => {
                store.run_concurrent(async |guest| handle_3(guest, service, given).await).await?
            }
            _ => Err(wasmtime::Error::msg("the request is for another kind of guest")),
        }
    }
}

async fn handle_3(guest: &Accessor<Host>, service: &Service3, given: Given3) -> wasmtime::Result<()> {
    let answer = service.wasi_http_handler().call_handle(guest, given.request).await?;
    let (kept, read) = oneshot::channel();
    let answer = match answer {
        Ok(response) => {
            let response = guest.with(|mut store| {
                let response = store.data_mut().wasi.ctx().table.delete(response)?;
                response.into_http(store, given.read)
            })?;
            Ok(response.map(|body| Kept { body, kept: Some(kept) }.boxed_unsync()))
        }
        Err(code) => Err(Error::from(code)),
    };
    // Nobody may wait for it any more.
    let _ = given.sender.send(answer);
    poll_fn(|context| guest.poll_no_interesting_tasks(context)).await;
    // What is left of the body may be the host's to write: a file's, or another response's.
    let _ = read.await;
    Ok(())
}

/// A guest's body that tells when it was read or given up, by dropping its sender.
struct Kept {
    body: WasiBody,
    kept: Option<oneshot::Sender<()>>,
}

impl Body for Kept {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.kept = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
