//! PersistentVolumes.

use jiff::Timestamp;
use serde_json::Value;

use super::persistent_volume_claim::{ACCESS_MODES, class, or_unset, short_modes};
use super::pod_spec::{defaults, one_of_if_set, validate_node_selector, validate_resource_list};
use crate::Hooks;
use crate::apps::v1::workload::immutable;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{default as default_to, entries, existing, get, has, items, keep_status, name, text};
use crate::table::{self, Column};
use serde_json::json;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Capacity", "string"),
        Column::new("Access Modes", "string"),
        Column::new("Reclaim Policy", "string"),
        Column::new("Status", "string"),
        Column::new("Claim", "string"),
        Column::new("StorageClass", "string"),
        Column::new("VolumeAttributesClass", "string"),
        Column::new("Reason", "string"),
        Column::AGE,
        Column::new("VolumeMode", "string").wide(),
    ],
    row,
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    ..Hooks::PLAIN
};

/// Members of a spec that are not sources.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn default(volume: &mut Value) {
    let Some(spec) = volume.as_object_mut().and_then(|v| existing(v, "spec")) else { return };
    default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_to(spec, "volumeMode", "Filesystem");
    if let Some(capacity) = existing(spec, "capacity") {
        defaults::resource_list(capacity);
    }
    if let Some(host) = existing(spec, "hostPath")
        && host.get("type").is_none_or(Value::is_null)
    {
        host.insert("type".to_owned(), "".into());
    }
}

fn prepare_create(volume: &mut Value) {
    if let Some(map) = volume.as_object_mut() {
        map.insert("status".to_owned(), json!({ "phase": "Pending" }));
    }
}

fn validate(volume: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(volume, "spec");
    let at = Path::new("spec");
    let modes = items(spec, "accessModes");
    if modes.is_empty() {
        out.push(FieldError::required(&at.child("accessModes"), ""));
    }
    for mode in modes.iter().map(|m| m.as_str().unwrap_or_default()) {
        if !ACCESS_MODES.contains(&mode) {
            out.push(FieldError::not_supported(&at.child("accessModes"), mode, &ACCESS_MODES));
        }
    }
    match get(spec, "capacity").as_object().filter(|c| !c.is_empty()) {
        None => out.push(FieldError::required(&at.child("capacity"), "")),
        Some(capacity) if capacity.len() != 1 || !capacity.contains_key("storage") => {
            out.push(FieldError::not_supported(&at.child("capacity"), Value::Object(capacity.clone()), &["storage"]))
        }
        Some(capacity) => validate_resource_list(capacity, &at.child("capacity"), &mut out),
    }
    one_of_if_set(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &at, &mut out);
    one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], &at, &mut out);
    let affinity = get(get(spec, "nodeAffinity"), "required");
    if !affinity.is_null() {
        validate_node_selector(affinity, &at.child("nodeAffinity").child("required"), &mut out);
    }
    let sources: Vec<&str> =
        entries(volume, "spec").filter(|(k, v)| !v.is_null() && !NOT_SOURCES.contains(k)).map(|(k, _)| k).collect();
    match sources[..] {
        [] => out.push(FieldError::required(&at, "must specify a volume type")),
        ["local"] if affinity.is_null() => {
            out.push(FieldError::required(&at.child("nodeAffinity"), "Local volume requires node affinity"));
        }
        [_] => {}
        [_, ref more @ ..] => {
            for key in more {
                out.push(FieldError::forbidden(&at.child(key), "may not specify more than 1 volume type"));
            }
        }
    }
    out
}

/// What is behind a volume may not change.
fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let source = |v| entries(v, "spec").filter(|(k, _)| !NOT_SOURCES.contains(k)).collect::<Vec<_>>();
    if source(new) != source(old) {
        let message = "spec.persistentvolumesource is immutable after creation";
        out.push(FieldError::forbidden("spec.persistentvolumesource", message));
    }
    immutable(get(new, "spec"), get(old, "spec"), &["volumeMode"], &Path::new("spec"), &mut out);
    out
}

fn row(volume: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(volume, "spec"), get(volume, "status"));
    let claim = get(spec, "claimRef");
    let claim =
        if claim.is_null() { String::new() } else { format!("{}/{}", text(claim, "namespace"), text(claim, "name")) };
    let deleted = has(get(volume, "metadata"), "deletionTimestamp");
    let size = get(get(spec, "capacity"), "storage");
    vec![
        name(volume).into(),
        size.as_str().unwrap_or("0").into(),
        short_modes(items(spec, "accessModes")).into(),
        text(spec, "persistentVolumeReclaimPolicy").into(),
        if deleted { "Terminating".into() } else { text(status, "phase").into() },
        claim.into(),
        class(volume),
        or_unset(get(spec, "volumeAttributesClassName")),
        text(status, "reason").into(),
        table::age(volume, now),
        or_unset(get(spec, "volumeMode")),
    ]
}
