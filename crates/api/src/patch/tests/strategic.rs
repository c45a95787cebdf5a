//! Strategic merge patch, one line of the directives' description at a time.

use serde_json::{Value, json};

use super::{schema_of, yaml};
use crate::{patch::strategic, schema::Schema};

const POD: &str = "
spec:
  nodeSelector: {disk: ssd}
  tolerations: [{key: a}]
  containers:
  - {name: a, image: a1, args: [x, y], ports: [{containerPort: 80}], env: [{name: K, value: '1'}]}
  - {name: b, image: b1}
  - {name: c, image: c1}
  volumes:
  - {name: v, emptyDir: {}}
metadata:
  finalizers: [f1, f2, f3]
  labels: {x: '1'}
";

fn patched(patch: &str) -> Result<Value, String> {
    let mut target = yaml(POD);
    strategic::apply(schema_of("", "v1", "Pod"), yaml(patch), &mut target).map_err(|status| {
        assert!(matches!(status.code, 400 | 422), "{status}");
        status.message
    })?;
    Ok(target)
}

/// `pointer` is where the patch goes, `expected` what is there afterwards.
#[test]
fn merging() {
    let table = [
        ("scalars replace", "{spec: {hostname: h}}", "/spec/hostname", "h"),
        ("maps merge", "{metadata: {labels: {y: '2'}}}", "/metadata/labels", "{x: '1', y: '2'}"),
        ("null removes", "{metadata: {labels: {x: null}}}", "/metadata/labels", "{}"),
        ("null of nothing is nothing", "{metadata: {annotations: {x: null}}}", "/metadata/annotations", "{}"),
        ("lists without a strategy replace", "{spec: {tolerations: [{key: b}]}}", "/spec/tolerations", "[{key: b}]"),
        (
            "scalar lists without one too",
            "{spec: {containers: [{name: a, args: [z]}]}}",
            "/spec/containers/0/args",
            "[z]",
        ),
        (
            "items merge by key",
            "{spec: {containers: [{name: b, image: b2}]}}",
            "/spec/containers/1",
            "{name: b, image: b2}",
        ),
        ("new items", "{spec: {volumes: [{name: w, emptyDir: {}}]}}", "/spec/volumes/0/name", "w"),
        (
            "ports by their number",
            "{spec: {containers: [{name: a, ports: [{containerPort: 80, name: http}, {containerPort: 81}]}]}}",
            "/spec/containers/0/ports",
            "[{containerPort: 80, name: http}, {containerPort: 81}]",
        ),
        (
            "scalar lists that merge are sets",
            "{metadata: {finalizers: [f2, f4]}}",
            "/metadata/finalizers",
            "[f1, f2, f4, f3]",
        ),
        (
            "replace in a map",
            "{spec: {nodeSelector: {$patch: replace, cpu: fast}}}",
            "/spec/nodeSelector",
            "{cpu: fast}",
        ),
        ("delete in a map", "{spec: {nodeSelector: {$patch: delete}}}", "/spec/nodeSelector", "{}"),
        (
            "delete an item",
            "{spec: {containers: [{name: a, $patch: delete}, {name: c, $patch: delete}]}}",
            "/spec/containers",
            "[{name: b, image: b1}]",
        ),
        ("replace a list", "{spec: {containers: [{$patch: replace}, {name: z}]}}", "/spec/containers", "[{name: z}]"),
        ("delete what is not there", "{spec: {volumes: [{name: none, $patch: delete}]}}", "/spec/volumes/0/name", "v"),
        (
            "delete in what is not there",
            "{spec: {initContainers: [{name: none, $patch: delete}]}}",
            "/spec/initContainers",
            "[]",
        ),
        (
            "delete from a list",
            "{metadata: {$deleteFromPrimitiveList/finalizers: [f1, none]}}",
            "/metadata/finalizers",
            "[f2, f3]",
        ),
        (
            "delete and add at once",
            "{metadata: {$deleteFromPrimitiveList/finalizers: [f1], finalizers: [f9]}}",
            "/metadata/finalizers",
            "[f9, f2, f3]",
        ),
        (
            "retained keys",
            "{spec: {volumes: [{name: v, $retainKeys: [name, hostPath], hostPath: {path: /p}}]}}",
            "/spec/volumes",
            "[{name: v, hostPath: {path: /p}}]",
        ),
    ];
    for (what, patch, pointer, expected) in table {
        let target = patched(patch).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(target.pointer(pointer), Some(&yaml(expected)), "{what}: {target}");
    }
}

