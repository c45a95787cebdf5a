//! Tables per kind of patch, and laws that hold for any input.

mod apply;
mod laws;
mod replace;
mod strategic;

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::{
    kinds,
    schema::{self, Schema},
};

fn schema_of(group: &str, version: &str, kind: &str) -> &'static Schema {
    schema::of(kinds::find_kind(group, version, kind).expect("built in"))
}

/// YAML, because tables of JSON are hard to read.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Any JSON of a few keys, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0..5i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            any_object(inner).prop_map(Value::Object),
        ]
    })
}

fn any_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[abc]", value, 0..4).prop_map(|map| map.into_iter().collect())
}
