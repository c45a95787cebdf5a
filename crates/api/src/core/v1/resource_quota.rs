//! ResourceQuotas.

use jiff::Timestamp;
use serde_json::Value;

use super::pod_spec::{defaults, validate_resource_list};
use crate::Hooks;
use crate::apps::v1::workload::immutable;
use crate::field::{FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{drop_status, entries, existing, get, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Request", "string").about("Used, of what may be requested."),
        Column::new("Limit", "string").about("Used, of what limits may add up to."),
        Column::AGE,
    ],
    row,
    default,
    prepare_create: drop_status,
    prepare_update: keep_status,
    validate,
    validate_update,
    ..Hooks::PLAIN
};

fn default(quota: &mut Value) {
    let Some(quota) = quota.as_object_mut() else { return };
    for (part, lists) in [("spec", &["hard"][..]), ("status", &["hard", "used"][..])] {
        for list in lists {
            if let Some(list) = existing(quota, part).and_then(|p| existing(p, list)) {
                defaults::resource_list(list);
            }
        }
    }
}

fn validate(quota: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = Path::new("spec");
    let at = spec.child("hard");
    if let Some(hard) = get(get(quota, "spec"), "hard").as_object() {
        for resource in hard.keys() {
            invalid_each(&mut out, &at.key(resource), resource, names::qualified_name(resource));
        }
        validate_resource_list(hard, &at, &mut out);
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    immutable(get(new, "spec"), get(old, "spec"), &["scopes"], &Path::new("spec"), &mut out);
    out
}

fn row(quota: &Value, now: Timestamp) -> Vec<Value> {
    let status = get(quota, "status");
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in entries(status, "hard") {
        let used = text(get(status, "used"), resource);
        let used = if used.is_empty() { "0" } else { used };
        let cell = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(cell) } else { requests.push(cell) }
    }
    vec![name(quota).into(), requests.join(", ").into(), limits.join(", ").into(), table::age(quota, now)]
}
