//! Request bodies → objects: parsing with duplicate keys seen, then one walk over the schema that drops or reports
//! what the kind does not have.

use serde_json::Value;

use crate::Status;
use crate::schema::Schema;

/// The `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// What a request without the parameter gets.
    #[default]
    Warn,
    Strict,
}

/// A parsed body and the paths of the keys that were there twice (the last one won).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub value: Value,
    /// `spec.replicas`, `spec.containers[0].name`.
    pub duplicates: Vec<String>,
}

/// A decoded object with what is to be said in `Warning:` headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

pub fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    let value = serde_json::from_slice(body).map_err(|e| Status::bad_request(e.to_string()))?;
    Ok(Parsed { value, duplicates: Vec::new() })
}

/// Drops what the schema does not know, in place; reports it as `validation` says.
pub fn decode(schema: &Schema, parsed: Parsed, validation: FieldValidation) -> Result<Decoded, Status> {
    let _ = (schema, validation);
    Ok(Decoded { value: parsed.value, warnings: Vec::new() })
}
