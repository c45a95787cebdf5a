//! POST to a collection.

use axum::body::Body;
use http::Response;
use skiff_api::Status;

use crate::{
    context::Context,
    http::body::Sent,
    object,
    pipeline::{self, Part, Write},
};

pub(super) async fn create(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let object = sent.object(cx)?;
    let name = object::name(&object).to_owned();
    let first = parking_lot::Mutex::new(Some(object));
    let change = |_: Option<&serde_json::Value>| match first.lock().take() {
        Some(object) => Ok(object),
        None => sent.object(cx),
    };
    let write =
        Write { part: Part::Main, name: &name, may_create: true, may_update: false, applies: false, change: &change };
    super::written(cx, &pipeline::write(cx, &write).await?)
}
