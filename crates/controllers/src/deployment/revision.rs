//! Which ReplicaSet is the new one, its name, and the annotations that are a Deployment's history.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::PodTemplateSpec,
};
use skiff_api::quantity::Quantity;

use super::{POD_TEMPLATE_HASH, spec};
use crate::objects::{annotation, name};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
const HISTORY_CHARS_MAX: usize = 2000;
/// A name is a DNS subdomain.
const NAME_MAX: usize = 253;

/// The same pods would come of both: the hash label and how a quantity is written do not count.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let (meta_a, meta_b) = (a.metadata.clone().unwrap_or_default(), b.metadata.clone().unwrap_or_default());
    let labels = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.remove(POD_TEMPLATE_HASH);
        labels
    };
    let annotations = meta_a.annotations.unwrap_or_default() == meta_b.annotations.unwrap_or_default();
    annotations
        && meta_a.finalizers.unwrap_or_default() == meta_b.finalizers.unwrap_or_default()
        && labels(meta_a.labels) == labels(meta_b.labels)
        && (a.spec == b.spec || same_json(&serde_json::json!(a.spec), &serde_json::json!(b.spec), ""))
}

/// Equal but for absent against empty, and `1` against `1000m` in resource lists.
fn same_json(a: &serde_json::Value, b: &serde_json::Value, field: &str) -> bool {
    use serde_json::Value;
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k)));
            let inner = |k: &str| {
                if matches!(k, "requests" | "limits" | "overhead" | "sizeLimit") { "quantity" } else { field }
            };
            let at = |fields: &serde_json::Map<String, Value>, k: &str| fields.get(k).cloned().unwrap_or_default();
            keys.into_iter().all(|k| same_json(&at(x, k), &at(y, k), inner(k)))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_json(x, y, field))
        }
        (Value::String(x), Value::String(y)) if field == "quantity" => {
            x == y || matches!((Quantity::parse(x), Quantity::parse(y)), (Ok(x), Ok(y)) if x == y)
        }
        _ => a == b || (empty(a) && empty(b)),
    }
}

/// A short hash of the template, different after each collision. Written with the letters of generated names.
pub fn template_hash(deployment: &Deployment) -> String {
    let template = serde_json::to_vec(&spec(deployment).template).unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    // FNV-1a, 32 bits.
    let salt = if collisions > 0 { collisions.to_le_bytes().to_vec() } else { Vec::new() };
    let hash = template
        .iter()
        .chain(&salt)
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect()
}

pub fn set_name(deployment: &Deployment) -> String {
    let hash = template_hash(deployment);
    let base = name(&deployment.metadata);
    let room = NAME_MAX - 1 - hash.len();
    format!("{}-{hash}", base.get(..room).unwrap_or(base))
}

/// 0 without the annotation; `None` when it is no number.
pub fn revision_of(set: &ReplicaSet) -> Option<i64> {
    annotation(&set.metadata, REVISION).map_or(Some(0), |r| r.parse().ok())
}

/// The annotations to set on the new ReplicaSet: the deployment's own and, when another set has been newer since, the
/// next revision with the old one kept in the history.
pub fn new_set_annotations(
    deployment: &Deployment,
    existing: Option<&ReplicaSet>,
    next_revision: i64,
) -> BTreeMap<String, String> {
    let old = existing.and_then(|s| s.metadata.annotations.as_ref());
    let current = |key: &str| old.and_then(|a| a.get(key));
    let mut changes: BTreeMap<String, String> = deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, value)| !NOT_COPIED.contains(&key.as_str()) && current(key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let own_revision = existing.map_or(Some(0), revision_of);
    if own_revision.is_some_and(|own| own < next_revision) {
        changes.insert(REVISION.into(), next_revision.to_string());
        if let Some(own) = current(REVISION) {
            let history = current(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
            changes.insert(REVISION_HISTORY.into(), append_history(history, own));
        }
    }
    changes
}

/// Drops the oldest revisions when the text would grow beyond its limit.
fn append_history(history: &str, revision: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    revisions.push(revision);
    while revisions.len() > 1 && revisions.iter().map(|r| r.len() + 1).sum::<usize>() - 1 > HISTORY_CHARS_MAX {
        revisions.remove(0);
    }
    revisions.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keeps_the_newest_within_its_limit() {
        assert_eq!(append_history("", "1"), "1");
        assert_eq!(append_history("1,3", "5"), "1,3,5");
        let long = (1000..1500).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let cut = append_history(&long, "2000");
        assert!(cut.len() <= HISTORY_CHARS_MAX && cut.ends_with(",1499,2000"), "{}", cut.len());
    }

    #[test]
    fn templates_are_compared_by_meaning() {
        let template = |text: &str| -> PodTemplateSpec { serde_json::from_str(text).unwrap() };
        let a = template(
            r#"{"metadata":{"labels":{"app":"a","pod-template-hash":"x"}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}},"env":[]}]}}"#,
        );
        let b = template(
            r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1000m"}}}]}}"#,
        );
        let c = template(
            r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"2"}}}]}}"#,
        );
        assert!(same_template(&a, &b) && same_template(&b, &a));
        assert!(!same_template(&a, &c));
    }
}
