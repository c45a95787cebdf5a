//! The API server as a tower service for clients in the same process.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use skiff_api::Status;
use tower::Service;

use crate::{
    authn::{Caller, UserInfo},
    http::{errors, handle},
    server::ApiServer,
};

/// Of a connection in the process, per direction.
const PIPE_BYTES: usize = 64 << 10;

/// See [`ApiServer::service`]. Cheap to clone; always ready, since the limits are inside.
#[derive(Clone, Debug)]
pub struct InProcess {
    api: Arc<ApiServer>,
    caller: Arc<Caller>,
}

impl InProcess {
    pub(crate) fn new(api: Arc<ApiServer>, user: UserInfo) -> Self {
        Self { api, caller: Arc::new(Caller::InProcess(user)) }
    }
}

impl<B> Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (api, caller) = (self.api.clone(), self.caller.clone());
        let request = request.map(Body::new);
        if request.headers().contains_key(header::UPGRADE) {
            return Box::pin(async move { Ok(upgraded(api, caller, request).await) });
        }
        Box::pin(async move { Ok(handle(&api, &caller, request).await) })
    }
}

/// Only a connection can change its protocol (exec, attach, port-forward): such a request gets one of its own, a pipe.
async fn upgraded(api: Arc<ApiServer>, caller: Arc<Caller>, mut request: Request<Body>) -> Response<Body> {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let (serving, shutdown) = (api.clone(), api.shutdown.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, caller) = (serving.clone(), caller.clone());
        async move { Ok::<_, Infallible>(handle(&api, &caller, request.map(Body::new)).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let serving = serving.with_upgrades();
    api.tasks.spawn(async move {
        tokio::select! {
            _ = serving => {}
            () = shutdown.cancelled() => {}
        }
    });
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).parse();
    *request.uri_mut() = path.unwrap_or_default();
    request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("in-process"));
    let sent = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await?;
        api.tasks.spawn(async move {
            // Its end is the end of the answer, which whoever asked sees.
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await
    };
    match sent.await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => errors::response(&Status::internal(error), None),
    }
}
