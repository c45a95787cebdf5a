//! ValidatingAdmissionPolicyBindings.

use jiff::Timestamp;
use serde_json::Value;

use super::validating_admission_policy::matching_defaults;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors};
use crate::object::{existing, get, has, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("PolicyName", "string"), Column::new("ParamRef", "string"), Column::AGE],
    row,
    default,
    validate,
    ..Hooks::GENERIC
};

pub(super) fn default(binding: &mut Value) {
    let spec = binding.as_object_mut().and_then(|b| existing(b, "spec"));
    if let Some(matching) = spec.and_then(|s| existing(s, "matchResources")) {
        matching_defaults(matching);
    }
}

pub(super) fn validate(binding: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if text(get(binding, "spec"), "policyName").is_empty() {
        out.push(FieldError::required("spec.policyName", ""));
    }
    out
}

pub(super) fn row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(binding, "spec");
    let reference = get(spec, "paramRef");
    let shown = match (text(reference, "name"), text(reference, "namespace")) {
        ("", _) if has(reference, "selector") => table::selector(get(reference, "selector")),
        ("", _) => "<unset>".into(),
        (param, "") => format!("*/{param}").into(),
        (param, namespace) => format!("{namespace}/{param}").into(),
    };
    vec![name(binding).into(), text(spec, "policyName").into(), shown, table::age(binding, now)]
}
