//! ValidatingAdmissionPolicies.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{
    Object, child, default as default_to, drop_status, each, existing, get, items, keep_status, name, text,
};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Validations", "integer"), Column::new("ParamKind", "string"), Column::AGE],
    row,
    default,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::GENERIC
};

fn default(policy: &mut Value) {
    let Some(spec) = policy.as_object_mut().and_then(|p| existing(p, "spec")) else { return };
    default_to(spec, "failurePolicy", "Fail");
    if let Some(matching) = existing(spec, "matchConstraints") {
        matching_defaults(matching);
    }
}

/// Of a policy's constraints and a binding's resources.
pub(super) fn matching_defaults(matching: &mut Object) {
    default_to(matching, "matchPolicy", "Equivalent");
    for key in ["namespaceSelector", "objectSelector"] {
        let _ = child(matching, key);
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        each(matching, key).for_each(|rule| default_to(rule, "scope", "*"));
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
    vec![name(policy).into(), items(spec, "validations").len().into(), shown.into(), table::age(policy, now)]
}
