//! Request bodies: read once, within the limit, and decoded by their media type.

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use skiff_api::Status;

use super::negotiate::{self, Format};
use crate::{context::Context, verbs::PATCHES};

/// The most bytes of a request body, as upstream.
pub const BODY_BYTES_MAX: usize = 3 << 20;

/// A body as it came.
pub(crate) struct Sent {
    pub bytes: Bytes,
    pub media: String,
}

/// # Errors
/// 413 over [`BODY_BYTES_MAX`], 400 when the client broke off, 415 for a media type that is not an object's.
pub(crate) async fn read(request: Request<Body>) -> Result<Sent, Status> {
    let media = negotiate::content_type(request.headers());
    let sent = Sent { bytes: collect(request).await?, media };
    if !sent.bytes.is_empty() {
        negotiate::body_format(&sent.media)?;
    }
    Ok(sent)
}

/// As [`read`], for the media types of patches.
pub(crate) async fn read_patch(request: Request<Body>) -> Result<Sent, Status> {
    let media = negotiate::content_type(request.headers());
    if !PATCHES.contains(&media.as_str()) {
        return Err(Status::unsupported_media_type(&PATCHES.join(", ")));
    }
    Ok(Sent { bytes: collect(request).await?, media })
}

async fn collect(request: Request<Body>) -> Result<Bytes, Status> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if is_too_long(error.as_ref()) => Err(Status::too_large(BODY_BYTES_MAX)),
        Err(error) => Err(Status::bad_request(format!("failed to read the body: {error}"))),
    }
}

fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.is::<LengthLimitError>())
}

impl Sent {
    /// An object of the request's kind.
    pub(crate) fn object(&self, cx: &Context) -> Result<Value, Status> {
        let kind = cx.kind();
        let object = self.value()?;
        let (version, name) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
        let expected = kind.api_version();
        if !version.is_empty() && version != expected {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )));
        }
        if !name.is_empty() && name != kind.kind {
            return Err(Status::bad_request(format!(
                "{name} in version {:?} cannot be handled as a {}: converting ({name}) to ({}): unknown conversion",
                kind.version, kind.kind, kind.kind
            )));
        }
        Ok(object)
    }

    /// A JSON object of any kind.
    pub(crate) fn value(&self) -> Result<Value, Status> {
        let value: Value = match negotiate::body_format(&self.media)? {
            Format::Json => serde_json::from_slice(&self.bytes).map_err(|e| malformed(&e))?,
            Format::Yaml => {
                let text = std::str::from_utf8(&self.bytes).map_err(|e| malformed(&e))?;
                serde_saphyr::from_str(text).map_err(|e| malformed(&e))?
            }
        };
        if value.is_object() { Ok(value) } else { Err(malformed(&"the body is not an object")) }
    }
}

pub(crate) fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type object): {error}"))
}
