use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds;

fn kind(group: &str, kind: &str) -> &'static Kind {
    kinds::builtin().iter().find(|k| k.group == group && k.kind == kind).expect("built in")
}

fn deployment(body: &str, validation: FieldValidation) -> Result<Decoded, Status> {
    decode(kind("apps", "Deployment").schema(), parse_json(body.as_bytes())?, validation)
}

fn spec(spec: &str) -> String {
    format!(r#"{{"apiVersion":"apps/v1","kind":"Deployment","spec":{spec}}}"#)
}

#[test]
fn unknown_and_duplicate_fields_follow_the_validation() {
    let body =
        spec(r#"{"replicas":1,"replicas":2,"foo":1,"template":{"spec":{"containers":[{"name":"a","bar":{}}]}}}"#);
    let expected = [
        r#"duplicate field "spec.replicas""#,
        r#"unknown field "spec.foo""#,
        r#"unknown field "spec.template.spec.containers[0].bar""#,
    ];
    let warned = deployment(&body, FieldValidation::Warn).expect("a warning");
    assert_eq!(warned.warnings, expected);
    assert_eq!(
        warned.value["spec"],
        json!({ "replicas": 2, "template": { "spec": { "containers": [{ "name": "a" }] } } })
    );
    let ignored = deployment(&body, FieldValidation::Ignore).expect("ignored");
    assert_eq!((ignored.value, ignored.warnings.len()), (warned.value, 0));
    let refused = deployment(&body, FieldValidation::Strict).expect_err("strict");
    assert_eq!((refused.code, refused.reason), (400, "BadRequest"));
    assert_eq!(
        refused.message,
        format!(
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: {}",
            expected.join(", ")
        )
    );
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    for (body, expected) in [
        (
            r#"{"replicas":"1"}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":3000000000}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (r#"[]"#, "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec"),
        (
            r#"{"template":{"spec":{"containers":{}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"template":{"spec":{"containers":[{"env":[{"name":"a","value":1}]}]}}}"#,
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            r#"{"template":{"metadata":{"labels":{"a":true}}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.spec.template.metadata.labels of type string",
        ),
        (
            r#"{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"template":{"metadata":{"creationTimestamp":"x"}}}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        (
            r#"{"strategy":{"rollingUpdate":{"maxSurge":{}}}}"#,
            "json: cannot unmarshal object into Go value of type string",
        ),
    ] {
        let refused = deployment(&spec(body), FieldValidation::Ignore).expect_err(body);
        assert_eq!(refused.code, 400);
        let expected = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {expected}");
        assert_eq!(refused.message, expected, "{body}");
    }
}

#[test]
fn values_are_brought_into_the_stored_form() {
    let body = r#"{"metadata":{"creationTimestamp":null,"labels":{"a":null},"annotations":null},
        "spec":{"containers":[{"resources":{"limits":{"cpu":"1000m","memory":1024}},"args":["a",null]}],
        "nodeName":null},"status":{"startTime":"2026-01-02T05:04:05.5+02:00"}}"#;
    let decoded = decode(kind("", "Pod").schema(), parse_json(body.as_bytes()).expect("JSON"), FieldValidation::Strict);
    assert_eq!(
        decoded.expect("a pod").value,
        json!({ "metadata": { "labels": { "a": "" } },
            "spec": { "containers": [{ "resources": { "limits": { "cpu": "1", "memory": "1024" } }, "args": ["a", ""] }] },
            "status": { "startTime": "2026-01-02T03:04:05Z" } })
    );
    let lease =
        json!({ "spec": { "renewTime": "2026-01-02T03:04:05Z", "acquireTime": "2026-01-02T03:04:05.000001Z" } });
    let lease = decode(kind("coordination.k8s.io", "Lease").schema(), lease.into(), FieldValidation::Strict);
    let lease = lease.expect("a lease").value;
    assert_eq!(lease["spec"]["renewTime"], "2026-01-02T03:04:05.000000Z");
    assert_eq!(lease["spec"]["acquireTime"], "2026-01-02T03:04:05.000001Z");
    let secret = kind("", "Secret").schema();
    let decoded = decode(secret, json!({ "data": { "a": "eHg=\n" } }).into(), FieldValidation::Strict);
    assert_eq!(decoded.expect("a secret").value["data"]["a"], "eHg=");
    let refused = decode(secret, json!({ "kind": "Secret", "data": { "a": "x!" } }).into(), FieldValidation::Strict);
    assert!(refused.expect_err("base64").message.ends_with("illegal base64 data at input byte 1"));
}

#[test]
fn free_form_fields_keep_everything() {
    let body = json!({ "metadata": { "managedFields": [{ "fieldsV1": { "f:metadata": { ".": {}, "x": null } } }] },
        "data": { "any": [1, null, { "thing": true }] }, "revision": 1 });
    let decoded = decode(kind("apps", "ControllerRevision").schema(), body.clone().into(), FieldValidation::Strict);
    assert_eq!(decoded.expect("kept").value, body);
    let crd = json!({ "spec": { "versions": [{ "name": "v1", "schema": { "openAPIV3Schema": {
        "type": "object", "properties": { "a": { "items": { "type": "string", "default": "x" }, "additionalProperties": true,
        "enum": [1, "a", null] } }, "nonsense": 1 } } }] } });
    let schema = kind("apiextensions.k8s.io", "CustomResourceDefinition").schema();
    let decoded = decode(schema, crd.into(), FieldValidation::Warn).expect("a CRD");
    assert_eq!(decoded.warnings, [r#"unknown field "spec.versions[0].schema.openAPIV3Schema.nonsense""#]);
}

#[test]
fn custom_resources_are_pruned_and_their_metadata_checked() {
    let raw = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
        "size": { "type": "integer" }, "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "known": { "type": "object" } } },
        "gone": { "type": "object", "nullable": true },
        "embedded": { "type": "object", "x-kubernetes-embedded-resource": true } } } } });
    let schema = Schema::from_crd(&raw).expect("structural");
    let body = json!({ "apiVersion": "a/v1", "kind": "A", "metadata": { "name": "x", "nope": 1 },
        "spec": { "size": "not yet checked", "x": 1, "gone": null, "free": { "y": 1, "known": { "z": 1 } },
            "embedded": { "apiVersion": "v1", "kind": "K", "metadata": {}, "w": 1 } } });
    let decoded = decode(&schema, body.into(), FieldValidation::Warn).expect("pruned");
    assert_eq!(
        decoded.value["spec"],
        json!({ "size": "not yet checked", "gone": null, "free": { "y": 1, "known": {} },
            "embedded": { "apiVersion": "v1", "kind": "K", "metadata": {} } })
    );
    assert_eq!(
        decoded.warnings,
        ["metadata.nope", "spec.embedded.w", "spec.free.known.z", "spec.x"].map(|p| format!("unknown field {p:?}"))
    );
    let wrong = json!({ "apiVersion": "a/v1", "kind": "A", "metadata": { "name": 5 } });
    let refused = decode(&schema, wrong.into(), FieldValidation::Ignore).expect_err("metadata has types");
    assert!(refused.message.contains("ObjectMeta.metadata.name of type string"), "{}", refused.message);
}

