use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds::{self, Kind};
use crate::schema::{self, Schema};

/// An object with every field of the schema set, recursive types two levels deep.
fn sample(schema: &Schema, seen: &mut Vec<&'static str>) -> Option<Value> {
    if let Some(definition) = schema.definition() {
        if seen.iter().filter(|s| **s == definition.name).count() >= 2 {
            return None;
        }
        seen.push(&definition.name);
        let out = shape_sample(schema, seen);
        seen.pop();
        return out;
    }
    shape_sample(schema, seen)
}

fn shape_sample(schema: &Schema, seen: &mut Vec<&'static str>) -> Option<Value> {
    use schema::Shape;
    Some(match schema.shape() {
        Shape::Any => json!({ "any": [1, "thing"] }),
        Shape::Object(fields) => {
            let fields = fields.iter().filter_map(|(name, s)| Some((name.to_string(), sample(s, seen)?)));
            Value::Object(fields.collect())
        }
        Shape::Map(item) => json!({ "key": sample(item, seen)? }),
        Shape::List(item) => json!([sample(item, seen)?, sample(item, seen)?]),
        Shape::String => json!("text"),
        Shape::Bytes => json!("AAEC/w=="),
        Shape::Time => json!("2026-01-02T03:04:05Z"),
        Shape::MicroTime => json!("2026-01-02T03:04:05.000006Z"),
        Shape::Int32 => json!(-7),
        Shape::Int64 => json!(1_234_567_890_123_i64),
        Shape::Number => json!(0.5),
        Shape::Bool => json!(true),
        Shape::IntOrString => json!("25%"),
        Shape::Quantity => json!("1500m"),
        Shape::OneOf(all) => return all.iter().find_map(|s| sample(s, seen)),
        Shape::Ref(_) => unreachable!("shape() resolves"),
    })
}

fn full(kind: &Kind) -> Value {
    let mut object = sample(kind.schema(), &mut Vec::new()).expect("a sample");
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    object
}

/// The descriptors have every field that the schemas have: the two come from different sources.
#[test]
fn every_kind_goes_round_with_every_field() {
    for kind in kinds::builtin() {
        let object = full(kind);
        let bytes = encode(&object).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        let back = decode(&bytes).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_same(&object, &back, &format!("{kind:?}"));
    }
}

fn assert_same(left: &Value, right: &Value, path: &str) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            // Upstream's message of an object inside an object has no place for its type.
            let typed = |key: &str| path.ends_with("volumeClaimTemplates") && matches!(key, "apiVersion" | "kind");
            for (key, value) in a.iter().filter(|(key, _)| !typed(key)) {
                let other = b.get(key).unwrap_or_else(|| panic!("{path}.{key} was lost"));
                assert_same(value, other, &format!("{path}.{key}"));
            }
            assert_eq!(a.keys().filter(|key| !typed(key)).count(), b.len(), "{path}");
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            a.iter().zip(b).for_each(|(a, b)| assert_same(a, b, path));
        }
        _ => assert_eq!(left, right, "{path}"),
    }
}

#[test]
fn lists_options_and_statuses_go_round() {
    let pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "c" }] } });
    for object in [
        json!({ "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": "7" }, "items": [pod, pod] }),
        json!({ "apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "dryRun": ["All"],
            "preconditions": { "uid": "1" } }),
        json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404,
            "reason": "NotFound", "details": { "name": "a", "causes": [{ "reason": "x", "field": "y" }] } }),
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "status": { "disruptedPods": { "a": null } } }),
        json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "a" }, "spec": { "replicas": 3 } }),
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": { "name": "a" } }),
        json!({ "apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            { "name": "pods", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"] }] }),
    ] {
        assert!(is_known(object["apiVersion"].as_str().expect("text"), object["kind"].as_str().expect("text")));
        let back = decode(&encode(&object).expect("encodes")).expect("decodes");
        assert_same(&object, &back, "");
    }
    assert!(!is_known("example.com/v1", "Thing"));
    assert_eq!(encode(&json!({ "apiVersion": "example.com/v1", "kind": "Thing" })).expect_err("406").code, 406);
}

