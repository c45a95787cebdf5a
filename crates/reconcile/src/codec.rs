//! How objects of one kind are read, without naming their type: for caches and models that hold many kinds.
//!
//! What must stay true: an object is decoded once, straight from the bytes, and shared from then on. Managed fields
//! are dropped: no controller reads them, and they are the larger part of many objects.

use std::{any::Any, borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{KindRef, Object};

/// `Arc<K>` for the k8s-openapi type `K` of its kind.
pub type AnyObject = Arc<dyn Any + Send + Sync>;

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    pub resource_version: String,
    /// Empty on the last page.
    pub continue_token: String,
    pub items: Vec<AnyObject>,
}

/// One event of a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// `ADDED` or `MODIFIED`: to a cache, which is level-based, they are the same.
    Changed(AnyObject),
    /// With the last state of the object.
    Deleted(AnyObject),
    Bookmark {
        resource_version: String,
    },
    /// The watch ends after this.
    Error {
        code: u16,
        message: String,
    },
}

/// The decoders of one kind.
#[derive(Clone, Copy)]
pub struct Codec {
    pub kind: KindRef,
    pub page: fn(&[u8]) -> serde_json::Result<Page>,
    pub event: fn(&[u8]) -> serde_json::Result<WatchEvent>,
    pub object: fn(Value) -> serde_json::Result<AnyObject>,
    /// `None` if the object is of another type.
    pub meta: fn(&AnyObject) -> Option<&ObjectMeta>,
    /// Objects are [`Partial`]s.
    pub metadata_only: bool,
}

/// The metadata of an object of any kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Partial {
    pub metadata: ObjectMeta,
}

trait Read: DeserializeOwned + Send + Sync + 'static {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}
impl Read for Partial {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
impl<K: Object> Read for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({} {})", self.kind.api_version(), self.kind.kind)
    }
}

impl Codec {
    pub fn of<K: Object>() -> Self {
        Self::reading::<K>(KindRef::of::<K>(), false)
    }
    /// Objects of any kind, of which only the metadata is asked for and kept: [`Partial`]s.
    pub fn metadata(kind: KindRef) -> Self {
        Self::reading::<Partial>(kind, true)
    }

    fn reading<K: Read>(kind: KindRef, metadata_only: bool) -> Self {
        Self {
            kind,
            page: decode_page::<K>,
            event: decode_event::<K>,
            object: |value| serde_json::from_value::<K>(value).map(share),
            meta: |object| object.downcast_ref::<K>().map(Read::meta),
            metadata_only,
        }
    }
}

fn share<K: Read>(mut object: K) -> AnyObject {
    object.meta_mut().managed_fields = None;
    Arc::new(object)
}

#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
struct List<K> {
    metadata: ListMeta,
    /// `null` for an empty list from some servers.
    items: Option<Vec<K>>,
}

fn decode_page<K: Read>(bytes: &[u8]) -> serde_json::Result<Page> {
    let list: List<K> = serde_json::from_slice(&without_managed_fields(bytes))?;
    Ok(Page {
        resource_version: list.metadata.resource_version.unwrap_or_default(),
        continue_token: list.metadata.continue_.unwrap_or_default(),
        items: list.items.unwrap_or_default().into_iter().map(share).collect(),
    })
}

fn decode_event<K: Read>(bytes: &[u8]) -> serde_json::Result<WatchEvent> {
    serde_json::from_slice::<Line<K>>(&without_managed_fields(bytes)).map(|line| line.0)
}

/// Cuts every `"managedFields":[…]` out of compact JSON. They are half of many objects, and as trees of single fields
/// the costly half to decode. The pattern cannot be part of a string, where its quotes would be escaped; written
/// otherwise (with spaces) they are decoded and dropped.
fn without_managed_fields(bytes: &[u8]) -> Cow<'_, [u8]> {
    const FIELD: &[u8] = b"\"managedFields\":[";
    let find = |from: usize| {
        let hits = bytes[from..].windows(FIELD.len());
        hits.enumerate().find(|(_, window)| window[1] == b'm' && *window == FIELD).map(|(at, _)| from + at)
    };
    let Some(mut start) = find(0) else { return Cow::Borrowed(bytes) };
    let mut out = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    // An array that does not end is for the decoder to complain about.
    while let Some(end) = array_end(bytes, start + FIELD.len() - 1) {
        out.extend_from_slice(&bytes[copied..start]);
        copied = end;
        if bytes.get(end) == Some(&b',') {
            copied += 1;
        } else if out.last() == Some(&b',') {
            out.pop();
        }
        let Some(next) = find(copied) else { break };
        start = next;
    }
    out.extend_from_slice(&bytes[copied..]);
    Cow::Owned(out)
}

/// The position behind the array that opens at `open`.
fn array_end(bytes: &[u8], open: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, b) in bytes.iter().enumerate().skip(open) {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' if !in_string => depth += 1,
            b']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

struct Line<K>(WatchEvent, PhantomData<K>);

impl<'de, K: Read> Deserialize<'de> for Line<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor(PhantomData))
    }
}

struct LineVisitor<K>(PhantomData<K>);

