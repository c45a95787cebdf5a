//! The walk over an object and its schema.
//!
//! Built-in types behave as Go's decoder does: unknown fields are dropped, nulls are as if absent, scalars must have
//! their type. A custom resource's own part is only pruned: its validation looks at types.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::parse::join;
use crate::quantity::Quantity;
use crate::schema::{Schema, Shape};

/// Deeper values are refused: they come from patches, which no parser has limited.
const DEPTH_MAX: usize = 256;

/// Why an object is not one of its kind.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("json: cannot unmarshal {found} into {place} of type {go_type}", place = place(.go_struct, .fields))]
    Type {
        found: String,
        go_type: String,
        /// The innermost struct: `DeploymentSpec`.
        go_struct: Option<&'static str>,
        /// From the innermost outwards.
        fields: Vec<String>,
    },
    #[error("{0}")]
    Value(String),
    #[error("exceeded max depth")]
    TooDeep,
}

fn place(go_struct: &Option<&'static str>, fields: &[String]) -> String {
    match go_struct {
        None => "Go value".to_owned(),
        Some(name) => {
            let path: Vec<&str> = fields.iter().rev().map(String::as_str).collect();
            format!("Go struct field {name}.{}", path.join("."))
        }
    }
}

/// Returns the paths of what was dropped because the schema does not have it.
pub(super) fn walk(schema: &Schema, value: &mut Value) -> Result<Vec<String>, Box<Problem>> {
    let mut walk = Walk { unknown: Vec::new(), depth: 0 };
    walk.value(schema, value, false)?;
    Ok(walk.unknown)
}

struct Walk {
    unknown: Vec<String>,
    depth: usize,
}

type Outcome = Result<(), Box<Problem>>;

impl Walk {
    /// `typed`: the schema is a built-in type's, so the types of values count.
    fn value(&mut self, schema: &Schema, value: &mut Value, typed: bool) -> Outcome {
        if self.depth >= DEPTH_MAX {
            return Err(Box::new(Problem::TooDeep));
        }
        self.depth += 1;
        let typed = typed || schema.definition().is_some();
        let out = match (schema.shape(), &mut *value) {
            (Shape::Any, _) => Ok(()),
            (Shape::Object(_), Value::Object(map)) => self.object(schema, map, typed),
            (Shape::Map(item), Value::Object(map)) => self.map(item, map, typed),
            (Shape::List(item), Value::Array(list)) => self.list(item, list, typed),
            (Shape::OneOf(all), value) => match all.iter().find(|s| fits(s, value)) {
                Some(fitting) => self.value(fitting, value, typed),
                None => Ok(()),
            },
            (shape, value) if typed => scalar(schema, shape, value),
            _ => Ok(()),
        };
        self.depth -= 1;
        out
    }

    fn object(&mut self, schema: &Schema, map: &mut Map<String, Value>, typed: bool) -> Outcome {
        let mut failed = None;
        map.retain(|name, value| {
            if failed.is_some() {
                return true;
            }
            let Some(field) = schema.field(name) else {
                let kept = keeps_unknown(schema, name);
                if !kept {
                    self.unknown.push(name.clone());
                }
                return kept;
            };
            if value.is_null() && (typed || field.definition().is_some()) {
                return false;
            }
            let before = self.unknown.len();
            if let Err(problem) = self.value(field, value, typed) {
                failed = Some(problem.in_field(schema, name));
            }
            self.prefix(before, name);
            true
        });
        failed.map_or(Ok(()), Err)
    }

    fn map(&mut self, item: &Schema, map: &mut Map<String, Value>, typed: bool) -> Outcome {
        let mut failed = None;
        map.retain(|name, value| {
            if failed.is_some() {
                return true;
            }
            if typed && value.is_null() {
                *value = zero(item);
                return true;
            }
            let before = self.unknown.len();
            failed = self.value(item, value, typed).err();
            self.prefix(before, name);
            true
        });
        failed.map_or(Ok(()), Err)
    }

    fn list(&mut self, item: &Schema, list: &mut [Value], typed: bool) -> Outcome {
        for (at, value) in list.iter_mut().enumerate() {
            if typed && value.is_null() {
                *value = zero(item);
                continue;
            }
            let before = self.unknown.len();
            self.value(item, value, typed)?;
            if self.unknown.len() > before {
                self.prefix(before, &format!("[{at}]"));
            }
        }
        Ok(())
    }

    fn prefix(&mut self, from: usize, head: &str) {
        for path in self.unknown.iter_mut().skip(from) {
            *path = join(head, path);
        }
    }
}

fn keeps_unknown(schema: &Schema, name: &str) -> bool {
    let resolved = schema.resolve();
    resolved.preserve_unknown || (resolved.embedded_resource && matches!(name, "apiVersion" | "kind" | "metadata"))
}