/// What a Go client writes without having said it: zeroes of fields that are no pointers.
#[test]
fn zeroes_of_go_structs_are_nothing() {
    let message = |content: &[u8]| {
        let mut out = MAGIC.to_vec();
        wire::put_nested(&mut out, 1, |out| {
            wire::put_bytes(out, 1, b"v1");
            wire::put_bytes(out, 2, b"ConfigMap");
            Ok::<_, ()>(())
        })
        .expect("no error");
        wire::put_bytes(&mut out, 2, content);
        out
    };
    // metadata { name: "a", generateName: "", generation: 0, creationTimestamp {}, deletionGracePeriodSeconds: 0 }
    let content = [10, 11, 10, 1, b'a', 18, 0, 56, 0, 66, 0, 80, 0];
    let decoded = decode(&message(&content)).expect("a ConfigMap");
    assert_eq!(
        decoded,
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "a", "deletionGracePeriodSeconds": 0 } })
    );
    // An unknown field, and a map entry without a value.
    let content = [10, 0, 18, 3, 10, 1, b'k', 0xf8, 0x3f, 1];
    let decoded = decode(&message(&content)).expect("a ConfigMap");
    assert_eq!(decoded["data"], json!({ "k": "" }));
}

#[test]
fn what_is_wrong_is_refused() {
    for (bytes, expected) in [
        (&b"{}"[..], "does not begin with k8s"),
        (b"k8s\0\x0a\x7f", "unexpected end"),
        (b"k8s\0\x0a\x06\x0a\x01v\x12\x01K", "no kind \"K\" is registered for version \"v\""),
        (b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "longer than 10 bytes"),
        (b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x08\x01", "wrong protobuf wire type 0 for field 1"),
        (b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x05\x0a\x03\x0a\x01\xff", "not UTF-8"),
    ] {
        let refused = decode(bytes).expect_err(expected);
        assert_eq!(refused.code, 400);
        assert!(refused.message.contains(expected), "{expected}: {}", refused.message);
    }
}

/// A JSON schema nests itself: `not` of `not` of …, two bytes each.
#[test]
fn nesting_is_limited() {
    let mut schema = Vec::new();
    for _ in 0..1000 {
        let inner = std::mem::take(&mut schema);
        // not
        wire::put_bytes(&mut schema, 28, &inner);
    }
    let mut bytes = MAGIC.to_vec();
    let nest = |out: &mut Vec<u8>, path: &[u32]| {
        let mut content = schema.clone();
        for field in path.iter().rev() {
            let inner = std::mem::take(&mut content);
            wire::put_bytes(&mut content, *field, &inner);
        }
        out.extend(content);
    };
    wire::put_bytes(&mut bytes, 1, b"\x0a\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition");
    // raw, spec, versions, schema, openAPIV3Schema
    nest(&mut bytes, &[2, 2, 7, 4, 1]);
    let refused = decode(&bytes).expect_err("too deep");
    assert!(refused.message.contains("nests deeper"), "{}", refused.message);
}

#[test]
fn watch_frames_carry_their_length() {
    let object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" } });
    let frame = watch_frame("ADDED", &object).expect("a frame");
    let (length, event) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().expect("four")) as usize, event.len());
    assert_eq!(wire::last_bytes(event, 1).expect("a message"), Some(&b"ADDED"[..]));
    let raw = wire::last_bytes(event, 2).expect("a message").expect("an object");
    let raw = wire::last_bytes(raw, 1).expect("a message").expect("raw");
    assert_eq!(decode(raw).expect("an envelope"), object);
}

#[test]
fn every_line_of_the_table_is_read() {
    let lines = include_str!("messages.txt").lines().filter(|l| l.starts_with(' ')).count();
    assert_eq!(messages::all().map(|m| m.fields.len()).sum::<usize>(), lines);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..kinds::builtin().len(), content in prop::collection::vec(any::<u8>(), 0..200)) {
        let kind = &kinds::builtin()[kind];
        let mut bytes = MAGIC.to_vec();
        let mut type_meta = Vec::new();
        wire::put_bytes(&mut type_meta, 1, kind.api_version().as_bytes());
        wire::put_bytes(&mut type_meta, 2, kind.kind.as_bytes());
        wire::put_bytes(&mut bytes, 1, &type_meta);
        wire::put_bytes(&mut bytes, 2, &content);
        let _ = decode(&bytes);
        let _ = decode(&content);
    }

    /// One byte of a full object changed or cut: an error or an object, which then goes round.
    #[test]
    fn damaged_objects_never_panic(kind in 0..kinds::builtin().len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = encode(&full(&kinds::builtin()[kind])).expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(object) = decode(&bytes) {
            let _ = encode(&object);
        }
    }
}
