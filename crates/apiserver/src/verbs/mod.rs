//! One file per verb and per subresource with behaviour of its own: each is what is left when the pipeline has done
//! the rest.

mod binding;
mod create;
mod delete;
mod patch;
mod read;
mod update;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use skiff_api::{Status, kinds::Subresource};

pub(crate) use patch::MEDIA_TYPES as PATCHES;

use crate::{
    context::Context,
    http::{body, present::Presenter, route::Verb},
    pipeline::Written,
};

pub(crate) async fn dispatch(cx: Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    if !allowed(&cx) {
        return Err(Status::method_not_allowed(cx.kind(), request.method().as_str()));
    }
    match (cx.target.subresource, cx.verb) {
        (None | Some(Subresource::Status), Verb::Get) => read::get(&cx),
        (None, Verb::List) => read::list(&cx).await,
        (None, Verb::Watch) => read::watch(cx).await,
        (None, Verb::Delete | Verb::DeleteCollection) => {
            let sent = body::read(request).await?;
            delete::delete(cx, &sent).await
        }
        (Some(Subresource::Binding), Verb::Create) => {
            let sent = body::read(request).await?;
            binding::bind(&cx, &sent).await
        }
        (None, Verb::Create) if cx.resource().is("", "bindings") => {
            let sent = body::read(request).await?;
            binding::bind(&cx, &sent).await
        }
        (None, Verb::Create) => {
            let sent = body::read(request).await?;
            create::create(&cx, &sent).await
        }
        (None | Some(Subresource::Status | Subresource::Finalize | Subresource::Approval), Verb::Update) => {
            let sent = body::read(request).await?;
            update::update(&cx, &sent).await
        }
        (None | Some(Subresource::Status | Subresource::Approval), Verb::Patch) => {
            let sent = body::read_patch(request).await?;
            patch::patch(&cx, &sent).await
        }
        (Some(subresource), _) => Err(not_served(&cx, subresource)),
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
        None if namespaced_without_namespace && !matches!(cx.verb, Verb::List | Verb::Watch) => {
            // Reviews and other kinds without storage have no namespace to name.
            false
        }
        None => cx.kind().verbs.allows(cx.verb.as_str()),
    }
}

fn not_served(cx: &Context, subresource: Subresource) -> Status {
    let what = format!("{}/{}", cx.kind().plural, subresource.name());
    Status::new(501, "NotImplemented", format!("{what} is not implemented by this API server"))
}

/// The answer to a write: the object as stored.
fn written(cx: &Context, written: &Written) -> Result<Response<Body>, Status> {
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    let bytes = presenter.object(&written.stored)?;
    Ok(respond(cx, written.code, bytes))
}

/// An answer in the negotiated format, with the warnings that came up.
fn respond(cx: &Context, code: StatusCode, bytes: bytes::Bytes) -> Response<Body> {
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
