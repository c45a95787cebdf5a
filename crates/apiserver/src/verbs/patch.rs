//! PATCH: JSON, merge, strategic merge and apply, of an object or of a part of it.

use axum::body::Body;
use http::Response;
use serde_json::Value;
use skiff_api::Status;

use crate::{
    context::Context,
    http::body::{Sent, malformed},
    pipeline::{self, Write},
};

const MERGE: &str = "application/merge-patch+json";
/// The media types of a patch.
pub(crate) const MEDIA_TYPES: &[&str] = &[MERGE];

pub(super) async fn patch(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let patch: Value = match sent.media.as_str() {
        MERGE => serde_json::from_slice(&sent.bytes).map_err(|e| malformed(&e))?,
        _ => return Err(Status::unsupported_media_type(&MEDIA_TYPES.join(", "))),
    };
    let change = |old: Option<&Value>| {
        let mut object = old.cloned().unwrap_or_default();
        merge(&mut object, &patch);
        Ok(object)
    };
    let part = super::update::part(cx);
    let write = Write { part, name: cx.target.name(), may_create: false, may_update: true, change: &change };
    super::written(cx, &pipeline::write(cx, &write).await?)
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}
