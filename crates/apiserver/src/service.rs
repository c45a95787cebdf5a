//! The API server as a tower service for clients in the same process.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

use crate::{
    authn::{Caller, UserInfo},
    http::handle,
    server::ApiServer,
};

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
        Box::pin(async move { Ok(handle(&api, &caller, request.map(Body::new)).await) })
    }
}
