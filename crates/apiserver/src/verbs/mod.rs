//! One file per verb and per subresource with behaviour of its own: each is what is left when the pipeline has done
//! the rest.

mod binding;
mod connect;
mod create;
mod delete;
mod eviction;
mod node;
mod patch;
mod read;
mod reviews;
mod scale;
mod token;
mod update;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use skiff_api::{Status, kinds::Subresource};

pub(crate) use patch::MEDIA_TYPES as PATCHES;

use crate::{
    context::Context,
    http::{body, present::Presenter, route::Verb},
    pipeline::Written,
    usage,
};

pub(crate) async fn dispatch(cx: Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    if !allowed(&cx) {
        return Err(Status::method_not_allowed(cx.kind(), request.method().as_str()));
    }
    match cx.target.subresource {
        None => object(cx, request).await,
        Some(subresource) => part(&cx, subresource, request).await,
    }
}

/// A verb on whole objects.
async fn object(cx: Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    match cx.verb {
        Verb::Get | Verb::List if usage::serves(&cx) => usage::read(&cx).await,
        Verb::Get => read::get(&cx),
        Verb::List => read::list(&cx).await,
        Verb::Watch => read::watch(cx).await,
        Verb::Create if cx.resource().is("", "bindings") => binding::bind(&cx, &body::read(request).await?).await,
        Verb::Create if reviews::is_review(&cx) => reviews::answer(&cx, &body::read(request).await?),
        Verb::Create => create::create(&cx, &body::read(request).await?).await,
        Verb::Update => update::update(&cx, &body::read(request).await?).await,
        Verb::Patch => patch::patch(&cx, &body::read_patch(request).await?).await,
        Verb::Delete | Verb::DeleteCollection => delete::delete(cx, &body::read(request).await?).await,
    }
}

/// A verb on a subresource.
async fn part(cx: &Context, subresource: Subresource, request: Request<Body>) -> Result<Response<Body>, Status> {
    use Subresource::{
        Approval, Attach, Binding, EphemeralContainers, Eviction, Exec, Finalize, Log, PortForward, Proxy, Resize,
        Scale, Status as OfStatus, Token,
    };
    match (subresource, cx.verb) {
        (OfStatus | Approval | Finalize | EphemeralContainers | Resize, Verb::Get) => read::get(cx),
        (EphemeralContainers, Verb::Update | Verb::Patch) => Err(no_ephemeral_containers()),
        (OfStatus | Approval | Finalize | Resize, Verb::Update) => {
            update::update(cx, &body::read(request).await?).await
        }
        (OfStatus | Approval | Resize, Verb::Patch) => patch::patch(cx, &body::read_patch(request).await?).await,
        (Scale, Verb::Get) => scale::get(cx),
        (Scale, Verb::Update) => scale::put(cx, &body::read(request).await?).await,
        (Scale, Verb::Patch) => scale::patch(cx, &body::read_patch(request).await?).await,
        (Binding, Verb::Create) => binding::bind(cx, &body::read(request).await?).await,
        (Eviction, Verb::Create) => eviction::evict(cx, &body::read(request).await?).await,
        (Token, Verb::Create) => token::create(cx, &body::read(request).await?),
        (Log, Verb::Get) => node::log(cx).await,
        (Proxy, _) if cx.resource().is("", "pods") => connect::proxy(cx, request).await,
        (Proxy, _) => node::proxy(cx, request).await,
        (Exec | Attach | PortForward, _) => connect::upgrade(cx, subresource, request).await,
        _ => Err(Status::method_not_allowed(cx.kind(), request.method().as_str())),
    }
}

/// Whether a subresource answers with a stream that lasts as long as the client likes.
pub(crate) fn is_stream(subresource: Subresource) -> bool {
    use Subresource::{Attach, Exec, Log, PortForward, Proxy};
    matches!(subresource, Log | Exec | Attach | PortForward | Proxy)
}

fn allowed(cx: &Context) -> bool {
    let namespaced_without_namespace = cx.kind().namespaced && cx.target.namespace.is_none();
    match cx.target.subresource {
        Some(subresource) => subresource.verbs().contains(&cx.verb.as_str()),
        None if namespaced_without_namespace && !matches!(cx.verb, Verb::List | Verb::Watch) => false,
        None if cx.verb == Verb::Create && cx.target.name.is_some() => false,
        None => cx.kind().verbs.allows(cx.verb.as_str()),
    }
}

fn not_served(cx: &Context, subresource: Subresource) -> Status {
    let what = format!("{}/{}", cx.kind().plural, subresource.name());
    Status::new(501, "NotImplemented", format!("{what} is not implemented by this API server"))
}

/// No node runs them: `kubectl debug` would wait for ever. It understands a 404 that names nothing.
fn no_ephemeral_containers() -> Status {
    let message = "the nodes of this cluster run no ephemeral containers; kubectl debug --copy-to makes a copy of the pod with \
                   another container";
    Status { details: serde_json::json!({}), ..Status::new(404, "NotFound", message) }
}

/// The answer to a write: the object as stored.
fn written(cx: &Context, written: &Written) -> Result<Response<Body>, Status> {
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    let bytes = presenter.object(&written.stored)?;
    Ok(respond(cx, written.code, bytes))
}

/// An answer in the negotiated format, with the warnings that came up.
pub(crate) fn respond(cx: &Context, code: StatusCode, bytes: bytes::Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(cx.accepted.format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    for text in cx.warnings() {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            headers.append(header::WARNING, value);
        }
    }
    response
}
