//! Security contexts.

use serde_json::Value;

use super::validate::{one_of, one_of_if_set};
use super::volumes::descending_path;
use crate::field::{FieldError, FieldErrors, Path};
use crate::names;
use crate::object::{flag, get, has, int, items, text};

fn id(number: i64, at: &Path<'_>, out: &mut FieldErrors) {
    if !(0..=i64::from(i32::MAX)).contains(&number) {
        out.push(FieldError::invalid(at, number, names::in_range(0, i64::from(i32::MAX))));
    }
}

fn ids(context: &Value, keys: &[&str], at: &Path<'_>, out: &mut FieldErrors) {
    for key in keys {
        if let Some(number) = int(context, key) {
            id(number, &at.child(key), out);
        }
    }
}

fn seccomp(context: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let profile = get(context, "seccompProfile");
    if profile.is_null() {
        return;
    }
    let at = at.child("seccompProfile");
    one_of(profile, "type", &["Localhost", "RuntimeDefault", "Unconfined"], &at, out);
    let at_file = at.child("localhostProfile");
    match (text(profile, "type") == "Localhost", get(profile, "localhostProfile").as_str()) {
        (true, None) => out.push(FieldError::required(&at_file, "must be set when seccomp type is Localhost")),
        (true, Some(path)) => descending_path(path, &at_file, out),
        (false, Some(_)) => {
            let message = "can only be set when seccomp type is Localhost";
            out.push(FieldError::invalid(&at_file, profile.clone(), message));
        }
        (false, None) => {}
    }
}

pub(super) fn pod(context: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if context.is_null() {
        return;
    }
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], at, out);
    for (i, group) in items(context, "supplementalGroups").iter().enumerate() {
        id(group.as_i64().unwrap_or(-1), &at.child("supplementalGroups").index(i), out);
    }
    one_of_if_set(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], at, out);
    one_of_if_set(context, "supplementalGroupsPolicy", &["Merge", "Strict"], at, out);
    seccomp(context, at, out);
}

pub(super) fn container(context: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if context.is_null() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], at, out);
    one_of_if_set(context, "procMount", &["Default", "Unmasked"], at, out);
    seccomp(context, at, out);
    if get(context, "allowPrivilegeEscalation").as_bool() == Some(false) {
        if flag(context, "privileged") {
            let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            out.push(FieldError::invalid(at, context.clone(), message));
        }
        let added = items(get(context, "capabilities"), "add");
        if has(context, "capabilities") && added.iter().any(|c| c == "CAP_SYS_ADMIN") {
            let message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            out.push(FieldError::invalid(at, context.clone(), message));
        }
    }
}
