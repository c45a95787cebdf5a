//! StorageClasses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{annotation, default as default_to, flag, get, name, same, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Provisioner", "string"),
        Column::new("ReclaimPolicy", "string"),
        Column::new("VolumeBindingMode", "string"),
        Column::new("AllowVolumeExpansion", "string"),
        Column::AGE,
    ],
    row,
    default,
    validate,
    validate_update,
    ..Hooks::PLAIN
};

fn default(class: &mut Value) {
    if let Some(class) = class.as_object_mut() {
        default_to(class, "reclaimPolicy", "Delete");
        default_to(class, "volumeBindingMode", "Immediate");
    }
}

fn validate(class: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let provisioner = text(class, "provisioner");
    if provisioner.is_empty() {
        out.push(FieldError::required("provisioner", ""));
    } else {
        let lower = provisioner.to_lowercase();
        invalid_each(&mut out, &Path::new("provisioner"), provisioner, names::qualified_name(&lower));
    }
    for (key, supported) in [
        ("reclaimPolicy", &["Delete", "Retain"][..]),
        ("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"][..]),
    ] {
        let value = text(class, key);
        if !supported.contains(&value) {
            out.push(FieldError::not_supported(key, value, supported));
        }
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same(get(new, key), get(old, key)) {
            out.push(FieldError::forbidden(key, format!("updates to {key} are forbidden.")));
        }
    }
    if !same(get(new, "volumeBindingMode"), get(old, "volumeBindingMode")) {
        out.push(FieldError::immutable("volumeBindingMode", get(new, "volumeBindingMode").clone()));
    }
    out
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = annotation(class, "storageclass.kubernetes.io/is-default-class") == Some("true");
    let suffix = if is_default { " (default)" } else { "" };
    vec![
        format!("{}{suffix}", name(class)).into(),
        text(class, "provisioner").into(),
        get(class, "reclaimPolicy").as_str().unwrap_or("Delete").into(),
        get(class, "volumeBindingMode").as_str().unwrap_or("Immediate").into(),
        flag(class, "allowVolumeExpansion").into(),
        table::age(class, now),
    ]
}
