//! Affinity, tolerations, taints, and spreading.

use std::collections::BTreeSet;

use serde_json::Value;

use super::validate::{one_of, one_of_if_set};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, has, int, items, text};
use crate::selector::validate_selector;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const BAD_OPERATOR: &str = "not a valid selector operator";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn validate_tolerations(tolerations: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = at.index(i);
        let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|k| text(toleration, k));
        let at_operator = at.child("operator");
        if !key.is_empty() {
            invalid_each(out, &at.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            out.push(FieldError::invalid(
                &at_operator,
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let message = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            out.push(FieldError::invalid(&at.child("effect"), effect, message));
        }
        match operator {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    out.push(FieldError::invalid(&at_operator, value, messages.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let message = "value must be empty when `operator` is 'Exists'";
                out.push(FieldError::invalid(&at_operator, value, message));
            }
            "Exists" => {}
            other => out.push(FieldError::not_supported(&at_operator, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            out.push(FieldError::not_supported(&at.child("effect"), effect, &EFFECTS));
        }
    }
}

/// A node's taints.
pub fn validate_taints(taints: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let at = at.index(i);
        let [key, value, effect] = ["key", "value", "effect"].map(|k| text(taint, k));
        invalid_each(out, &at.child("key"), key, names::qualified_name(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            out.push(FieldError::invalid(&at.child("value"), value, messages.join(";")));
        }
        one_of(taint, "effect", &EFFECTS, &at, out);
        if !seen.insert((effect, key)) {
            let mut error = FieldError::duplicate(&at, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            out.push(error);
        }
    }
}

pub(super) fn validate_affinity(affinity: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let node = get(affinity, "nodeAffinity");
    if !node.is_null() {
        let at = at.child("nodeAffinity");
        if has(node, REQUIRED) {
            validate_node_selector(get(node, REQUIRED), &at.child(REQUIRED), out);
        }
        for (i, preferred) in items(node, PREFERRED).iter().enumerate() {
            let preferences = at.child(PREFERRED);
            let at = preferences.index(i);
            weight(preferred, &at, out);
            node_selector_term(get(preferred, "preference"), &at.child("preference"), out);
        }
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let pods = get(affinity, key);
        let at = at.child(key);
        for (i, term) in items(pods, REQUIRED).iter().enumerate() {
            pod_affinity_term(term, &at.child(REQUIRED).index(i), out);
        }
        for (i, preferred) in items(pods, PREFERRED).iter().enumerate() {
            let preferences = at.child(PREFERRED);
            let at = preferences.index(i);
            weight(preferred, &at, out);
            pod_affinity_term(get(preferred, "podAffinityTerm"), &at.child("podAffinityTerm"), out);
        }
    }
}

fn weight(preferred: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let weight = int(preferred, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        out.push(FieldError::invalid(&at.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// Of a required node affinity, and of a volume.
pub fn validate_node_selector(selector: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let at = at.child("nodeSelectorTerms");
    let terms = items(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        out.push(FieldError::required(&at, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(term, &at.index(i), out);
    }
}

fn node_selector_term(term: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, requirement) in items(term, "matchExpressions").iter().enumerate() {
        node_requirement(requirement, &at.child("matchExpressions").index(i), out);
    }
    for (i, requirement) in items(term, "matchFields").iter().enumerate() {
        let fields = at.child("matchFields");
        let at = fields.index(i);
        match text(requirement, "operator") {
            "In" | "NotIn" if items(requirement, "values").len() != 1 => out.push(FieldError::required(
                &at.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            "In" | "NotIn" => {}
            other => out.push(FieldError::invalid(&at.child("operator"), other, BAD_OPERATOR)),
        }
        let key = text(requirement, "key");
        if key != "metadata.name" {
            out.push(FieldError::invalid(&at.child("key"), key, "not a valid field selector key"));
        }
    }
}

fn node_requirement(requirement: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let values = items(requirement, "values");
    let at_values = at.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            out.push(FieldError::required(&at_values, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            out.push(FieldError::forbidden(&at_values, message));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let message = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            out.push(FieldError::required(&at_values, message));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => out.push(FieldError::invalid(&at.child("operator"), other, BAD_OPERATOR)),
    }
    let key = text(requirement, "key");
    invalid_each(out, &at.child("key"), key, names::qualified_name(key));
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        invalid_each(out, &at_values.index(i), value, names::label_value(value));
    }
}

fn pod_affinity_term(term: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for key in ["labelSelector", "namespaceSelector"] {
        if has(term, key) {
            validate_selector(get(term, key), &at.child(key), out);
        }
    }
    for namespace in items(term, "namespaces") {
        let name = namespace.as_str().unwrap_or_default();
        invalid_each(out, &at.child("namespace"), name, names::dns_label(name));
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        out.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
    }
    invalid_each(out, &at.child("topologyKey"), key, names::qualified_name(key));
}

pub(super) fn validate_spread(constraints: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    let pair = |c| (text(c, "topologyKey"), text(c, "whenUnsatisfiable"));
    for (i, constraint) in constraints.iter().enumerate() {
        let at = at.index(i);
        let skew = int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            out.push(FieldError::invalid(&at.child("maxSkew"), skew, "must be greater than zero"));
        }
        let (key, action) = pair(constraint);
        if key.is_empty() {
            out.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        }
        const ACTIONS: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
        if !ACTIONS.contains(&action) {
            out.push(FieldError::not_supported(&at.child("whenUnsatisfiable"), action, &ACTIONS));
        }
        if constraints[i + 1..].iter().any(|other| pair(other) == (key, action)) {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            out.push(FieldError::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let at = at.child("minDomains");
            if domains <= 0 {
                out.push(FieldError::invalid(&at, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let message = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                out.push(FieldError::invalid(&at, domains, message));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of_if_set(constraint, key, &["Honor", "Ignore"], &at, out);
        }
        if has(constraint, "labelSelector") {
            validate_selector(get(constraint, "labelSelector"), &at.child("labelSelector"), out);
        }
    }
}
