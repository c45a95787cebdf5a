//! What roles say and bindings bind, whether of a namespace or of the cluster.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{child, default, each, get, items, name, same, text};
use crate::table::{self, Column};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate(rules: &[Value], namespaced: bool, out: &mut FieldErrors) {
    let list = Path::new("rules");
    for (i, rule) in rules.iter().enumerate() {
        let at = list.index(i);
        let empty = |key: &str| items(rule, key).is_empty();
        if empty("verbs") {
            out.push(FieldError::required(&at.child("verbs"), "verbs must contain at least one value"));
        }
        let urls = items(rule, "nonResourceURLs");
        if urls.is_empty() {
            if empty("apiGroups") {
                let message = "resource rules must supply at least one api group";
                out.push(FieldError::required(&at.child("apiGroups"), message));
            }
            if empty("resources") {
                let message = "resource rules must supply at least one resource";
                out.push(FieldError::required(&at.child("resources"), message));
            }
            continue;
        }
        let at = at.child("nonResourceURLs");
        if namespaced {
            let message = "namespaced rules cannot apply to non-resource URLs";
            out.push(FieldError::invalid(&at, urls.to_vec(), message));
        }
        if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
            let message = "rules cannot apply to both regular resources and non-resource URLs";
            out.push(FieldError::invalid(&at, urls.to_vec(), message));
        }
    }
}

pub(super) fn default_binding(binding: &mut Value) {
    let Some(binding) = binding.as_object_mut() else { return };
    if let Some(role) = child(binding, "roleRef") {
        default(role, "apiGroup", GROUP);
    }
    for subject in each(binding, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            default(subject, "apiGroup", GROUP);
        }
    }
}

pub(super) fn validate_binding(binding: &Value, roles: &[&str], namespaced: bool) -> FieldErrors {
    let mut out = Vec::new();
    let role = get(binding, "roleRef");
    let at = Path::new("roleRef");
    let (group, kind, role_name) = (text(role, "apiGroup"), text(role, "kind"), text(role, "name"));
    if group != GROUP {
        out.push(FieldError::not_supported(&at.child("apiGroup"), group, &[GROUP]));
    }
    if !roles.contains(&kind) {
        out.push(FieldError::not_supported(&at.child("kind"), kind, roles));
    }
    if role_name.is_empty() {
        out.push(FieldError::required(&at.child("name"), ""));
    }
    invalid_each(&mut out, &at.child("name"), role_name, names::path_segment(role_name));
    let list = Path::new("subjects");
    for (i, subject) in items(binding, "subjects").iter().enumerate() {
        validate_subject(subject, namespaced, &list.index(i), &mut out);
    }
    out
}

fn validate_subject(subject: &Value, namespaced: bool, at: &Path<'_>, out: &mut FieldErrors) {
    let (subject_name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if subject_name.is_empty() {
        out.push(FieldError::required(&at.child("name"), ""));
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !subject_name.is_empty() {
                invalid_each(out, &at.child("name"), subject_name, names::dns_subdomain(subject_name));
            }
            if !group.is_empty() {
                out.push(FieldError::not_supported(&at.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                out.push(FieldError::required(&at.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                out.push(FieldError::not_supported(&at.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let supported = ["ServiceAccount", "User", "Group"];
            out.push(FieldError::not_supported(&at.child("kind"), other, &supported));
        }
    }
}

/// Whom a binding binds may change, to which role may not.
pub(super) fn validate_binding_update(new: &Value, old: &Value) -> FieldErrors {
    let role = get(new, "roleRef");
    if same(role, get(old, "roleRef")) {
        return Vec::new();
    }
    vec![FieldError::invalid("roleRef", role.clone(), "cannot change roleRef")]
}

pub(super) const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new("Role", "string").about("The role that it gives."),
    Column::AGE,
    Column::new("Users", "string").wide(),
    Column::new("Groups", "string").wide(),
    Column::new("ServiceAccounts", "string").wide(),
];

pub(super) fn binding_row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = get(binding, "roleRef");
    let of = |kind: &'static str| items(binding, "subjects").iter().filter(move |s| text(s, "kind") == kind);
    let names = |kind| of(kind).map(|s| text(s, "name")).collect::<Vec<_>>().join(", ");
    let accounts: Vec<String> =
        of("ServiceAccount").map(|s| format!("{}/{}", text(s, "namespace"), text(s, "name"))).collect();
    vec![
        name(binding).into(),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        table::age(binding, now),
        names("User").into(),
        names("Group").into(),
        accounts.join(", ").into(),
    ]
}
