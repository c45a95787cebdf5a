//! PATCH: JSON, merge, strategic merge and apply, of an object or of a part of it.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use serde_json::Value;
use skiff_api::{
    Status,
    decode::{self, FieldValidation},
    patch,
    schema::Schema,
};

use crate::{
    context::Context,
    http::{
        body::{Sent, malformed},
        query::invalid_options,
    },
    object,
    pipeline::{self, Part, Write},
};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// The media types of a patch.
pub(crate) const MEDIA_TYPES: &[&str] = &[JSON, MERGE, STRATEGIC, APPLY];

/// A patch, read once and applied to as many versions of the object as it takes.
pub(super) enum Patcher<'c> {
    Json(Bytes),
    Merge(Value),
    Strategic(Value, &'c Schema),
}

impl<'c> Patcher<'c> {
    pub(super) fn new(sent: &Sent, schema: Option<&'c Schema>) -> Result<Self, Status> {
        let value = || serde_json::from_slice(&sent.bytes).map_err(|e| malformed(&e));
        match (sent.media.as_str(), schema) {
            (JSON, _) => Ok(Self::Json(sent.bytes.clone())),
            (MERGE, _) => Ok(Self::Merge(value()?)),
            // Without merge keys, a strategic patch is a merge patch.
            (STRATEGIC, None) => Ok(Self::Merge(value()?)),
            (STRATEGIC, Some(schema)) => Ok(Self::Strategic(value()?, schema)),
            _ => Err(Status::unsupported_media_type(&MEDIA_TYPES.join(", "))),
        }
    }

    pub(super) fn apply(&self, old: &Value) -> Result<Value, Status> {
        let mut object = old.clone();
        match self {
            Self::Json(bytes) => patch::json::apply(bytes, &mut object)?,
            Self::Merge(value) => patch::merge::apply(value.clone(), &mut object)?,
            Self::Strategic(value, schema) => patch::strategic::apply(schema, value.clone(), &mut object)?,
        }
        Ok(object)
    }
}

pub(super) async fn patch(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    if sent.media == APPLY {
        return apply(cx, sent).await;
    }
    if cx.options.force {
        return Err(invalid_options("force: Forbidden: may not be specified for non-apply patch"));
    }
    let schema = cx.kind().schema();
    let patcher = Patcher::new(sent, Some(schema))?;
    let name = cx.target.name();
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(cx.kind(), name))?;
        checked(cx, schema, patcher.apply(old)?)
    };
    let part = super::update::part(cx);
    let write = Write { part, name, may_create: false, may_update: true, applies: false, change: &change };
    super::written(cx, &pipeline::write(cx, &write).await?)
}

/// What a patch makes of an object is decoded as if the client had sent it whole.
fn checked(cx: &Context, schema: &Schema, object: Value) -> Result<Value, Status> {
    let validation: FieldValidation = cx.options.field_validation;
    let decoded = decode::decode(schema, object.into(), validation)?;
    decoded.warnings.into_iter().for_each(|w| cx.warn(w));
    Ok(decoded.value)
}

/// Server-side apply; what does not exist is created.
async fn apply(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    if cx.options.field_manager.is_none() {
        return Err(invalid_options("fieldManager: Required value: is required for apply patch"));
    }
    let (kind, schema, name) = (cx.kind(), cx.kind().schema(), cx.target.name());
    let parsed = decode::parse_yaml(&sent.bytes)?;
    let decoded = decode::decode(schema, parsed, cx.options.field_validation)?;
    decoded.warnings.into_iter().for_each(|w| cx.warn(w));
    let now = object::time(cx.now);
    let change = |old: Option<&Value>| {
        patch::apply::apply(kind, schema, old, decoded.value.clone(), &cx.writer(&now), cx.options.force)
    };
    let part = super::update::part(cx);
    let write = Write { part, name, may_create: part == Part::Main, may_update: true, applies: true, change: &change };
    super::written(cx, &pipeline::write(cx, &write).await?)
}
