//! RuntimeClasses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::core::v1::pod_spec::{validate_resource_list, validate_tolerations};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, items, name, text};
use crate::selector::validate_labels;
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Handler", "string"), Column::AGE],
    row,
    validate,
    validate_update,
    create_on_update: true,
    unconditional_update: false,
    ..Hooks::PLAIN
};

fn validate(class: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let handler = text(class, "handler");
    invalid_each(&mut out, &Path::new("handler"), handler, names::dns_label(handler));
    let fixed = Path::new("overhead");
    if let Some(list) = get(get(class, "overhead"), "podFixed").as_object() {
        validate_resource_list(list, &fixed.child("podFixed"), &mut out);
    }
    let scheduling = get(class, "scheduling");
    let at = Path::new("scheduling");
    if let Some(labels) = get(scheduling, "nodeSelector").as_object() {
        validate_labels(labels, &at.child("nodeSelector"), &mut out);
    }
    validate_tolerations(items(scheduling, "tolerations"), &at.child("tolerations"), &mut out);
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if text(new, "handler") != text(old, "handler") {
        out.push(FieldError::immutable("handler", text(new, "handler")));
    }
    out
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(class).into(), text(class, "handler").into(), table::age(class, now)]
}
