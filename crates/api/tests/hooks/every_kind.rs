//! What must hold for the hooks of any kind, whatever is thrown at them.

use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_api::kinds;

#[test]
fn rows_have_a_cell_per_column() {
    let now = "2026-01-01T00:10:00Z".parse().unwrap();
    for kind in kinds::builtin() {
        let object = json!({"metadata": {"name": "x"}});
        let cells = (kind.hooks.row)(&object, now);
        assert_eq!(cells.len(), kind.hooks.columns.len(), "{kind:?}");
        let named = kind.hooks.columns.iter().position(|c| c.format == "name" && c.name == "Name");
        assert_eq!(cells[named.unwrap_or_else(|| panic!("{kind:?} has no name column"))], "x", "{kind:?}");
    }
}

#[test]
fn field_labels_are_those_that_fields_returns() {
    for kind in kinds::builtin() {
        let returned: Vec<&str> = (kind.hooks.fields)(&json!({})).into_iter().map(|(k, _)| k).collect();
        for name in &returned {
            assert!(kind.hooks.field_labels.contains(name), "{kind:?} {name}");
        }
    }
}

/// Values that a hostile client may put where a hook expects something else.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z.:/%-]{0,12}".prop_map(Value::from),
        Just(json!("")),
        Just(json!("25%")),
    ];
    let key = prop::sample::select(vec![
        "spec",
        "status",
        "metadata",
        "containers",
        "initContainers",
        "volumes",
        "name",
        "labels",
        "annotations",
        "template",
        "selector",
        "matchLabels",
        "matchExpressions",
        "ports",
        "port",
        "resources",
        "limits",
        "requests",
        "env",
        "valueFrom",
        "rules",
        "subjects",
        "conditions",
        "replicas",
        "strategy",
        "rollingUpdate",
        "maxSurge",
        "data",
        "stringData",
        "subsets",
        "endpoints",
        "addresses",
        "metrics",
        "type",
        "backend",
        "paths",
        "http",
        "podFailurePolicy",
        "jobTemplate",
        "schedule",
        "securityContext",
        "affinity",
        "livenessProbe",
        "httpGet",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn defaults_are_idempotent_and_nothing_panics(object in anything(), old in anything()) {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        for kind in kinds::builtin() {
            let hooks = kind.hooks;
            let mut once = object.clone();
            (hooks.default)(&mut once);
            let mut twice = once.clone();
            (hooks.default)(&mut twice);
            prop_assert_eq!(&once, &twice, "{:?}", kind);
            let mut new = once.clone();
            (hooks.prepare_create)(&mut new);
            (hooks.prepare_update)(&mut new, &old);
            (hooks.prepare_status)(&mut new, &old);
            (hooks.validate)(&new);
            (hooks.validate_update)(&new, &old);
            (hooks.validate_status)(&new, &old);
            (hooks.warnings)(&new);
            (hooks.row)(&new, now);
            (hooks.fields)(&new);
            if let Some(grace) = hooks.grace_seconds {
                grace(&new);
            }
            if let Some(generation_of) = hooks.generation_of {
                generation_of(&new);
            }
            if let Some(convert) = hooks.convert {
                let _ = convert(&mut new, &kind.api_version());
            }
        }
    }
}
