//! How an object becomes bytes: once per write. What is stored is what clients get.
//!
//! What must stay true: stored bytes begin with `{"apiVersion":"…","kind":"…","metadata":{"resourceVersion":"…"`, so that
//! another served version swaps a prefix, a list item drops it, and another revision goes to a known place, wherever
//! else a client may have put the same words.

use bytes::Bytes;
use serde_json::{Map, Value};
use skiff_api::Kind;
use skiff_store::{Draft, Revision};

/// The revision is the first field of the metadata: its place is the length of the envelope and of this.
const BEFORE_REVISION: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";

/// `{"apiVersion":"apps/v1","kind":"Deployment",`
pub(crate) fn envelope(kind: &Kind) -> String {
    format!("{{\"apiVersion\":{},\"kind\":{},", Value::from(kind.api_version()), Value::from(kind.kind.as_ref()))
}

/// The object with a hole for its revision; `envelope` says its version and kind.
pub(crate) fn draft(envelope: &str, object: &Value) -> Draft {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(envelope.as_bytes());
    out.extend_from_slice(BEFORE_REVISION);
    let at = out.len();
    out.push(b'"');
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        fields(&mut out, metadata, &["resourceVersion"]);
    }
    out.push(b'}');
    if let Some(top) = object.as_object() {
        fields(&mut out, top, &["apiVersion", "kind", "metadata"]);
    }
    out.push(b'}');
    Draft { bytes: out.into(), revision_at: Some(at) }
}

/// Each field with a comma before it.
fn fields(out: &mut Vec<u8>, map: &Map<String, Value>, without: &[&str]) {
    for (key, value) in map.iter().filter(|(k, _)| !without.contains(&k.as_str())) {
        out.push(b',');
        write(out, key);
        out.push(b':');
        write(out, value);
    }
}

/// Serializing a JSON value into memory cannot fail: its keys are strings and a `Vec` does not refuse bytes.
fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a JSON value serializes into memory");
}

/// An object that is not stored (an answer, a dry run).
pub(crate) fn json(value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(512);
    write(&mut out, value);
    out.into()
}

/// Stored bytes under another envelope. Bytes that do not begin as this module writes them are passed on as they are.
pub(crate) fn swap_envelope(bytes: &Bytes, from: &str, to: &str) -> Bytes {
    let Some(rest) = bytes.strip_prefix(from.as_bytes()) else { return bytes.clone() };
    let mut out = Vec::with_capacity(to.len() + rest.len());
    out.extend_from_slice(to.as_bytes());
    out.extend_from_slice(rest);
    out.into()
}

/// Stored bytes with another revision: what a watcher is told when an object leaves its selector.
pub(crate) fn with_revision(bytes: &Bytes, envelope: &str, revision: Revision) -> Bytes {
    redraft(bytes, envelope).fill(revision)
}

/// Stored bytes with a hole where their revision was.
pub(crate) fn redraft(bytes: &Bytes, envelope: &str) -> Draft {
    let at = envelope.len() + BEFORE_REVISION.len();
    let Some(rest) = bytes.get(at..) else { return Draft { bytes: bytes.clone(), revision_at: None } };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(&rest[digits..]);
    Draft { bytes: out.into(), revision_at: Some(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hole_is_in_the_metadata_and_nowhere_else() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "data": {"resourceVersion": "", "text": "\"resourceVersion\":\"\""},
            "metadata": {"annotations": {"resourceVersion": ""}, "name": "a", "resourceVersion": "7", "uid": "u"},
        });
        let draft = draft("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",", &object);
        let filled: Value = serde_json::from_slice(&draft.fill(42)).unwrap();
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("42");
        assert_eq!(filled, expected);

        let moved = with_revision(&draft.fill(42), "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",", 1000);
        expected["metadata"]["resourceVersion"] = json!("1000");
        assert_eq!(serde_json::from_slice::<Value>(&moved).unwrap(), expected);
    }

    #[test]
    fn an_object_with_nothing_but_an_envelope_is_still_json() {
        let filled = draft("{\"apiVersion\":\"v1\",\"kind\":\"X\",", &json!({})).fill(1);
        let value: Value = serde_json::from_slice(&filled).unwrap();
        assert_eq!(value, json!({"apiVersion": "v1", "kind": "X", "metadata": {"resourceVersion": "1"}}));
    }
}
