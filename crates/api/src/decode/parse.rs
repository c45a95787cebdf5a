//! JSON and YAML → values, with the paths of duplicate keys.
//!
//! Both go through one visitor, which sees every key. JSON may nest 128 deep (serde_json's limit); YAML may nest and
//! expand aliases within the parser's budget.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Parsed;
use crate::Status;

/// Replayed events of YAML aliases in one document: a bomb of nested aliases ends here.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// Why a document of a manifest cannot be read; lines and columns count from 1, both 0 where none is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DocumentError {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// 400 with line and column for what is not JSON.
pub fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    let node: Node = serde_json::from_slice(body)
        .map_err(|e| Status::bad_request(format!("the body of the request is not valid JSON: {e}")))?;
    Ok(node.into())
}

/// One document. 400 with line and column for what is not YAML.
pub fn parse_yaml(body: &[u8]) -> Result<Parsed, Status> {
    let refused =
        |e: &dyn std::fmt::Display| Status::bad_request(format!("the body of the request is not valid YAML: {e}"));
    let text = std::str::from_utf8(body).map_err(|e| refused(&e))?;
    let mut documents = parse_yaml_documents(text).map_err(|e| refused(&e))?;
    match documents.len() {
        0 => Ok(Parsed::default()),
        1 => Ok(documents.remove(0)),
        n => Err(refused(&format!("it has {n} documents instead of one"))),
    }
}

/// A manifest: any number of documents, in YAML or JSON. Empty ones are left out.
///
/// Scalars are read as kubectl reads them (YAML 1.1): `yes` and `on` are booleans, `0644` is octal.
pub fn parse_yaml_documents(text: &str) -> Result<Vec<Parsed>, DocumentError> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = ALIAS_EVENTS_MAX;
    let nodes: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|e| {
        let (line, column) = e.location().map_or((0, 0), |at| (at.line(), at.column()));
        DocumentError { line, column, message: message_of(&e) }
    })?;
    Ok(nodes.into_iter().map(Parsed::from).filter(|p| !p.value.is_null()).collect())
}

/// The parser's message without the position that it puts at its end.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).trim().to_owned()
}

/// A value on its way up, with the duplicates below it, relative to it.
struct Node {
    value: Value,
    duplicates: Vec<String>,
}

impl From<Node> for Parsed {
    fn from(node: Node) -> Self {
        Self { value: node.value, duplicates: node.duplicates }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Value::Bool(v).into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Value::Number(v.into()).into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Value::Number(v.into()).into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number).into())
    }
    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Value::String(v.to_owned()).into())
    }
    fn visit_string<E>(self, v: String) -> Result<Node, E> {
        Ok(Value::String(v).into())
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        let mut duplicates = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            duplicates.extend(item.duplicates.iter().map(|d| join(&format!("[{}]", list.len()), d)));
            list.push(item.value);
        }
        Ok(Node { value: Value::Array(list), duplicates })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Map::new();
        let mut duplicates = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let item: Node = entries.next_value()?;
            duplicates.extend(item.duplicates.iter().map(|d| join(&key, d)));
            match map.entry(key) {
                serde_json::map::Entry::Vacant(slot) => {
                    slot.insert(item.value);
                }
                serde_json::map::Entry::Occupied(mut slot) => {
                    duplicates.push(slot.key().clone());
                    slot.insert(item.value);
                }
            }
        }
        Ok(Node { value: Value::Object(map), duplicates })
    }
}

/// `spec` and `replicas` → `spec.replicas`; `containers` and `[0].name` → `containers[0].name`.
pub(super) fn join(head: &str, tail: &str) -> String {
    if tail.starts_with('[') { format!("{head}{tail}") } else { format!("{head}.{tail}") }
}
