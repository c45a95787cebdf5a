//! `metav1.Status`: every error that a client of the API can meet.

use serde_json::{Value, json};

use crate::{FieldErrors, Kind};

#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason: `NotFound`, `Conflict`, `Invalid`, ….
    pub reason: &'static str,
    pub message: String,
    /// `details`: `name`, `group`, `kind` (the plural, as upstream has it), `uid`, `causes`, `retryAfterSeconds`.
    pub details: Value,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Status {}

/// `pods`, `deployments.apps`.
fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.plural.to_string() } else { format!("{}.{}", kind.plural, kind.group) }
}

fn details(kind: &Kind, name: &str) -> Value {
    let mut d = json!({ "name": name, "kind": kind.plural });
    if !kind.group.is_empty() {
        d["group"] = json!(kind.group);
    }
    d
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self {
            details: details(kind, name),
            ..Self::new(404, "NotFound", format!("{} {name:?} not found", qualified(kind)))
        }
    }
    /// No such path.
    pub fn no_such_resource() -> Self {
        Self { details: json!({}), ..Self::new(404, "NotFound", "the server could not find the requested resource") }
    }
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self {
            details: details(kind, name),
            ..Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(kind)))
        }
    }
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        Self {
            details: details(kind, name),
            ..Self::new(
                409,
                "Conflict",
                format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(kind)),
            )
        }
    }
    /// The object changed under the writer.
    pub fn stale(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }
    /// 422 with one cause per field.
    pub fn invalid(kind: &Kind, name: &str, errors: &FieldErrors) -> Self {
        let causes: Vec<Value> =
            errors.iter().map(|e| json!({ "reason": e.reason(), "message": e.body(), "field": e.field })).collect();
        let list = match errors.as_slice() {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let type_name =
            if kind.group.is_empty() { kind.kind.to_string() } else { format!("{}.{}", kind.kind, kind.group) };
        let mut d = details(kind, name);
        // Upstream names the kind, not the plural, in this one.
        d["kind"] = json!(kind.kind);
        d["causes"] = json!(causes);
        Self { details: d, ..Self::new(422, "Invalid", format!("{type_name} {name:?} is invalid: {list}")) }
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let subject = if name.is_empty() { qualified(kind) } else { format!("{} {name:?}", qualified(kind)) };
        Self { details: details(kind, name), ..Self::new(403, "Forbidden", format!("{subject} is forbidden: {why}")) }
    }
    pub fn method_not_allowed(kind: &Kind, verb: &str) -> Self {
        Self {
            details: details(kind, ""),
            ..Self::new(
                405,
                "MethodNotAllowed",
                format!("{verb} is not supported on resources of kind {:?}", qualified(kind)),
            )
        }
    }
    pub fn not_acceptable(offered: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {offered}"))
    }
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit_bytes}"))
    }
    /// 410: the revision or continue token is older than the history that is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self {
            details: json!({ "retryAfterSeconds": retry_after_seconds }),
            ..Self::new(429, "TooManyRequests", message)
        }
    }
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            out["details"] = self.details.clone();
        }
        out
    }
}
