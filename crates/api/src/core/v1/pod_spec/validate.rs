//! A whole pod spec: which part is checked where, and the fields that are simple values.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{containers, resources, scheduling, security, volumes};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{flag, get, has, int, items, text};
use crate::selector::validate_labels;

/// Whose pod spec it is: templates are given some freedom that pods are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Pod,
    Template,
}

/// What the parts of a spec need to know of the others.
pub(super) struct Context<'v> {
    pub volumes: BTreeSet<&'v str>,
    pub grace_seconds: Option<i64>,
}

/// `spec.template` of a workload: labels, annotations and spec.
pub fn validate_template(template: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let metadata = get(template, "metadata");
    let at_metadata = at.child("metadata");
    if let Some(labels) = get(metadata, "labels").as_object() {
        validate_labels(labels, &at_metadata.child("labels"), out);
    }
    if let Some(annotations) = get(metadata, "annotations").as_object() {
        for key in annotations.keys() {
            // Upstream lets upper case through here.
            let messages = names::qualified_name(&key.to_lowercase());
            invalid_each(out, &at_metadata.child("annotations"), key, messages);
        }
    }
    let spec = get(template, "spec");
    validate(spec, Owner::Template, &at.child("spec"), out);
    if !items(spec, "ephemeralContainers").is_empty() {
        out.push(FieldError::forbidden(
            &at.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

pub fn validate(spec: &Value, owner: Owner, at: &Path<'_>, out: &mut FieldErrors) {
    let names = volumes::validate(items(spec, "volumes"), &at.child("volumes"), out);
    let context = Context { volumes: names, grace_seconds: int(spec, "terminationGracePeriodSeconds") };
    containers::validate_all(spec, &context, at, out);
    host_network_ports(spec, owner, at, out);
    enums(spec, at, out);
    if let Some(labels) = get(spec, "nodeSelector").as_object() {
        validate_labels(labels, &at.child("nodeSelector"), out);
    }
    security::pod(get(spec, "securityContext"), &at.child("securityContext"), out);
    host_namespaces(spec, at, out);
    scheduling::validate_affinity(get(spec, "affinity"), &at.child("affinity"), out);
    dns_config(spec, at, out);
    gates(spec, at, out);
    scheduling::validate_spread(items(spec, "topologySpreadConstraints"), &at.child("topologySpreadConstraints"), out);
    simple_names(spec, at, out);
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let message = names::in_range(1, i64::from(i32::MAX));
        out.push(FieldError::invalid(&at.child("activeDeadlineSeconds"), seconds, message));
    }
    scheduling::validate_tolerations(items(spec, "tolerations"), &at.child("tolerations"), out);
    host_aliases(spec, at, out);
    if let Some(overhead) = get(spec, "overhead").as_object() {
        resources::validate_resource_list(overhead, &at.child("overhead"), out);
    }
    if let Some(seconds) = context.grace_seconds.filter(|s| *s < 0 && owner == Owner::Pod) {
        let at = at.child("terminationGracePeriodSeconds");
        out.push(FieldError::invalid(&at, seconds, "must be greater than or equal to 0"));
    }
}

/// A field that must have one of some values; empty is `required`.
pub(crate) fn one_of(v: &Value, key: &str, supported: &[&str], at: &Path<'_>, out: &mut FieldErrors) {
    match text(v, key) {
        "" => out.push(FieldError::required(&at.child(key), "")),
        value if supported.contains(&value) => {}
        value => out.push(FieldError::not_supported(&at.child(key), value, supported)),
    }
}

/// As [`one_of`], of a field that may be left out.
pub(crate) fn one_of_if_set(v: &Value, key: &str, supported: &[&str], at: &Path<'_>, out: &mut FieldErrors) {
    if let Some(value) = get(v, key).as_str()
        && !supported.contains(&value)
    {
        out.push(FieldError::not_supported(&at.child(key), value, supported));
    }
}

fn enums(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], at, out);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], at, out);
    one_of_if_set(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], at, out);
    if has(spec, "os") {
        one_of(get(spec, "os"), "name", &["linux", "windows"], &at.child("os"), out);
    }
}

fn host_namespaces(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let message = "ShareProcessNamespace and HostPID cannot both be enabled";
        out.push(FieldError::invalid(&at.child("shareProcessNamespace"), true, message));
    }
    if get(spec, "hostUsers").as_bool() == Some(false) {
        for (key, path) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if flag(spec, key) {
                out.push(FieldError::forbidden(&at.child(path), "when `hostUsers` is false"));
            }
        }
    }
}

fn host_network_ports(spec: &Value, owner: Owner, at: &Path<'_>, out: &mut FieldErrors) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let at = at.child("containers");
    for (i, c) in items(spec, "containers").iter().enumerate() {
        for (j, port) in items(c, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or(0);
            if (owner == Owner::Pod || host != 0) && host != int(port, "containerPort").unwrap_or(0) {
                out.push(FieldError::invalid(
                    &at.index(i).child("ports").index(j).child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

fn simple_names(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (key, rule) in rules {
        let value = text(spec, key);
        if !value.is_empty() {
            invalid_each(out, &at.child(key), value, rule(value));
        }
    }
}

fn dns_config(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let config = get(spec, "dnsConfig");
    let at = at.child("dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            return out.push(FieldError::required(&at, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        if items(config, "nameservers").is_empty() {
            return out.push(FieldError::required(
                &at.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ));
        }
    }
    let (servers, searches) = (items(config, "nameservers"), items(config, "searches"));
    if servers.len() > 3 {
        let message = "must not have more than 3 nameservers";
        out.push(FieldError::invalid(&at.child("nameservers"), servers.to_vec(), message));
    }
    for (i, server) in servers.iter().enumerate() {
        ip_address(server.as_str().unwrap_or_default(), &at.child("nameservers").index(i), out);
    }
    if searches.len() > 32 {
        let message = "must not have more than 32 search paths";
        out.push(FieldError::invalid(&at.child("searches"), searches.to_vec(), message));
    }
    for (i, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            out.push(FieldError::required(&at.child("options").index(i), "must not be empty"));
        }
    }
}

pub(crate) fn ip_address(value: &str, at: &Path<'_>, out: &mut FieldErrors) {
    if value.parse::<std::net::IpAddr>().is_err() {
        out.push(FieldError::invalid(at, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
}

fn gates(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, gate) in items(spec, "readinessGates").iter().enumerate() {
        let condition = text(gate, "conditionType");
        let at = at.child("readinessGates");
        invalid_each(out, &at.index(i).child("conditionType"), condition, names::qualified_name(condition));
    }
    let mut seen = BTreeSet::new();
    for (i, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        let at = at.child("schedulingGates");
        invalid_each(out, &at.index(i), name, names::qualified_name(name));
        if !seen.insert(name) {
            out.push(FieldError::duplicate(&at.index(i), name));
        }
    }
}

fn host_aliases(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, alias) in items(spec, "hostAliases").iter().enumerate() {
        let at = at.child("hostAliases");
        ip_address(text(alias, "ip"), &at.index(i).child("ip"), out);
        for (j, host) in items(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            invalid_each(out, &at.index(i).child("hostnames").index(j), host, names::dns_subdomain(host));
        }
    }
}
