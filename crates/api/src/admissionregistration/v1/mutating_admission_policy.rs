//! MutatingAdmissionPolicies.

use jiff::Timestamp;
use serde_json::Value;

use super::validating_admission_policy::matching_defaults;
use crate::Hooks;
use crate::object::{default as default_to, existing, get, items, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Mutations", "integer"), Column::new("ParamKind", "string"), Column::AGE],
    row,
    default,
    ..Hooks::GENERIC
};

fn default(policy: &mut Value) {
    let Some(spec) = policy.as_object_mut().and_then(|p| existing(p, "spec")) else { return };
    default_to(spec, "failurePolicy", "Fail");
    if let Some(matching) = existing(spec, "matchConstraints") {
        matching_defaults(matching);
    }
}

fn row(policy: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(policy, "spec");
    let kind = get(spec, "paramKind");
    let shown = if kind.is_null() {
        "<unset>".to_owned()
    } else {
        format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind"))
    };
    vec![name(policy).into(), items(spec, "mutations").len().into(), shown.into(), table::age(policy, now)]
}
