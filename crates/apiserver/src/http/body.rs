//! Request bodies: read once, within the limit, and decoded by their media type.

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use skiff_api::{
    Status,
    decode::{self, Parsed},
    protobuf,
};

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
    /// An object of the request's kind: fields that it does not have are dropped or reported as the client asked.
    pub(crate) fn object(&self, cx: &Context) -> Result<Value, Status> {
        let kind = cx.kind();
        let mut parsed = self.parse()?;
        decode::check_type_meta(&mut parsed.value, kind)?;
        let decoded = decode::decode(kind.schema(), parsed, cx.options.field_validation)?;
        decoded.warnings.into_iter().for_each(|w| cx.warn(w));
        Ok(decoded.value)
    }

    /// A JSON object of any kind.
    pub(crate) fn value(&self) -> Result<Value, Status> {
        let value = self.parse()?.value;
        if value.is_object() { Ok(value) } else { Err(malformed(&"the body is not an object")) }
    }

    fn parse(&self) -> Result<Parsed, Status> {
        match negotiate::body_format(&self.media)? {
            Format::Json => decode::parse_json(&self.bytes),
            Format::Yaml => decode::parse_yaml(&self.bytes),
            Format::Protobuf => protobuf::decode(&self.bytes).map(Parsed::from),
        }
    }
}

pub(crate) fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type object): {error}"))
}
