//! PersistentVolumeClaims.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod_spec::{defaults, one_of_if_set, validate_resource_list};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{annotation, at, existing, get, has, items, keep_status, name, same, text};
use crate::quantity::Quantity;
use crate::selector::validate_selector;
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::new("Status", "string").about("Whether it has its volume."),
        Column::new("Volume", "string").about("The volume that it is bound to."),
        Column::new("Capacity", "string").about("The size of that volume."),
        Column::new("Access Modes", "string").about("How the volume may be mounted."),
        Column::new("StorageClass", "string").about("The class that it asks for."),
        Column::new("VolumeAttributesClass", "string").about("The attributes that it asks for."),
        Column::AGE,
        Column::new("VolumeMode", "string").wide(),
    ],
    row,
    ..Hooks::PLAIN
};

pub(crate) const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn default(claim: &mut Value) {
    if let Some(spec) = claim.as_object_mut().and_then(|c| existing(c, "spec")) {
        defaults::claim_spec(spec);
    }
}

fn prepare_create(claim: &mut Value) {
    if let Some(map) = claim.as_object_mut() {
        map.insert("status".to_owned(), json!({ "phase": "Pending" }));
    }
}

fn validate(claim: &Value) -> FieldErrors {
    let mut out = Vec::new();
    validate_spec(get(claim, "spec"), &Path::new("spec"), &mut out);
    out
}

/// Of a claim, and of a StatefulSet's claim template.
pub(crate) fn validate_spec(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let modes = items(spec, "accessModes");
    let at_modes = at.child("accessModes");
    if modes.is_empty() {
        out.push(FieldError::required(&at_modes, "at least 1 access mode is required"));
    }
    for mode in modes.iter().map(|m| m.as_str().unwrap_or_default()) {
        if !ACCESS_MODES.contains(&mode) {
            out.push(FieldError::not_supported(&at_modes, mode, &ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        let message = "may not use ReadWriteOncePod with other access modes";
        out.push(FieldError::forbidden(&at_modes, message));
    }
    if has(spec, "selector") {
        validate_selector(get(spec, "selector"), &at.child("selector"), out);
    }
    let resources = at.child("resources");
    let at_size = resources.child("requests");
    match crate::object::at(spec, &["resources", "requests", "storage"]) {
        Value::Null => out.push(FieldError::required(&at_size.key("storage"), "")),
        size => match Quantity::from_json(size) {
            Ok(q) if q <= Quantity::ZERO => {
                let message = "must be greater than zero";
                out.push(FieldError::invalid(&at_size.key("storage"), q.to_string(), message));
            }
            _ => {
                if let Some(list) = crate::object::at(spec, &["resources", "requests"]).as_object() {
                    validate_resource_list(list, &at_size, out);
                }
            }
        },
    }
    one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], at, out);
}

/// A claim may grow and be bound; nothing else of it changes.
fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    let mut expected = old_spec.clone();
    let size = at(spec, &["resources", "requests", "storage"]);
    let old_size = at(old_spec, &["resources", "requests", "storage"]);
    if let Some(map) = expected.as_object_mut() {
        if text(old_spec, "volumeName").is_empty() {
            map.insert("volumeName".to_owned(), get(spec, "volumeName").clone());
        }
        for key in ["volumeAttributesClassName", "resources"] {
            map.insert(key.to_owned(), get(spec, key).clone());
        }
    }
    if !same(spec, &expected) {
        let message = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                       bound claims";
        out.push(FieldError::forbidden("spec", message));
    }
    if let (Ok(size), Ok(old_size)) = (Quantity::from_json(size), Quantity::from_json(old_size)) {
        let (resources, phase) = ("spec.resources.requests.storage", text(get(old, "status"), "phase"));
        if size < old_size {
            out.push(FieldError::forbidden(resources, "field can not be less than previous value"));
        } else if size != old_size && phase != "Bound" {
            out.push(FieldError::forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"));
        }
    }
    out
}

/// `RWO,ROX`, in upstream's order.
pub(crate) fn short_modes(modes: &[Value]) -> String {
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")]
        .iter()
        .filter(|(long, _)| modes.iter().any(|m| m == long))
        .map(|(_, short)| *short)
        .collect::<Vec<_>>()
        .join(",")
}

pub(crate) fn or_unset(v: &Value) -> Value {
    v.as_str().unwrap_or("<unset>").into()
}

/// By the field, or by the annotation that came before it.
pub(crate) fn class(object: &Value) -> Value {
    let old = annotation(object, "volume.beta.kubernetes.io/storage-class");
    old.unwrap_or_else(|| text(get(object, "spec"), "storageClassName")).into()
}

fn row(claim: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(claim, "spec"), get(claim, "status"));
    let volume = text(spec, "volumeName");
    let deleted = has(get(claim, "metadata"), "deletionTimestamp");
    let (mut capacity, mut modes) = (String::new(), String::new());
    if !volume.is_empty() {
        let size = at(status, &["capacity", "storage"]);
        capacity = Quantity::from_json(size).map_or_else(|_| "0".to_owned(), |q| q.to_string());
        modes = short_modes(items(status, "accessModes"));
    }
    vec![
        name(claim).into(),
        if deleted { "Terminating".into() } else { text(status, "phase").into() },
        volume.into(),
        capacity.into(),
        modes.into(),
        class(claim),
        or_unset(get(spec, "volumeAttributesClassName")),
        table::age(claim, now),
        or_unset(get(spec, "volumeMode")),
    ]
}
