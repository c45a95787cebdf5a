//! Request bodies → objects: parsing with duplicate keys seen, then one walk over the schema that drops or reports
//! what the kind does not have.
//!
//! The wording is upstream's, down to the Go types in it, because clients and people match on it. The walk is in
//! place: on a write that is right it allocates nothing.

mod parse;
mod walk;

use serde_json::Value;

use crate::schema::Schema;
use crate::{Kind, Status};

pub use parse::{DocumentError, parse_json, parse_yaml, parse_yaml_documents};

/// The `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// What a request without the parameter gets.
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// From the query; 422 in upstream's words is the pipeline's to make of `None`.
    pub fn from_query(value: &str) -> Option<Self> {
        match value {
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            "Ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// A parsed body and the paths of the keys that were there twice (the last one won).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub value: Value,
    /// `spec.replicas`, `spec.containers[0].name`.
    pub duplicates: Vec<String>,
}

impl From<Value> for Parsed {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// A decoded object with what is to be said in `Warning:` headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

/// Complaints of one body beyond this many are not listed, as upstream limits them.
const COMPLAINTS_MAX: usize = 100;

/// Drops what the schema does not know, reports it as `validation` says, and brings times, quantities and nulls into
/// the form in which they are stored. 400 for values of the wrong type.
///
/// For a custom resource's schema only the metadata is checked for types; the rest is pruned, and validated later.
pub fn decode(schema: &Schema, parsed: Parsed, validation: FieldValidation) -> Result<Decoded, Status> {
    let Parsed { mut value, duplicates } = parsed;
    let unknown = match walk::walk(schema, &mut value) {
        Ok(unknown) => unknown,
        Err(problem) => return Err(cannot_be_handled(&value, &problem.to_string())),
    };
    if validation == FieldValidation::Ignore || (unknown.is_empty() && duplicates.is_empty()) {
        return Ok(Decoded { value, warnings: Vec::new() });
    }
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    let complaints: Vec<String> = duplicates.chain(unknown).take(COMPLAINTS_MAX).collect();
    if validation == FieldValidation::Strict {
        return Err(cannot_be_handled(&value, &format!("strict decoding error: {}", complaints.join(", "))));
    }
    Ok(Decoded { value, warnings: complaints })
}

/// Drops what the schema does not know, silently: for objects read from storage under a newer schema, and patches'
/// results. Values of the wrong type are an error all the same.
pub fn prune(schema: &Schema, value: &mut Value) -> Result<(), Status> {
    walk::walk(schema, value).map(drop).map_err(|problem| cannot_be_handled(value, &problem.to_string()))
}

/// Fills in `apiVersion` and `kind` where the client left them out; 400 where they are another kind's.
pub fn check_type_meta(value: &mut Value, kind: &Kind) -> Result<(), Status> {
    let Value::Object(object) = value else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): the body is not an object",
            kind.kind
        )));
    };
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let (sent_version, sent_kind) = (text("apiVersion"), text("kind"));
    if !sent_kind.is_empty() && sent_kind != kind.kind {
        let version = sent_version.rsplit('/').next().unwrap_or("");
        let message =
            format!("{sent_kind} in version {version:?} cannot be handled as a {}: the kinds differ", kind.kind);
        return Err(Status::bad_request(message));
    }
    let expected = kind.api_version();
    if !sent_version.is_empty() && sent_version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({sent_version}) does not match the expected API version ({expected})"
        )));
    }
    if sent_version.is_empty() {
        object.insert("apiVersion".to_owned(), expected.into());
    }
    if sent_kind.is_empty() {
        object.insert("kind".to_owned(), kind.kind.to_string().into());
    }
    Ok(())
}

fn cannot_be_handled(value: &Value, why: &str) -> Status {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
    let kind = text("kind");
    let version = text("apiVersion").rsplit('/').next().unwrap_or("");
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

#[cfg(test)]
mod tests;