#[test]
fn the_type_is_filled_in_or_must_match() {
    let pod = kind("", "Pod");
    let mut bare = json!({});
    check_type_meta(&mut bare, pod).expect("filled in");
    assert_eq!(bare, json!({ "apiVersion": "v1", "kind": "Pod" }));
    let mut version = json!({ "apiVersion": "apps/v1", "kind": "Pod" });
    assert_eq!(
        check_type_meta(&mut version, pod).expect_err("refused").message,
        "the API version in the data (apps/v1) does not match the expected API version (v1)"
    );
    let mut other = json!({ "apiVersion": "v1", "kind": "Service" });
    let refused = check_type_meta(&mut other, pod).expect_err("refused");
    assert!(refused.message.starts_with("Service in version \"v1\" cannot be handled as a Pod"));
    assert_eq!(check_type_meta(&mut json!([]), pod).expect_err("refused").code, 400);
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() {
    let text =
        "a: yes\nb: 0644\nc: '1'\nd: 1e3\ne: ~\n1: x\na: no\n---\n---\n# only a comment\n---\nx: &y {z: 1}\nw: *y\n";
    let mut documents = parse_yaml_documents(text).expect("YAML");
    documents.retain(|d| !d.value.is_null());
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].duplicates, ["a"]);
    assert_eq!(documents[0].value, json!({ "a": false, "b": 420, "c": "1", "d": 1000.0, "e": null, "1": "x" }));
    assert_eq!(documents[1].value, json!({ "x": { "z": 1 }, "w": { "z": 1 } }));
    let error = parse_yaml_documents("a: 1\nb: [\n").expect_err("not YAML");
    assert!(error.line >= 2, "{error}");
    assert_eq!(parse_yaml(b"a: 1\n---\nb: 1\n").expect_err("two documents").code, 400);
    assert_eq!(parse_yaml(b"\xff").expect_err("not text").code, 400);
}

#[test]
fn bombs_end_within_the_limits() {
    let mut aliases = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        let reference = format!("*a{}", i - 1);
        aliases += &format!("a{i}: &a{i} [{}]\n", [reference.as_str(); 10].join(","));
    }
    assert!(parse_yaml_documents(&aliases).is_err());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse_json(deep.as_bytes()).is_err());
    assert!(parse_yaml_documents(&deep).is_err());
    let mut value = json!(1);
    for _ in 0..1000 {
        value = json!({ "not": value });
    }
    let schema = kind("apiextensions.k8s.io", "CustomResourceDefinition").schema();
    let crd = json!({ "spec": { "versions": [{ "schema": { "openAPIV3Schema": value } }] } });
    let refused = decode(schema, crd.into(), FieldValidation::Ignore).expect_err("too deep");
    assert!(refused.message.ends_with("exceeded max depth"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9=:.TZ-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let name = prop_oneof![
            "[a-z]{1,3}",
            prop::sample::select(vec![
                "metadata",
                "spec",
                "status",
                "template",
                "containers",
                "name",
                "data",
                "labels"
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever comes in: no panic, and what was let through is let through unchanged the next time.
    #[test]
    fn decoding_is_idempotent(value in any_json(), at in 0..kinds::builtin().len()) {
        let schema = kinds::builtin()[at].schema();
        if let Ok(first) = decode(schema, value.into(), FieldValidation::Ignore) {
            let second = decode(schema, first.value.clone().into(), FieldValidation::Strict).expect("clean");
            prop_assert_eq!(first.value, second.value);
        }
    }

    #[test]
    fn parsing_agrees_with_serde_json(value in any_json()) {
        let text = value.to_string();
        let parsed = parse_json(text.as_bytes()).expect("JSON");
        prop_assert_eq!(&parsed.value, &value);
        prop_assert!(parsed.duplicates.is_empty());
    }
}