impl<'de, K: Read> Visitor<'de> for LineVisitor<K> {
    type Value = Line<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a watch event with type and object")
    }

    /// Servers write `type` first: the object is then decoded without an intermediate tree.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<K>, A::Error> {
        let mut event_type: Option<String> = None;
        let mut early: Option<Value> = None;
        let mut out = None;
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), &event_type) {
                ("type", _) => event_type = Some(map.next_value()?),
                ("object", Some(t)) => {
                    out = Some(match t.as_str() {
                        "ADDED" | "MODIFIED" => WatchEvent::Changed(share(map.next_value::<K>()?)),
                        "DELETED" => WatchEvent::Deleted(share(map.next_value::<K>()?)),
                        _ => other(t, map.next_value()?).map_err(A::Error::custom)?,
                    });
                }
                ("object", None) => early = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let event_type = event_type.ok_or_else(|| A::Error::missing_field("type"))?;
        let event = match (out, early) {
            (Some(event), _) => event,
            (None, Some(value)) => match event_type.as_str() {
                "ADDED" | "MODIFIED" => {
                    WatchEvent::Changed(share(serde_json::from_value::<K>(value).map_err(A::Error::custom)?))
                }
                "DELETED" => WatchEvent::Deleted(share(serde_json::from_value::<K>(value).map_err(A::Error::custom)?)),
                _ => other(&event_type, value).map_err(A::Error::custom)?,
            },
            (None, None) => return Err(A::Error::missing_field("object")),
        };
        Ok(Line(event, PhantomData))
    }
}

fn other(event_type: &str, object: Value) -> Result<WatchEvent, String> {
    match event_type {
        "BOOKMARK" => Ok(WatchEvent::Bookmark {
            resource_version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        }),
        "ERROR" => Ok(WatchEvent::Error {
            code: object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500),
            message: object["message"].as_str().unwrap_or_default().to_owned(),
        }),
        t => Err(format!("unknown watch event type {t:?}")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn event(line: &str) -> serde_json::Result<WatchEvent> {
        (Codec::of::<ConfigMap>().event)(line.as_bytes())
    }

    #[test]
    fn events_are_decoded_whichever_field_comes_first() {
        let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","managedFields":[{"manager":"m"}]},"data":{"k":"v"}}"#;
        for line in
            [format!(r#"{{"type":"ADDED","object":{object}}}"#), format!(r#"{{"object":{object},"type":"MODIFIED"}}"#)]
        {
            let Ok(WatchEvent::Changed(o)) = event(&line) else { panic!("{line}") };
            let map = o.downcast_ref::<ConfigMap>().expect("a config map");
            assert_eq!(map.metadata.name.as_deref(), Some("a"));
            assert_eq!(map.metadata.managed_fields, None);
            assert_eq!(map.data.as_ref().and_then(|d| d.get("k")).map(String::as_str), Some("v"));
        }
        assert!(matches!(event(&format!(r#"{{"type":"DELETED","object":{object}}}"#)), Ok(WatchEvent::Deleted(_))));
    }

    #[test]
    fn managed_fields_are_cut_wherever_they_stand_and_nothing_else_is() {
        let cut = |json: &str| String::from_utf8(without_managed_fields(json.as_bytes()).into_owned()).expect("UTF-8");
        for (before, after) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"managedFields":[{"x":["]"]}]}"#, "{}"),
            (r#"{"a":1,"managedFields":[]}"#, r#"{"a":1}"#),
            (r#"{"managedFields":[[]],"b":2}"#, r#"{"b":2}"#),
            (r#"{"a":1,"managedFields":[{"f":"\\\"]"}],"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"[{"managedFields":[1]},{"z":0,"managedFields":[2]}]"#, r#"[{},{"z":0}]"#),
            (r#"{"data":{"managedFields":"[x]"}}"#, r#"{"data":{"managedFields":"[x]"}}"#),
            (r#"{"s":"\"managedFields\":[1]"}"#, r#"{"s":"\"managedFields\":[1]"}"#),
            (r#"{"managedFields":[1"#, r#"{"managedFields":[1"#),
        ] {
            assert_eq!(cut(before), after);
        }
    }

    #[test]
    fn bookmarks_and_errors_are_not_objects() {
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"17"}}}"#;
        assert!(matches!(event(bookmark), Ok(WatchEvent::Bookmark { resource_version }) if resource_version == "17"));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        assert!(matches!(event(gone), Ok(WatchEvent::Error { code: 410, message }) if message == "too old"));
        assert!(event(r#"{"type":"NEWS","object":{}}"#).is_err());
        assert!(event(r#"{"type":"ADDED"}"#).is_err());
    }

    #[test]
    fn an_object_that_does_not_decode_is_an_error_and_never_skipped() {
        assert!(event(r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":3}}}"#).is_err());
        let page = br#"{"metadata":{"resourceVersion":"3"},"items":[{"metadata":{"name":"a"}},{"metadata":7}]}"#;
        assert!((Codec::of::<ConfigMap>().page)(page).is_err());
    }

    #[test]
    fn an_empty_list_has_a_revision() {
        let page = (Codec::of::<ConfigMap>().page)(br#"{"metadata":{"resourceVersion":"3"},"items":null}"#);
        let page = page.expect("decodes");
        assert_eq!((page.resource_version.as_str(), page.items.len(), page.continue_token.as_str()), ("3", 0, ""));
    }
}
