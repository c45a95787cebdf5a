//! The way of every request, on one page:
//!
//! authenticate → authorize → decode → default → admit (mutate) → prepare → validate → admit (validate) → commit →
//! encode
//!
//! Built-in kinds and custom resources, every verb and every subresource go this way; nothing else writes to the
//! store.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::Value;
use skiff_api::Status;
use skiff_store::{Entry, Expect, Key};
use tracing::Instrument;

use crate::{
    admission,
    authn::{self, Caller},
    authz, commit,
    context::Context,
    http::{
        Record, endpoints,
        negotiate::Accepted,
        query::{Query, WriteOptions},
        route::{self, Route, Verb},
    },
    prepare,
    server::ApiServer,
    validate, verbs,
};

/// Reads and writes alike come in here.
pub(crate) async fn run(
    api: &Arc<ApiServer>,
    caller: &Caller,
    request: Request<Body>,
    record: &mut Record,
) -> Result<Response<Body>, Status> {
    let user = authn::authenticate(api, caller, request.headers())?;
    let route = route::route(&api.registry, request.uri().path())?;
    let Route::Resource(target) = route else {
        authz::authorize_path(&user, request.method(), request.uri().path(), &route)?;
        return endpoints::answer(api, &route, &request);
    };
    let query = Query::parse(request.uri().query());
    let verb = Verb::of(request.method(), &target, query.flag("watch"))
        .ok_or_else(|| Status::method_not_allowed(&target.resource.kind, request.method().as_str()))?;
    record.about = Some((verb, target.clone()));
    authz::authorize(&user, verb, &target)?;
    let accepted = Accepted::negotiate(request.headers(), &target.resource.kind)?;
    record.accepted = Some(accepted);
    let options = WriteOptions::parse(&query)?;
    record.long_running = verb == Verb::Watch || target.subresource.is_some_and(verbs::is_stream);
    let span =
        tracing::debug_span!("request", verb = verb.as_str(), kind = %target.resource.kind.kind, name = target.name());
    let closing = caller.closing(api);
    let cx = Context::new(api.clone(), user, target, verb, query, options, accepted, closing, request.headers());
    let work = verbs::dispatch(cx, request).instrument(span);
    if record.long_running {
        return work.await;
    }
    let _permit = api.gates.request().await?;
    let patience = api.limits.request_timeout;
    let late = |_| Status::timeout(format!("the request did not finish within {} s", patience.as_secs()));
    tokio::time::timeout(patience, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// What a write does to the object that is stored: from the present object (none: it does not exist) to the next.
/// Both are in the version that the client speaks. It runs again when another writer came first.
pub(crate) type Change<'c> = dyn Fn(Option<&Value>) -> Result<Value, Status> + Send + Sync + 'c;

/// Which part of the object a write is about; the rest is taken from what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
    /// `spec.ephemeralContainers` of a pod.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// Written by the server itself on behalf of a request (a binding, a scale): everything but the identity may change.
    Whole,
    /// The marks of a deletion; the object goes when nothing holds it.
    Deletion,
}

pub(crate) struct Write<'c> {
    pub part: Part,
    /// Empty: generated from `metadata.generateName`.
    pub name: &'c str,
    pub may_create: bool,
    pub may_update: bool,
    /// The change is an apply, which keeps the record of who owns which field itself.
    pub applies: bool,
    pub change: &'c Change<'c>,
}

/// A write that is under way.
pub(crate) struct Stage {
    pub part: Part,
    pub key: Key,
    pub object: Value,
    /// What is stored, as a value and as an entry; `None` for a create.
    pub old: Option<Value>,
    pub entry: Option<Arc<Entry>>,
    /// What else must hold when it commits.
    pub guards: Vec<(Key, Expect)>,
    /// See [`Write::applies`].
    pub applied: bool,
    /// The name was made up here: another one is tried when it is taken.
    pub generated: bool,
}

/// The outcome of a write: the bytes as stored.
#[derive(Debug)]
pub(crate) struct Written {
    pub code: StatusCode,
    pub stored: Bytes,
    /// The object is gone: this was the deletion, or the update that removed the last finalizer.
    pub deleted: bool,
}

/// Attempts of one request before a writer that is always overtaken gets its conflict.
const ATTEMPTS_MAX: usize = 64;

pub(crate) async fn write(cx: &Context, write: &Write<'_>) -> Result<Written, Status> {
    for _ in 0..ATTEMPTS_MAX {
        let mut stage = prepare::observe(cx, write)?;
        prepare::default(cx, &mut stage)?;
        admission::mutate(cx, &mut stage)?;
        prepare::prepare(cx, &mut stage)?;
        if let Some(unchanged) = commit::unchanged(&mut stage) {
            return Ok(unchanged);
        }
        validate::validate(cx, &stage)?;
        admission::validate(cx, &stage)?;
        if let Some(written) = commit::commit(cx, stage).await? {
            return Ok(written);
        }
    }
    Err(Status::stale(cx.kind(), write.name))
}
