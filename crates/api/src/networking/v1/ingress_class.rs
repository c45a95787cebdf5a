//! IngressClasses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::apps::v1::workload::immutable;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{annotation, default as default_to, existing, get, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Controller", "string"), Column::new("Parameters", "string"), Column::AGE],
    row,
    default,
    validate,
    validate_update,
    ..Hooks::GENERIC
};

fn default(class: &mut Value) {
    let spec = class.as_object_mut().and_then(|c| existing(c, "spec"));
    if let Some(parameters) = spec.and_then(|s| existing(s, "parameters")) {
        default_to(parameters, "scope", "Cluster");
    }
}

fn validate(class: &Value) -> FieldErrors {
    let controller = text(get(class, "spec"), "controller");
    let mut out = Vec::new();
    if controller.is_empty() {
        out.push(FieldError::required("spec.controller", ""));
    } else if !controller.contains('/') {
        let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        out.push(FieldError::invalid("spec.controller", controller, message));
    }
    out
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    immutable(get(new, "spec"), get(old, "spec"), &["controller"], &Path::new("spec"), &mut out);
    out
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(class, "spec");
    let parameters = get(spec, "parameters");
    let shown = if parameters.is_null() {
        "<none>".to_owned()
    } else {
        let group = text(parameters, "apiGroup");
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
    };
    let is_default = annotation(class, "ingressclass.kubernetes.io/is-default-class") == Some("true");
    let suffix = if is_default { " (default)" } else { "" };
    vec![
        format!("{}{suffix}", name(class)).into(),
        text(spec, "controller").into(),
        shown.into(),
        table::age(class, now),
    ]
}