#[test]
fn order() {
    let names = |target: &Value| -> String {
        let all = target["spec"]["containers"].as_array().expect("a list");
        all.iter().filter_map(|c| c["name"].as_str()).collect::<Vec<_>>().join(" ")
    };
    let order = |names: &str| -> String {
        let items: Vec<_> = names.split(' ').map(|n| format!("{{name: {n}}}")).collect();
        format!("$setElementOrder/containers: [{}]", items.join(", "))
    };
    let table = [
        ("[{name: b, image: b2}]".to_owned(), "", "a b c"),
        ("[{name: new, image: n1}, {name: b}]".to_owned(), "", "new a b c"),
        ("[{name: new, image: n1}]".to_owned(), "", "new a b c"),
        ("[{name: c}, {name: a}]".to_owned(), "", "b c a"),
        (String::new(), "c b a", "c b a"),
        ("[{name: new, image: n1}]".to_owned(), "a new b c", "a new b c"),
        ("[{name: new, image: n1}]".to_owned(), "c new", "a b c new"),
        ("[{name: a, $patch: delete}]".to_owned(), "c b", "c b"),
    ];
    for (list, directive, expected) in table {
        let mut fields = vec![];
        if !directive.is_empty() {
            fields.push(order(directive));
        }
        if !list.is_empty() {
            fields.push(format!("containers: {list}"));
        }
        let patch = format!("{{spec: {{{}}}}}", fields.join(", "));
        assert_eq!(names(&patched(&patch).expect("it applies")), expected, "{patch}");
    }
    let scalars =
        patched("{metadata: {$setElementOrder/finalizers: [f3, f1], $deleteFromPrimitiveList/finalizers: [f2]}}");
    assert_eq!(scalars.expect("it applies")["metadata"]["finalizers"], json!(["f3", "f1"]));
}

#[test]
fn errors() {
    let table = [
        ("{spec: {containers: [{image: x}]}}", "does not contain declared merge key: name"),
        ("{spec: {containers: [{$patch: delete}]}}", "does not contain declared merge key: name"),
        ("{spec: {containers: [{name: a, $patch: merge}]}}", "merging lists cannot yet be specified"),
        ("{spec: {nodeSelector: {$patch: shred}}}", "unknown patch type: shred in map: {}"),
        ("{spec: {volumes: [{name: v, $retainKeys: x}]}}", "invalid patch format of retainKeys"),
        ("{spec: {volumes: [{name: v, $retainKeys: [name], hostPath: {}}]}}", "invalid patch format of retainKeys"),
        ("{metadata: {$deleteFromPrimitiveList/finalizers: f1}}", "invalid patch format of primitive list"),
        ("{metadata: {$setElementOrder/finalizers: f1}}", "invalid patch format of setElementOrder list"),
        (
            "{spec: {$setElementOrder/containers: [{name: a}, {name: b}], containers: [{name: b}, {name: a}]}}",
            "doesn't match $setElementOrder list",
        ),
        ("{metadata: {finalizers: [{a: 1}]}}", "list element types are not identical"),
        ("{metadata: {finalizers: [[f1]]}}", "the server rejected our request"),
        ("[]", "invalid JSON document"),
    ];
    for (patch, expected) in table {
        let error = patched(patch).expect_err(patch);
        assert!(error.contains(expected), "{patch}: {error}");
    }
}

#[test]
fn custom_resources_have_none() {
    let schema = Schema::from_crd(&json!({ "type": "object" })).expect("structural");
    let status = strategic::apply(&schema, json!({}), &mut json!({})).expect_err("refused");
    assert_eq!(status.code, 415);
    assert!(
        status
            .message
            .ends_with("application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
    );
}
