//! How fields merge: list types, map keys, patch strategies. k8s-openapi's schemas leave these out, so they are a
//! data file, written by `cargo run -p skiff-api --example upstream_facts`.
//!
//! Format of `facts.txt`: a line without indent names a type (` atomic` after it: the struct is atomic); a line
//! with one space is one of its fields: name, then `list=atomic|set|map:KEY,…`, `map=atomic|granular`,
//! `patch=merge|retainKeys|replace|merge,retainKeys`, `key=PATCH_MERGE_KEY`, `default=VALUE` (of a map key).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{ListType, PatchStrategy};

/// What is known about one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldFacts {
    /// `None`: not stated, which means atomic.
    pub list_type: Option<ListType>,
    pub map_keys: Vec<&'static str>,
    pub map_atomic: Option<bool>,
    pub patch_strategy: PatchStrategy,
    /// As upstream spells it, for OpenAPI.
    pub patch_strategy_text: Option<&'static str>,
    pub patch_merge_key: Option<&'static str>,
    pub key_default: Option<&'static str>,
}

#[derive(Default)]
struct TypeFacts {
    atomic: bool,
    fields: Vec<(&'static str, &'static str)>,
}

static FACTS: LazyLock<HashMap<&'static str, TypeFacts>> = LazyLock::new(|| {
    let mut all: HashMap<&'static str, TypeFacts> = HashMap::new();
    let mut current = "";
    for line in include_str!("facts.txt").lines().filter(|l| !l.starts_with('#')) {
        if let Some(field) = line.strip_prefix(' ') {
            let (name, facts) = field.split_once(' ').unwrap_or((field, ""));
            all.entry(current).or_default().fields.push((name, facts));
        } else {
            let (name, flag) = line.split_once(' ').unwrap_or((line, ""));
            current = name;
            all.entry(name).or_default().atomic = flag == "atomic";
        }
    }
    all
});

/// Whether the struct of this name is owned as a whole.
pub fn type_is_atomic(type_name: &str) -> bool {
    FACTS.get(type_name).is_some_and(|t| t.atomic)
}

/// What upstream states about a field of a type (`io.k8s.api.core.v1.PodSpec`, `containers`).
pub fn field_facts(type_name: &str, field: &str) -> Option<FieldFacts> {
    let (_, text) = FACTS.get(type_name)?.fields.iter().find(|(name, _)| *name == field)?;
    let mut facts = FieldFacts::default();
    for (key, value) in text.split(' ').filter_map(|t| t.split_once('=')) {
        match key {
            "list" => {
                let (list_type, keys) = value.split_once(':').unwrap_or((value, ""));
                facts.list_type = Some(match list_type {
                    "map" => ListType::Map,
                    "set" => ListType::Set,
                    _ => ListType::Atomic,
                });
                facts.map_keys = keys.split(',').filter(|k| !k.is_empty()).collect();
            }
            "map" => facts.map_atomic = Some(value == "atomic"),
            "patch" => {
                let has = |name: &str| value.split(',').any(|v| v == name);
                facts.patch_strategy =
                    PatchStrategy { merge: has("merge"), retain_keys: has("retainKeys"), replace: has("replace") };
                facts.patch_strategy_text = Some(value);
            }
            "key" => facts.patch_merge_key = Some(value),
            "default" => facts.key_default = Some(value),
            _ => {}
        }
    }
    Some(facts)
}
