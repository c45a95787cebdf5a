//! Kubernetes' protobuf: `k8s\0`, then a `runtime.Unknown` around the message of the kind.

use serde_json::Value;

use crate::Status;

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Of a watch: frames of a 4-byte big-endian length and a bare `WatchEvent` message.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// A body with its magic → an object with `apiVersion` and `kind`. 400 for what is not right.
pub fn decode(body: &[u8]) -> Result<Value, Status> {
    let _ = body;
    Err(Status::bad_request("protobuf bodies of this kind are not supported"))
}

/// An object, a list or a Status, by its `apiVersion` and `kind`; 406 for kinds without a message (custom resources).
pub fn encode(object: &Value) -> Result<Vec<u8>, Status> {
    let _ = object;
    Err(Status::not_acceptable("application/json"))
}

/// Whether [`encode`] knows the kind. Lists: `PodList`.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    let _ = (api_version, kind);
    false
}

/// One frame of a watch: the length, then the event.
pub fn watch_frame(event_type: &str, object: &Value) -> Result<Vec<u8>, Status> {
    let _ = (event_type, object);
    Err(Status::not_acceptable("application/json"))
}
