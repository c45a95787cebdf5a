//! ClusterRoles.

use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{get, has, items, name};
use crate::selector::validate_selector;
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Created At", "date")],
    row,
    validate,
    create_on_update: true,
    ..Hooks::PLAIN
};

fn validate(role: &Value) -> FieldErrors {
    let mut out = Vec::new();
    rules::validate(items(role, "rules"), false, &mut out);
    if has(role, "aggregationRule") {
        let rule = Path::new("aggregationRule");
        let at = rule.child("clusterRoleSelectors");
        let selectors = items(get(role, "aggregationRule"), "clusterRoleSelectors");
        if selectors.is_empty() {
            let message = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            out.push(FieldError::required(&at, message));
        }
        for (i, selector) in selectors.iter().enumerate() {
            validate_selector(selector, &at.index(i), &mut out);
        }
    }
    out
}

fn row(role: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(role).into(), get(get(role, "metadata"), "creationTimestamp").clone()]
}