/// What Go has where JSON says null inside a list or a map; for a time that is null again.
fn zero(schema: &Schema) -> Value {
    match schema.shape() {
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Int32 | Shape::Int64 | Shape::Number => Value::from(0),
        Shape::Bool => Value::Bool(false),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Quantity => Value::from("0"),
        _ => Value::Null,
    }
}

fn fits(schema: &Schema, value: &Value) -> bool {
    match schema.shape() {
        Shape::Object(_) | Shape::Map(_) => value.is_object(),
        Shape::List(_) => value.is_array(),
        Shape::Bool => value.is_boolean(),
        Shape::String => value.is_string(),
        _ => true,
    }
}

fn scalar(schema: &Schema, shape: &Shape, value: &mut Value) -> Outcome {
    let right = match (shape, &*value) {
        (Shape::String, Value::String(_)) | (Shape::Bool, Value::Bool(_)) | (Shape::Number, Value::Number(_)) => true,
        (Shape::Int64, Value::Number(n)) => n.is_i64(),
        (Shape::Int32, Value::Number(n)) => n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        (Shape::IntOrString, Value::String(_)) => true,
        (Shape::IntOrString, Value::Number(n)) => {
            return match n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                true => Ok(()),
                false => Err(mismatch(value, "int32".to_owned())),
            };
        }
        (Shape::IntOrString, _) => return Err(plain_mismatch(value, "string")),
        (Shape::Bytes, Value::String(_)) => return bytes(value),
        (Shape::Quantity, _) => return quantity(value),
        (Shape::Time, Value::String(_)) => return time(value, false),
        (Shape::MicroTime, Value::String(_)) => return time(value, true),
        (Shape::Time | Shape::MicroTime, _) => return Err(plain_mismatch(value, "string")),
        _ => false,
    };
    if right { Ok(()) } else { Err(mismatch(value, go_type(schema))) }
}

/// Go's name of a type, as its error messages have it.
fn go_type(schema: &Schema) -> String {
    if let Some(definition) = schema.definition() {
        return definition.go_type().to_owned();
    }
    match schema.shape() {
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::List(item) => format!("[]{}", go_type(item)),
        Shape::Map(item) => format!("map[string]{}", go_type(item)),
        _ => "object".to_owned(),
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn mismatch(value: &Value, go_type: String) -> Box<Problem> {
    let mut found = found(value);
    // A number of the wrong size is shown, one in the place of something else is not.
    if let (Value::Number(n), "int32" | "int64") = (value, go_type.as_str()) {
        found = format!("number {n}");
    }
    Box::new(Problem::Type { found, go_type, go_struct: None, fields: Vec::new() })
}

/// Of types with a decoder of their own, which does not know where it is.
fn plain_mismatch(value: &Value, go_type: &str) -> Box<Problem> {
    Box::new(Problem::Value(format!("json: cannot unmarshal {} into Go value of type {go_type}", found(value))))
}

impl Problem {
    fn in_field(mut self: Box<Self>, schema: &Schema, name: &str) -> Box<Self> {
        if let Problem::Type { go_struct, fields, .. } = &mut *self {
            if let (None, Some(definition)) = (&go_struct, schema.definition()) {
                *go_struct = Some(definition.go_name());
            }
            fields.push(name.to_owned());
        }
        self
    }
}

fn bytes(value: &mut Value) -> Outcome {
    let Value::String(text) = value else { return Ok(()) };
    // Go's decoder skips line breaks.
    if text.bytes().any(|b| matches!(b, b'\n' | b'\r')) {
        text.retain(|c| !matches!(c, '\n' | '\r'));
    }
    match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => text.len(),
            };
            Err(Box::new(Problem::Value(format!("illegal base64 data at input byte {at}"))))
        }
    }
}

/// Stored in canonical form, as upstream writes it: `1000m` becomes `1`.
fn quantity(value: &mut Value) -> Outcome {
    let parsed = Quantity::from_json(value).map_err(|e| Box::new(Problem::Value(e.to_string())))?;
    let canonical = parsed.to_string();
    if value.as_str() != Some(&canonical) {
        *value = Value::String(canonical);
    }
    Ok(())
}

/// Stored in UTC, to the second or the microsecond.
fn time(value: &mut Value, micro: bool) -> Outcome {
    let text = value.as_str().unwrap_or("");
    let Ok(parsed) = text.parse::<Timestamp>() else {
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        let why = format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"");
        return Err(Box::new(Problem::Value(why)));
    };
    let form = if micro { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    let right_length = if micro { 27 } else { 20 };
    if text.len() != right_length || !text.ends_with('Z') || !text.contains('T') {
        *value = Value::String(parsed.strftime(form).to_string());
    }
    Ok(())
}
