//! JSON patch and merge patch.

use serde_json::{Value, json};

use crate::patch::{json as json_patch, merge};

#[test]
fn json_patch_operations() {
    let table = [
        (json!([{ "op": "add", "path": "/a", "value": 1 }]), json!({ "a": 1, "l": [1, 2] })),
        (json!([{ "op": "add", "path": "/l/1", "value": 9 }]), json!({ "a": 0, "l": [1, 9, 2] })),
        (json!([{ "op": "add", "path": "/l/-", "value": 9 }]), json!({ "a": 0, "l": [1, 2, 9] })),
        (json!([{ "op": "remove", "path": "/l/0" }]), json!({ "a": 0, "l": [2] })),
        (json!([{ "op": "replace", "path": "/a", "value": null }]), json!({ "a": null, "l": [1, 2] })),
        (json!([{ "op": "move", "from": "/a", "path": "/b~1c" }]), json!({ "b/c": 0, "l": [1, 2] })),
        (json!([{ "op": "copy", "from": "/l/0", "path": "/a" }]), json!({ "a": 1, "l": [1, 2] })),
        (json!([{ "op": "test", "path": "/a", "value": 0 }, { "op": "remove", "path": "/a" }]), json!({ "l": [1, 2] })),
    ];
    for (patch, expected) in table {
        let mut target = json!({ "a": 0, "l": [1, 2] });
        json_patch::apply(patch.to_string().as_bytes(), &mut target).expect("it applies");
        assert_eq!(target, expected, "{patch}");
    }
}

#[test]
fn json_patch_errors_leave_the_object_alone() {
    let too_many = vec![json!({ "op": "test", "path": "/a", "value": 0 }); json_patch::OPERATIONS_MAX + 1];
    let first = json!({ "op": "add", "path": "/a", "value": 7 });
    let table = [
        ("{".to_owned(), 400, "invalid JSON patch"),
        (json!([{ "op": "increment", "path": "/a" }]).to_string(), 400, "unknown variant `increment`"),
        (json!([first, { "op": "remove", "path": "/none" }]).to_string(), 422, "the server rejected our request"),
        (
            json!([first, { "op": "test", "path": "/a", "value": 1 }]).to_string(),
            422,
            "the server rejected our request",
        ),
        (Value::Array(too_many).to_string(), 413, "maximum operations in a JSON patch is 10000, got 10001"),
    ];
    for (patch, code, message) in table {
        let mut target = json!({ "a": 0 });
        let status = json_patch::apply(patch.as_bytes(), &mut target).expect_err("it does not apply");
        assert_eq!(status.code, code, "{status}");
        assert!(status.message.contains(message), "{status}");
        assert_eq!(target, json!({ "a": 0 }));
    }
}

/// The examples of RFC 7386, appendix A, as far as a patch may be an object.
#[test]
fn merge_patch_as_the_rfc_has_it() {
    let table = [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ];
    for (mut target, patch, expected) in table {
        let shown = format!("{target} + {patch}");
        merge::apply(patch, &mut target).expect("it applies");
        assert_eq!(target, expected, "{shown}");
    }
    for patch in [json!([]), json!("a"), json!(null)] {
        assert_eq!(merge::apply(patch, &mut json!({})).expect_err("no object").code, 400);
    }
}
