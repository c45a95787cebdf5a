//! The only place that maps errors to HTTP.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use skiff_api::{Kind, Status};
use skiff_store::{Error, Revision};

use super::negotiate::{Accepted, Format};
use crate::nodes::NodeError;

/// What a store error means to a client; [`Error::Conflict`] is answered by the registry, which knows the object.
pub(crate) fn of_store(error: Error) -> Status {
    match error {
        Error::Conflict { key, .. } => Status::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {key}: the object has been modified; please apply your changes to the latest version and try again"
            ),
        ),
        Error::Compacted { requested, oldest } => {
            Status::expired(format!("too old resource version: {requested} ({oldest})"))
        }
        Error::Future { requested, current } => too_large_revision(requested, current),
        Error::Lagged { .. } => Status::expired(error.to_string()),
        Error::TooLarge { .. } => Status::new(413, "RequestEntityTooLarge", error.to_string()),
        Error::Disk { .. } | Error::WrittenTwice { .. } => Status::internal(error),
        Error::Closed => Status::unavailable("the store is closed: the API server is shutting down"),
    }
}

/// 504, and clients of upstream try again after a second.
pub(crate) fn too_large_revision(requested: Revision, current: Revision) -> Status {
    let message = format!("Too large resource version: {requested}, current: {current}");
    let details = json!({
        "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
        "retryAfterSeconds": 1,
    });
    Status { details, ..Status::timeout(message) }
}

pub(crate) fn of_node(error: &NodeError) -> Status {
    match error {
        NodeError::Unknown { .. } => Status::unavailable(error.to_string()),
        NodeError::Unreachable { .. } => Status::new(502, "InternalError", error.to_string()),
    }
}

/// Upstream's words for a precondition that did not hold.
pub(crate) fn precondition(kind: &Kind, name: &str, what: &str, wanted: &str, found: &str) -> Status {
    let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
    Status::conflict(kind, name, &why)
}

/// The `Status` object of an error as clients see it.
pub(crate) fn to_json(status: &Status) -> Value {
    let mut status = status.clone();
    let fresh = status.details.as_object_mut().and_then(|d| d.remove("continue"));
    if status.details.as_object().is_some_and(|d| d.is_empty()) && fresh.is_some() {
        status.details = Value::Null;
    }
    let mut out = status.to_json();
    if let Some(token) = fresh {
        out["metadata"]["continue"] = token;
    }
    out
}

/// The answer to a request that failed, in the format that the client takes.
pub(crate) fn response(status: &Status, accepted: Option<&Accepted>) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let object = to_json(status);
    let format = accepted.map_or(Format::Json, |a| a.format);
    let (bytes, content_type) =
        format.encode(&object).unwrap_or_else(|_| (Bytes::from(object.to_string()), "application/json"));
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Some(after) = status.details.get("retryAfterSeconds").and_then(Value::as_u64) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
    }
    response
}
