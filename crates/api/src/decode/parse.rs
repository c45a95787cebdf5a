//! JSON and YAML → values, with the paths of duplicate keys.
//!
//! Both go through one seed, which sees every key and collects the duplicates; without any it costs nothing. JSON may nest 128 deep (serde_json's limit); YAML may nest and
//! expand aliases within the parser's budget.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::{Entry, Map};
use serde_json::{Number, Value};

use super::Parsed;
use crate::Status;

/// Replayed events of YAML aliases in one document: a bomb of nested aliases ends here.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// Why a document of a manifest cannot be read; lines and columns count from 1, both 0 where none is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} column {column}: {message}")]
pub struct DocumentError {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// 400 with line and column for what is not JSON.
pub fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Seed { duplicates: &mut duplicates }.deserialize(&mut deserializer);
    match value.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(Parsed { value, duplicates }),
        Err(e) => Err(Status::bad_request(format!("the body of the request is not valid JSON: {e}"))),
    }
}

/// One document. 400 with line and column for what is not YAML.
pub fn parse_yaml(body: &[u8]) -> Result<Parsed, Status> {
    let refused =
        |e: &dyn std::fmt::Display| Status::bad_request(format!("the body of the request is not valid YAML: {e}"));
    let text = std::str::from_utf8(body).map_err(|e| refused(&e))?;
    let mut documents = parse_yaml_documents(text).map_err(|e| refused(&e))?;
    documents.retain(|d| !d.value.is_null());
    match documents.len() {
        0 => Ok(Parsed::default()),
        1 => Ok(documents.remove(0)),
        n => Err(refused(&format!("it has {n} documents instead of one"))),
    }
}

/// A manifest: any number of documents, in YAML or JSON. Empty ones are null.
///
/// Scalars are read as kubectl reads them (YAML 1.1): `yes` and `on` are booleans, `0644` is octal.
pub fn parse_yaml_documents(text: &str) -> Result<Vec<Parsed>, DocumentError> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = ALIAS_EVENTS_MAX;
    serde_saphyr::from_multiple_with_options(text, options).map_err(|e| {
        let (line, column) = e.location().map_or((0, 0), |at| (at.line(), at.column()));
        DocumentError { line, column, message: message_of(&e) }
    })
}

/// The parser's message without the position that it puts at its end.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).trim().to_owned()
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let value = Seed { duplicates: &mut duplicates }.deserialize(deserializer)?;
        Ok(Self { value, duplicates })
    }
}

/// Makes a value; adds the paths of duplicates below it, relative to it.
struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
}

impl Seed<'_> {
    fn child(&mut self) -> Seed<'_> {
        Seed { duplicates: self.duplicates }
    }

    /// Puts `head` before the paths that a child has added.
    fn prefix(&mut self, from: usize, head: impl FnOnce() -> String) {
        if self.duplicates.len() > from {
            let head = head();
            for path in self.duplicates.iter_mut().skip(from) {
                *path = join(&head, path);
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let before = self.duplicates.len();
            let Some(item) = items.next_element_seed(self.child())? else { break };
            self.prefix(before, || format!("[{}]", list.len()));
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let before = self.duplicates.len();
            let item = entries.next_value_seed(self.child())?;
            self.prefix(before, || key.clone());
            match map.entry(key) {
                Entry::Vacant(slot) => {
                    slot.insert(item);
                }
                Entry::Occupied(mut slot) => {
                    self.duplicates.push(slot.key().clone());
                    slot.insert(item);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// `spec` and `replicas` → `spec.replicas`; `containers` and `[0].name` → `containers[0].name`.
pub(super) fn join(head: &str, tail: &str) -> String {
    if tail.starts_with('[') { format!("{head}{tail}") } else { format!("{head}.{tail}") }
}
