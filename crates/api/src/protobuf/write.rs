//! JSON values → bytes. What is absent is not written: to a reader that is zero.

use base64::Engine as _;
use serde_json::Value;

use super::messages::{Field, Message, Shape, Type, at};
use super::wire::{FIXED64, put_bytes, put_key, put_nested, put_number};
use super::{DEPTH_MAX, special};

/// Why an object is not one of its kind; stored objects have been decoded by their schema, so this is a defect.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{field}: {source}")]
    Field {
        field: String,
        #[source]
        source: Box<WriteError>,
    },
    #[error("expected a value of type {expected}")]
    Type { expected: String },
    #[error("nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

type Outcome = Result<(), WriteError>;

fn wrong(expected: &str) -> WriteError {
    WriteError::Type { expected: expected.to_owned() }
}

/// The content of the message for `value`.
pub(super) fn message(message: &Message, value: &Value, out: &mut Vec<u8>, depth: usize) -> Outcome {
    if depth > DEPTH_MAX {
        return Err(WriteError::Depth);
    }
    if let (true, Some(field)) = (message.is_list, message.fields.first()) {
        return self::field(field, value, out, depth);
    }
    let Value::Object(map) = value else { return Err(wrong(message.name)) };
    for field in &message.fields {
        if field.inline {
            inlined(field, value, out, depth)?;
        } else if let Some(value) = map.get(field.name).filter(|v| !v.is_null()) {
            self::field(field, value, out, depth)
                .map_err(|source| WriteError::Field { field: field.name.to_owned(), source: Box::new(source) })?;
        }
    }
    Ok(())
}

/// A message whose fields are among its parent's.
fn inlined(field: &Field, parent: &Value, out: &mut Vec<u8>, depth: usize) -> Outcome {
    let Type::Message(index) = field.field_type else { return Ok(()) };
    put_nested(out, field.number, |out| message(at(index), parent, out, depth + 1))
}

fn field(field: &Field, value: &Value, out: &mut Vec<u8>, depth: usize) -> Outcome {
    match field.shape {
        Shape::One => one(field.number, field.field_type, value, out, depth),
        Shape::List => {
            for item in value.as_array().ok_or_else(|| wrong("list"))? {
                one(field.number, field.field_type, item, out, depth)?;
            }
            Ok(())
        }
        Shape::Map => {
            for (key, item) in value.as_object().ok_or_else(|| wrong("map"))? {
                put_nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    one(2, field.field_type, item, out, depth)
                })?;
            }
            Ok(())
        }
    }
}

fn one(number: u32, field_type: Type, value: &Value, out: &mut Vec<u8>, depth: usize) -> Outcome {
    if value.is_null() {
        // Inside a list or a map: Go's zero, which is a time before all others.
        put_bytes(out, number, b"");
        return Ok(());
    }
    match field_type {
        Type::String => put_bytes(out, number, value.as_str().ok_or_else(|| wrong("string"))?.as_bytes()),
        Type::Int32 | Type::Int64 => {
            put_number(out, number, value.as_i64().ok_or_else(|| wrong("integer"))? as u64);
        }
        Type::Bool => put_number(out, number, u64::from(value.as_bool().ok_or_else(|| wrong("boolean"))?)),
        Type::Double => {
            put_key(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64().ok_or_else(|| wrong("number"))?.to_le_bytes());
        }
        Type::Bytes => {
            let text = value.as_str().ok_or_else(|| wrong("base64"))?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| wrong("base64"))?;
            put_bytes(out, number, &bytes);
        }
        Type::Message(index) => put_nested(out, number, |out| message(at(index), value, out, depth + 1))?,
        Type::Special(special) => {
            put_nested(out, number, |out| special::write(special, value, out, depth + 1))?;
        }
    }
    Ok(())
}
