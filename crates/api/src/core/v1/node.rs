//! Nodes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::pod_spec::{defaults, validate_resource_list, validate_taints};
use super::pod_status::condition;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{at, entries, existing, flag, get, has, items, keep_status, name, same, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    columns: &[
        Column::NAME,
        Column::new("Status", "string").about("Whether it is ready, and closed to new pods."),
        Column::new("Roles", "string").about("From its node-role labels."),
        Column::AGE,
        Column::new("Version", "string").about("Of its kubelet."),
        Column::new("Internal-IP", "string").wide(),
        Column::new("External-IP", "string").wide(),
        Column::new("OS-Image", "string").wide(),
        Column::new("Kernel-Version", "string").wide(),
        Column::new("Container-Runtime", "string").wide(),
    ],
    row,
    fields: |node| vec![("spec.unschedulable", flag(get(node, "spec"), "unschedulable").to_string())],
    field_labels: &["spec.unschedulable"],
    ..Hooks::PLAIN
};

/// What can be allocated is all there is, until the node says otherwise.
fn default(node: &mut Value) {
    let Some(status) = node.as_object_mut().and_then(|n| existing(n, "status")) else { return };
    for key in ["capacity", "allocatable"] {
        if let Some(list) = existing(status, key) {
            defaults::resource_list(list);
        }
    }
    if status.get("allocatable").is_none_or(Value::is_null)
        && let Some(capacity) = status.get("capacity").filter(|c| !c.is_null()).cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

fn validate(node: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let metadata = Path::new("metadata");
    validate_taints(items(get(node, "spec"), "taints"), &metadata.child("taints"), &mut out);
    resources(node, &mut out);
    let spec = Path::new("spec");
    for (i, cidr) in items(get(node, "spec"), "podCIDRs").iter().enumerate() {
        let cidr = cidr.as_str().unwrap_or_default();
        if !is_cidr(cidr) {
            let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid(&spec.child("podCIDRs").index(i), cidr, message));
        }
    }
    out
}

pub(crate) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    bits.parse::<u8>().is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 })
}

fn resources(node: &Value, out: &mut FieldErrors) {
    let status = Path::new("status");
    for key in ["capacity", "allocatable"] {
        if let Some(list) = at(node, &["status", key]).as_object() {
            validate_resource_list(list, &status.child(key), out);
        }
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    let at = Path::new("spec");
    if !items(old_spec, "podCIDRs").is_empty() && !same(get(spec, "podCIDRs"), get(old_spec, "podCIDRs")) {
        let message = "node updates may not change podCIDR except from \"\" to valid";
        out.push(FieldError::forbidden(&at.child("podCIDRs"), message));
    }
    let (id, old_id) = (text(spec, "providerID"), text(old_spec, "providerID"));
    if !old_id.is_empty() && id != old_id {
        let what = if id.is_empty() { "cleared" } else { "modified" };
        let message = format!("field cannot be {what} once set");
        out.push(FieldError::invalid(&at.child("providerID"), Value::Null, message));
    }
    out
}

fn validate_status(new: &Value, _: &Value) -> FieldErrors {
    let mut out = Vec::new();
    resources(new, &mut out);
    let mut seen = BTreeSet::new();
    let status = Path::new("status");
    for (i, address) in items(get(new, "status"), "addresses").iter().enumerate() {
        if !seen.insert((text(address, "type"), text(address, "address"))) {
            out.push(FieldError::duplicate(&status.child("addresses").index(i), address.clone()));
        }
    }
    out
}

fn roles(node: &Value) -> String {
    const PREFIX: &str = "node-role.kubernetes.io/";
    let roles: BTreeSet<&str> = entries(get(node, "metadata"), "labels")
        .filter_map(|(key, value)| match key.strip_prefix(PREFIX) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn row(node: &Value, now: Timestamp) -> Vec<Value> {
    let status = get(node, "status");
    let mut shown = match condition(status, "Ready").map(|c| text(c, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if flag(get(node, "spec"), "unschedulable") {
        shown.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = items(status, "addresses").iter().find(|a| text(a, "type") == kind);
        table::or_none(found.map(|a| text(a, "address")).unwrap_or_default())
    };
    let info = get(status, "nodeInfo");
    let known = |key: &str| if has(info, key) { text(info, key).to_owned() } else { "<unknown>".to_owned() };
    let mut kernel = known("kernelVersion");
    if !text(info, "architecture").is_empty() {
        kernel.push_str(&format!(" ({})", text(info, "architecture")));
    }
    vec![
        name(node).into(),
        shown.into(),
        table::or_none(&roles(node)),
        table::age(node, now),
        text(info, "kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}
