//! `/openapi/v3`: an index, and one OpenAPI 3.0 document per group and version.

use serde_json::{Value, json};

use crate::Kind;

/// `/openapi/v3`. `hash` of a document is put into its URL, so that clients can cache it for ever.
pub fn index<'a>(kinds: impl IntoIterator<Item = &'a Kind>, hash: impl Fn(&str) -> String) -> Value {
    let _ = (kinds.into_iter(), hash("api/v1"));
    json!({ "paths": {} })
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`; `None`: no such version.
pub fn document<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> Option<Value> {
    let _ = (kinds.into_iter(), group, version);
    None
}
