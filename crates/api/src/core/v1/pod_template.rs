//! PodTemplates.

use jiff::Timestamp;
use serde_json::Value;

use super::pod_spec::{self, defaults};
use crate::Hooks;
use crate::field::{FieldErrors, Path};
use crate::object::{at, existing, get, name};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Containers", "string"),
        Column::new("Images", "string"),
        Column::new("Pod Labels", "string"),
    ],
    row,
    default,
    validate,
    generation_of: Some(|t| get(t, "template").clone()),
    create_on_update: true,
    ..Hooks::PLAIN
};

fn default(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|t| existing(t, "template")).and_then(|t| existing(t, "spec")) {
        defaults::pod_spec(spec);
    }
}

fn validate(object: &Value) -> FieldErrors {
    let mut out = Vec::new();
    pod_spec::validate_template(get(object, "template"), &Path::new("template"), &mut out);
    out
}

fn row(object: &Value, _: Timestamp) -> Vec<Value> {
    let template = get(object, "template");
    let [names, images] = table::containers_and_images(get(template, "spec"));
    vec![name(object).into(), names, images, table::labels(at(template, &["metadata", "labels"]))]
}
