//! PUT: of an object, or of a part of it.

use axum::body::Body;
use http::Response;
use skiff_api::{FieldError, Status, kinds::Subresource};

use crate::{
    context::Context,
    http::body::Sent,
    object,
    pipeline::{self, Part, Write},
};

/// The part that a subresource of the object stands for.
pub(super) fn part(cx: &Context) -> Part {
    match cx.target.subresource {
        Some(Subresource::Status | Subresource::Approval) => Part::Status,
        Some(Subresource::Finalize) => Part::Finalize,
        Some(Subresource::EphemeralContainers) => Part::EphemeralContainers,
        Some(Subresource::Resize) => Part::Resize,
        _ => Part::Main,
    }
}

pub(super) async fn update(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    let object = sent.object(cx)?;
    if object::name(&object).is_empty() {
        let error = FieldError::required("metadata.name", "name is required");
        return Err(Status::invalid(cx.kind(), "", &vec![error]));
    }
    let first = parking_lot::Mutex::new(Some(object));
    let change = |_: Option<&serde_json::Value>| match first.lock().take() {
        Some(object) => Ok(object),
        None => sent.object(cx),
    };
    let part = part(cx);
    let may_create = part == Part::Main && cx.kind().hooks.create_on_update;
    let write = Write { part, name, may_create, may_update: true, applies: false, change: &change };
    super::written(cx, &pipeline::write(cx, &write).await?)
}
