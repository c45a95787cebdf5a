//! get, list and watch.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use skiff_api::Status;

use super::respond;
use crate::{
    context::Context,
    http::{present::Presenter, query::ListOptions},
    registry::{
        filter::Filter,
        list,
        watch::{self, Request},
    },
};

pub(super) fn get(cx: &Context) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    Ok(respond(cx, StatusCode::OK, presenter.object(&entry.value)?))
}

pub(super) async fn list(cx: &Context) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(cx.resource(), cx.namespace(), None, &options)?;
    let page = list::list(cx.api.store.as_ref(), cx.resource(), &filter, &options).await?;
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    Ok(respond(cx, StatusCode::OK, presenter.list(&page)?))
}

pub(super) async fn watch(cx: Context) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(&cx.query, true)?;
    let filter = Filter::new(cx.resource(), cx.namespace(), cx.target.name.as_deref(), &options)?;
    // Refuses a bad `includeObject` now and not in the middle of the stream.
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    let content_type = presenter.watch_content_type();
    let permit = cx.api.gates.watch()?;
    let request = Request {
        resource: cx.target.resource.clone(),
        filter,
        options,
        accepted: cx.accepted,
        query: cx.query.clone(),
        shutdown: cx.closing.clone(),
        _permit: permit,
    };
    let stream = watch::watch(cx.api.store.as_ref(), request).await?;
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}
