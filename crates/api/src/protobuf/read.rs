//! Bytes → JSON values, as Go would write the decoded struct as JSON.
//!
//! Go's encoder writes every field that is not a pointer, zero or not. What its JSON encoder would leave out (zero
//! and `omitempty`) is left out here, or a client that speaks protobuf would set fields that it did not mention.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use super::messages::{Field, Message, Shape, Special, Type, at, of_kind};
use super::wire::{BYTES, FIXED64, Reader, VARINT, WireError, last_bytes, text};
use super::{DEPTH_MAX, MAGIC, VALUES_MAX, special};

type Outcome<T> = Result<T, WireError>;

/// The magic, a `runtime.Unknown`, and the message that it names.
pub(super) fn envelope(body: &[u8]) -> Outcome<Value> {
    Decoder { values: 0, depth: 0 }.envelope(body)
}

pub(super) struct Decoder {
    values: usize,
    depth: usize,
}

impl Decoder {
    pub(super) fn envelope(&mut self, body: &[u8]) -> Outcome<Value> {
        let unknown = body.strip_prefix(MAGIC).ok_or(WireError::Magic)?;
        let type_meta = last_bytes(unknown, 1)?.unwrap_or_default();
        let string = |message, field| Ok(text(last_bytes(message, field)?.unwrap_or_default())?.to_owned());
        let (version, kind): (String, String) = (string(type_meta, 1)?, string(type_meta, 2)?);
        let encoding: String = string(unknown, 3)?;
        if !encoding.is_empty() {
            return Err(WireError::Encoding(encoding));
        }
        let raw = last_bytes(unknown, 2)?.unwrap_or_default();
        if last_bytes(unknown, 4)? == Some(b"application/json") {
            return serde_json::from_slice(raw).map_err(|e| WireError::Json(e.to_string()));
        }
        let Some(message) = of_kind(&version, &kind) else {
            return Err(WireError::Kind { version, kind });
        };
        let mut object = self.message(message, raw)?;
        if let Value::Object(map) = &mut object {
            map.insert("apiVersion".to_owned(), version.into());
            map.insert("kind".to_owned(), kind.into());
        }
        Ok(object)
    }

    pub(super) fn message(&mut self, message: &Message, bytes: &[u8]) -> Outcome<Value> {
        let mut map = Map::new();
        self.fields(message, bytes, &mut map)?;
        if message.is_list {
            let only = message.fields.first().map_or("", |f| f.name);
            return Ok(map.remove(only).unwrap_or_else(|| Value::Array(Vec::new())));
        }
        Ok(Value::Object(map))
    }

    fn fields(&mut self, message: &Message, bytes: &[u8], map: &mut Map<String, Value>) -> Outcome<()> {
        if self.depth >= DEPTH_MAX {
            return Err(WireError::Depth);
        }
        self.depth += 1;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.key()? {
            let Ok(index) = message.fields.binary_search_by_key(&number, |f| f.number) else {
                reader.skip(number, wire)?;
                continue;
            };
            self.field(&message.fields[index], wire, &mut reader, map)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &Field, wire: u8, reader: &mut Reader<'_>, map: &mut Map<String, Value>) -> Outcome<()> {
        match field.shape {
            Shape::One if field.inline => {
                let bytes = delimited(field, wire, reader)?;
                match field.field_type {
                    Type::Message(index) => self.fields(at(index), bytes, map),
                    _ => Ok(()),
                }
            }
            Shape::One => {
                let value = self.value(field, wire, reader)?;
                match value.filter(|v| field.pointer || field.always || !left_out(field, v)) {
                    Some(value) => map.insert(field.name.to_owned(), value),
                    None => map.remove(field.name),
                };
                Ok(())
            }
            Shape::List => {
                let packed = wire == BYTES && matches!(field.field_type, Type::Int32 | Type::Int64 | Type::Bool);
                let mut items = Vec::new();
                if packed {
                    let mut inner = Reader::new(reader.bytes()?);
                    while !inner.is_empty() {
                        items.extend(self.value(field, VARINT, &mut inner)?);
                    }
                } else {
                    items.push(self.value(field, wire, reader)?.unwrap_or(Value::Null));
                }
                let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.append(&mut items);
                }
                Ok(())
            }
            Shape::Map => {
                let (key, value) = self.entry(field, delimited(field, wire, reader)?)?;
                let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = entries {
                    entries.insert(key, value);
                }
                Ok(())
            }
        }
    }

