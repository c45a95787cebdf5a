//! Kubernetes' protobuf: `k8s\0`, then a `runtime.Unknown` around the message of the kind.
//!
//! Derived from upstream's descriptors (`messages.rs`): there is no code per kind. Bodies come from clients: every
//! length is checked, nesting and the number of values are limited, unknown fields are skipped, nothing panics.

mod messages;
mod read;
mod special;
pub(crate) mod wire;
mod write;

use serde_json::Value;

use crate::Status;

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Of a watch: frames of a 4-byte big-endian length and a bare `WatchEvent` message.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// What every message with an envelope begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Messages inside messages; upstream's schemas nest the deepest, and are limited to less.
const DEPTH_MAX: usize = 200;
/// Values in one body: two bytes can make one.
const VALUES_MAX: usize = 1 << 20;

/// A body with its magic → an object with `apiVersion` and `kind`. 400 for what is not right.
pub fn decode(body: &[u8]) -> Result<Value, Status> {
    read::envelope(body).map_err(|e| Status::bad_request(e.to_string()))
}

/// An object, a list or a Status, by its `apiVersion` and `kind`; 406 for kinds without a message (custom resources).
pub fn encode(object: &Value) -> Result<Vec<u8>, Status> {
    let mut out = Vec::with_capacity(512);
    envelope(object, &mut out)?;
    Ok(out)
}

/// Whether [`encode`] knows the kind. Lists: `PodList`.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    messages::of_kind(api_version, kind).is_some()
}

/// One frame of a watch: the length, then the event.
pub fn watch_frame(event_type: &str, object: &Value) -> Result<Vec<u8>, Status> {
    let mut out = vec![0; 4];
    wire::put_bytes(&mut out, 1, event_type.as_bytes());
    wire::put_nested(&mut out, 2, |out| wire::put_nested(out, 1, |out| envelope(object, out)))?;
    let length = u32::try_from(out.len() - 4).map_err(|_| Status::internal("a watch event of more than 4 GiB"))?;
    out.splice(..4, length.to_be_bytes());
    Ok(out)
}

fn envelope(object: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or("");
    let (version, kind) = (text("apiVersion"), text("kind"));
    let message = messages::of_kind(version, kind).ok_or_else(|| Status::not_acceptable("application/json"))?;
    out.extend_from_slice(MAGIC);
    wire::put_nested(out, 1, |out| {
        wire::put_bytes(out, 1, version.as_bytes());
        wire::put_bytes(out, 2, kind.as_bytes());
        Ok::<_, Status>(())
    })?;
    wire::put_nested(out, 2, |out| write::message(message, object, out, 0))
        .map_err(|e| Status::internal(format!("{version} {kind} does not encode: {e}")))?;
    // Upstream writes these two empty ones, too.
    wire::put_bytes(out, 3, b"");
    wire::put_bytes(out, 4, b"");
    Ok(())
}

#[cfg(test)]
mod tests;
