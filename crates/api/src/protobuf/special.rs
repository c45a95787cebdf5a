//! The messages whose JSON is not an object of their fields: times, quantities, alternatives, JSON inside protobuf.

use jiff::Timestamp;
use serde_json::Value;

use super::MAGIC;
use super::messages::{Message, Special, named};
use super::read::Decoder;
use super::wire::{BYTES, Reader, VARINT, WireError, last_bytes, put_bytes, put_nested, put_number, text};
use super::write::{self, WriteError};

const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn props() -> Option<&'static Message> {
    named(PROPS)
}

/// `None`: nothing, as a zero time.
pub(super) fn read(decoder: &mut Decoder, special: Special, bytes: &[u8]) -> Result<Option<Value>, WireError> {
    Ok(match special {
        Special::Quantity => {
            let string = text(last_bytes(bytes, 1)?.unwrap_or_default())?;
            Some(Value::from(if string.is_empty() { "0" } else { string }))
        }
        Special::IntOrString => {
            if number(bytes, 1)? == 1 {
                Some(Value::from(text(last_bytes(bytes, 3)?.unwrap_or_default())?))
            } else {
                Some(Value::from(number(bytes, 2)? as i32))
            }
        }
        Special::Time => time(bytes)?.map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
        Special::MicroTime => time(bytes)?.map(|t| t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()),
        Special::RawExtension | Special::Json => match last_bytes(bytes, 1)?.unwrap_or_default() {
            [] => None,
            raw if special == Special::RawExtension && raw.starts_with(MAGIC) => Some(decoder.envelope(raw)?),
            raw => Some(serde_json::from_slice(raw).map_err(|e| WireError::Json(e.to_string()))?),
        },
        Special::PropsOrArray => match last_bytes(bytes, 1)? {
            Some(schema) => schema_props(decoder, schema)?,
            None => Some(Value::Array(all(decoder, bytes, 2)?)),
        },
        Special::PropsOrBool => match last_bytes(bytes, 2)? {
            Some(schema) => schema_props(decoder, schema)?,
            None => Some(Value::Bool(number(bytes, 1)? != 0)),
        },
        Special::PropsOrStringArray => match last_bytes(bytes, 1)? {
            Some(schema) => schema_props(decoder, schema)?,
            None => Some(Value::Array(strings(bytes, 2)?)),
        },
    })
}

fn schema_props(decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<Value>, WireError> {
    props().map(|message| decoder.message(message, bytes)).transpose()
}

fn number(bytes: &[u8], wanted: u32) -> Result<u64, WireError> {
    let mut reader = Reader::new(bytes);
    let mut found = 0;
    while let Some((field, wire)) = reader.key()? {
        if field == wanted && wire == VARINT {
            found = reader.varint()?;
        } else {
            reader.skip(field, wire)?;
        }
    }
    Ok(found)
}

fn repeated(bytes: &[u8], wanted: u32) -> Result<Vec<&[u8]>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while let Some((field, wire)) = reader.key()? {
        if field == wanted && wire == BYTES {
            out.push(reader.bytes()?);
        } else {
            reader.skip(field, wire)?;
        }
    }
    Ok(out)
}

fn all(decoder: &mut Decoder, bytes: &[u8], wanted: u32) -> Result<Vec<Value>, WireError> {
    let mut out = Vec::new();
    for item in repeated(bytes, wanted)? {
        out.extend(schema_props(decoder, item)?);
    }
    Ok(out)
}

fn strings(bytes: &[u8], wanted: u32) -> Result<Vec<Value>, WireError> {
    repeated(bytes, wanted)?.into_iter().map(|s| Ok(Value::from(text(s)?))).collect()
}

/// Empty is Go's zero time; what no calendar has is none, too.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (seconds, nanos) = (number(bytes, 1)? as i64, number(bytes, 2)? as i32);
    Ok(Timestamp::new(seconds, nanos.clamp(0, 999_999_999)).ok())
}

/// The content of the message for `value`.
pub(super) fn write(special: Special, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), WriteError> {
    let wrong = || WriteError::Type { expected: format!("{special:?}") };
    match special {
        Special::Quantity => match value {
            Value::Number(n) => put_bytes(out, 1, n.to_string().as_bytes()),
            _ => put_bytes(out, 1, value.as_str().ok_or_else(wrong)?.as_bytes()),
        },
        Special::IntOrString => {
            let is_text = value.is_string();
            let number = if is_text { 0 } else { value.as_i64().ok_or_else(wrong)? };
            put_number(out, 1, u64::from(is_text));
            put_number(out, 2, number as u64);
            put_bytes(out, 3, value.as_str().unwrap_or("").as_bytes());
        }
        Special::Time | Special::MicroTime => {
            let at: Timestamp = value.as_str().and_then(|t| t.parse().ok()).ok_or_else(wrong)?;
            let (second, nanosecond) = (at.as_second(), at.subsec_nanosecond());
            // Before 1970 the fraction counts backwards here and forwards on the wire.
            let (second, nanosecond) =
                if nanosecond < 0 { (second - 1, nanosecond + 1_000_000_000) } else { (second, nanosecond) };
            put_number(out, 1, second as u64);
            put_number(out, 2, nanosecond as u64);
        }
        Special::RawExtension | Special::Json => put_bytes(out, 1, value.to_string().as_bytes()),
        Special::PropsOrArray => match value {
            Value::Array(all) => {
                for item in all {
                    write_props(item, 2, out, depth)?;
                }
            }
            _ => write_props(value, 1, out, depth)?,
        },
        Special::PropsOrBool => match value {
            Value::Bool(allows) => put_number(out, 1, u64::from(*allows)),
            _ => {
                put_number(out, 1, 1);
                write_props(value, 2, out, depth)?;
            }
        },
        Special::PropsOrStringArray => match value {
            Value::Array(all) => {
                for item in all {
                    put_bytes(out, 2, item.as_str().ok_or_else(wrong)?.as_bytes());
                }
            }
            _ => write_props(value, 1, out, depth)?,
        },
    }
    Ok(())
}

fn write_props(value: &Value, field: u32, out: &mut Vec<u8>, depth: usize) -> Result<(), WriteError> {
    let Some(message) = props() else { return Ok(()) };
    put_nested(out, field, |out| write::message(message, value, out, depth + 1))
}