    /// An entry of a map: key 1, value 2, either absent when zero.
    fn entry(&mut self, field: &Field, bytes: &[u8]) -> Outcome<(String, Value)> {
        let mut reader = Reader::new(bytes);
        let mut key = String::new();
        let mut value = None;
        while let Some((number, wire)) = reader.key()? {
            match (number, wire) {
                (1, BYTES) => key = text(reader.bytes()?)?.to_owned(),
                (2, wire) => value = self.value(field, wire, &mut reader)?,
                (number, wire) => reader.skip(number, wire)?,
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(field.field_type))))
    }

    /// `None` for a special type that says "nothing" (a zero time).
    fn value(&mut self, field: &Field, wire: u8, reader: &mut Reader<'_>) -> Outcome<Option<Value>> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(WireError::Values);
        }
        let wrong = || WireError::WireType { field: field.number, wire };
        Ok(Some(match (field.field_type, wire) {
            (Type::Int32, VARINT) => Value::from(reader.varint()? as i32),
            (Type::Int64, VARINT) => Value::from(reader.varint()? as i64),
            (Type::Bool, VARINT) => Value::from(reader.varint()? != 0),
            (Type::Double, FIXED64) => double(f64::from_le_bytes(reader.fixed64()?)),
            (Type::String, BYTES) => Value::from(text(reader.bytes()?)?),
            (Type::Bytes, BYTES) => Value::from(base64::engine::general_purpose::STANDARD.encode(reader.bytes()?)),
            (Type::Message(index), BYTES) => {
                let bytes = reader.bytes()?;
                self.message(at(index), bytes)?
            }
            (Type::Special(kind), BYTES) => {
                let bytes = reader.bytes()?;
                return self.special(kind, bytes);
            }
            _ => return Err(wrong()),
        }))
    }

    fn special(&mut self, kind: Special, bytes: &[u8]) -> Outcome<Option<Value>> {
        if self.depth >= DEPTH_MAX {
            return Err(WireError::Depth);
        }
        self.depth += 1;
        let out = special::read(self, kind, bytes);
        self.depth -= 1;
        out
    }
}

fn delimited<'a>(field: &Field, wire: u8, reader: &mut Reader<'a>) -> Outcome<&'a [u8]> {
    if wire != BYTES {
        return Err(WireError::WireType { field: field.number, wire });
    }
    reader.bytes()
}

/// Zero and `omitempty`. Structs are never left out by Go, and neither are they here.
fn left_out(field: &Field, value: &Value) -> bool {
    match field.field_type {
        Type::String | Type::Bytes => value == "",
        Type::Int32 | Type::Int64 | Type::Double => value.as_f64() == Some(0.0),
        Type::Bool => value == false,
        // Go would write 0, which means the same as nothing wherever this is not a pointer.
        Type::Special(Special::IntOrString) => value.as_i64() == Some(0),
        Type::Message(index) => at(index).is_list && value.as_array().is_some_and(Vec::is_empty),
        Type::Special(_) => false,
    }
}

fn zero(field_type: Type) -> Value {
    match field_type {
        Type::String | Type::Bytes => Value::from(""),
        Type::Int32 | Type::Int64 | Type::Double => Value::from(0),
        Type::Bool => Value::from(false),
        Type::Message(index) if at(index).is_list => Value::Array(Vec::new()),
        Type::Message(_) => Value::Object(Map::new()),
        Type::Special(Special::Quantity) => Value::from("0"),
        Type::Special(_) => Value::Null,
    }
}

/// Whole numbers are written as such, as Go does; JSON has neither infinity nor NaN.
fn double(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
