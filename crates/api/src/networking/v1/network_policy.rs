//! NetworkPolicies.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::core::v1::node::is_cidr;
use crate::core::v1::pod_spec::{one_of_if_set, port};
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{default as default_to, each, existing, get, has, int, items, name, text};
use crate::selector::validate_selector;
use crate::table::{self, Column};
use serde_json::json;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Pod-Selector", "string").about("Labels of the pods that it is about."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    ..Hooks::GENERIC
};

fn default(policy: &mut Value) {
    let Some(spec) = policy.as_object_mut().and_then(|p| existing(p, "spec")) else { return };
    let no_types = spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if no_types && !spec.get("policyTypes").is_some_and(|t| !t.is_null() && !t.is_array()) {
        let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|e| !e.is_empty());
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            each(rule, "ports").for_each(|port| default_to(port, "protocol", "TCP"));
        }
    }
}

fn validate(policy: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(policy, "spec");
    let at = Path::new("spec");
    validate_selector(get(spec, "podSelector"), &at.child("podSelector"), &mut out);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = at.child(direction);
        for (i, rule) in items(spec, direction).iter().enumerate() {
            let at = rules.index(i);
            for (j, port) in items(rule, "ports").iter().enumerate() {
                validate_port(port, &at.child("ports").index(j), &mut out);
            }
            for (j, peer) in items(rule, peers).iter().enumerate() {
                validate_peer(peer, &at.child(peers).index(j), &mut out);
            }
        }
    }
    let types = items(spec, "policyTypes");
    if types.len() > 2 {
        let message = "may not specify more than two policyTypes";
        out.push(FieldError::invalid(&at.child("policyTypes"), types.to_vec(), message));
        return out;
    }
    for (i, kind) in types.iter().map(|t| t.as_str().unwrap_or_default()).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            let at = at.child("policyTypes");
            out.push(FieldError::not_supported(&at.index(i), kind, &["Ingress", "Egress"]));
        }
    }
    out
}

fn validate_port(p: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    one_of_if_set(p, "protocol", &["TCP", "UDP", "SCTP"], at, out);
    let number = get(p, "port");
    if !number.is_null() {
        port(number, &at.child("port"), out);
    }
    let Some(end) = int(p, "endPort") else { return };
    let at_end = at.child("endPort");
    match number {
        Value::Null => out.push(FieldError::invalid(&at_end, end, "may not be specified when `port` is not specified")),
        Value::String(_) => {
            out.push(FieldError::invalid(&at_end, end, "may not be specified when `port` is non-numeric"));
        }
        start => {
            if start.as_i64().is_some_and(|s| end < s) {
                out.push(FieldError::invalid(&at_end, end, "must be greater than or equal to `port`"));
            }
            port(&end.into(), &at_end, out);
        }
    }
}

fn validate_peer(peer: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let selectors = ["podSelector", "namespaceSelector"];
    for key in selectors {
        validate_selector(get(peer, key), &at.child(key), out);
    }
    let selected = selectors.iter().any(|k| has(peer, k));
    let block = get(peer, "ipBlock");
    if !block.is_null() {
        let at = at.child("ipBlock");
        let cidr = text(block, "cidr");
        if cidr.is_empty() {
            out.push(FieldError::required(&at.child("cidr"), ""));
        } else if !is_cidr(cidr) {
            let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid(&at.child("cidr"), cidr, message));
        }
    }
    match (selected, block.is_null()) {
        (false, true) => out.push(FieldError::required(at, "must specify a peer")),
        (true, false) => out.push(FieldError::forbidden(at, "may not specify both ipBlock and another peer")),
        _ => {}
    }
}

fn row(policy: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(policy).into(), table::selector(get(get(policy, "spec"), "podSelector")), table::age(policy, now)]
}
