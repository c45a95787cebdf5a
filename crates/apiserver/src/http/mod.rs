//! HTTP: paths, queries, media types, bodies and errors. The way of a request is in `pipeline.rs`.

pub(crate) mod body;
pub(crate) mod discovery;
pub(crate) mod endpoints;
pub(crate) mod errors;
pub(crate) mod negotiate;
pub(crate) mod present;
pub(crate) mod query;
pub(crate) mod route;
mod serve;

use std::{sync::Arc, time::Instant};

use axum::body::Body;
use http::{Request, Response};

use crate::{authn::Caller, pipeline, server::ApiServer};

/// What is known about a request by the time it is answered, for the error's format and for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub accepted: Option<negotiate::Accepted>,
    pub about: Option<(route::Verb, route::Target)>,
    /// A stream, whose length says nothing about the server.
    pub long_running: bool,
}

/// Answers one request; an error becomes a `Status` object.
pub(crate) async fn handle(api: &Arc<ApiServer>, caller: &Caller, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let mut record = Record::default();
    let response = match pipeline::run(api, caller, request, &mut record).await {
        Ok(response) => response,
        Err(status) => {
            tracing::debug!(code = status.code, reason = status.reason, error = %status.message, "refused");
            errors::response(&status, record.accepted.as_ref())
        }
    };
    if let Some((verb, target)) = &record.about {
        let seconds = (!record.long_running).then(|| started.elapsed().as_secs_f64());
        let subresource = target.subresource.map_or("", |s| s.name());
        api.metrics.answered(verb.as_str(), &target.resource, subresource, response.status().as_u16(), seconds);
    }
    response
}
