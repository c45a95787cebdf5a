//! HTTP: paths, queries, media types, bodies and errors. The way of a request is in `pipeline.rs`.

pub(crate) mod body;
pub(crate) mod endpoints;
pub(crate) mod errors;
pub(crate) mod negotiate;
pub(crate) mod present;
pub(crate) mod query;
pub(crate) mod route;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};

use crate::{authn::Caller, pipeline, server::ApiServer};

/// Answers one request; an error becomes a `Status` object.
pub(crate) async fn handle(api: &Arc<ApiServer>, caller: &Caller, request: Request<Body>) -> Response<Body> {
    let mut accepted = None;
    match pipeline::run(api, caller, request, &mut accepted).await {
        Ok(response) => response,
        Err(status) => errors::response(&status, accepted.as_ref()),
    }
}
