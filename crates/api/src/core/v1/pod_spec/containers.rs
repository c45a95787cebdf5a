//! Containers, init containers and ephemeral containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::validate::{Context, one_of, one_of_if_set};
use super::{env, probes, resources, security};
use crate::field::{ErrorType, FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{flag, get, has, int, items, text};

pub(super) fn validate_all(spec: &Value, context: &Context<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    let containers = items(spec, "containers");
    let at_containers = at.child("containers");
    if containers.is_empty() {
        out.push(FieldError::required(&at_containers, ""));
    }
    let mut host_ports = BTreeSet::new();
    for (i, c) in containers.iter().enumerate() {
        let at = at_containers.index(i);
        common(c, context, &at, out);
        unique_name(c, &mut seen, &at, out);
        handlers(c, context, &at, out);
        restart_policy(c, &at, out);
        unique_host_ports(c, &mut host_ports, &at, out);
    }
    let at_init = at.child("initContainers");
    for (i, c) in items(spec, "initContainers").iter().enumerate() {
        let at = at_init.index(i);
        common(c, context, &at, out);
        restart_policy(c, &at, out);
        unique_name(c, &mut seen, &at, out);
        unique_host_ports(c, &mut BTreeSet::new(), &at, out);
        if text(c, "restartPolicy") == "Always" {
            handlers(c, context, &at, out);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(c, key) {
                    let message = "may not be set for init containers without restartPolicy=Always";
                    out.push(FieldError::forbidden(&at.child(key), message));
                }
            }
        }
    }
    ephemeral(spec, seen, context, at, out);
}

fn ephemeral<'v>(
    spec: &'v Value,
    mut seen: BTreeSet<&'v str>,
    context: &Context<'_>,
    at: &Path<'_>,
    out: &mut FieldErrors,
) {
    let targets = seen.clone();
    let at_ephemeral = at.child("ephemeralContainers");
    for (i, c) in items(spec, "ephemeralContainers").iter().enumerate() {
        let at = at_ephemeral.index(i);
        common(c, context, &at, out);
        unique_name(c, &mut seen, &at, out);
        let target = text(c, "targetContainerName");
        if !target.is_empty() && !targets.contains(target) {
            out.push(FieldError::not_found(&at.child("targetContainerName"), target));
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "ports"] {
            if has(c, key) {
                out.push(FieldError::forbidden(&at.child(key), "cannot be set for an Ephemeral Container"));
            }
        }
        if !same_as_empty(get(c, "resources")) {
            out.push(FieldError::forbidden(&at.child("resources"), "cannot be set for an Ephemeral Container"));
        }
    }
}

fn same_as_empty(v: &Value) -> bool {
    crate::object::same(v, &Value::Null)
}

fn common(c: &Value, context: &Context<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    match text(c, "name") {
        "" => out.push(FieldError::required(&at.child("name"), "")),
        name => invalid_each(out, &at.child("name"), name, names::dns_label(name)),
    }
    let image = text(c, "image");
    if image.is_empty() {
        out.push(FieldError::required(&at.child("image"), ""));
    } else if image.trim() != image {
        out.push(FieldError::invalid(&at.child("image"), image, "must not have leading or trailing whitespace"));
    }
    one_of(c, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], at, out);
    ports(items(c, "ports"), &at.child("ports"), out);
    env::variables(items(c, "env"), &at.child("env"), out);
    env::sources(items(c, "envFrom"), &at.child("envFrom"), out);
    mounts(c, context, &at.child("volumeMounts"), out);
    devices(c, context, &at.child("volumeDevices"), out);
    one_of(c, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], at, out);
    resources::requirements(get(c, "resources"), &at.child("resources"), out);
    security::container(get(c, "securityContext"), &at.child("securityContext"), out);
}

fn unique_name<'v>(c: &'v Value, seen: &mut BTreeSet<&'v str>, at: &Path<'_>, out: &mut FieldErrors) {
    let name = text(c, "name");
    if !name.is_empty() && !seen.insert(name) {
        out.push(FieldError::duplicate(&at.child("name"), name));
    }
}

fn handlers(c: &Value, context: &Context<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    if has(c, "lifecycle") {
        for key in ["postStart", "preStop"] {
            let handler = get(get(c, "lifecycle"), key);
            if !handler.is_null() {
                probes::handler(handler, context.grace_seconds, &at.child("lifecycle").child(key), out);
            }
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probes::probe(get(c, key), key, context.grace_seconds, &at.child(key), out);
    }
}

fn restart_policy(c: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let rules = items(c, "restartPolicyRules");
    if !rules.is_empty() && !has(c, "restartPolicy") {
        let message = "must specify restartPolicy when restart rules are used";
        out.push(FieldError::required(&at.child("restartPolicy"), message));
    }
    one_of_if_set(c, "restartPolicy", &["Always", "Never", "OnFailure"], at, out);
    let at = at.child("restartPolicyRules");
    if rules.len() > 20 {
        out.push(FieldError::new(ErrorType::TooMany, &at, rules.len(), "must have at most 20 items"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        one_of(rule, "action", &["Restart", "RestartAllContainers"], &at, out);
        if has(rule, "exitCodes") {
            one_of(get(rule, "exitCodes"), "operator", &["In", "NotIn"], &at.child("exitCodes"), out);
        } else {
            out.push(FieldError::required(&at.child("exitCodes"), "must be specified"));
        }
    }
}

fn ports(ports: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                invalid_each(out, &at.child("name"), name, messages);
            } else if !seen.insert(name) {
                out.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => out.push(FieldError::required(&at.child("containerPort"), "")),
            number => port_number(number, &at.child("containerPort"), out),
        }
        if let Some(number) = int(port, "hostPort").filter(|n| *n != 0) {
            port_number(number, &at.child("hostPort"), out);
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &at, out);
    }
}

pub(super) fn port_number(number: i64, at: &Path<'_>, out: &mut FieldErrors) {
    out.extend(names::port_number(number).into_iter().map(|m| FieldError::invalid(at, number, m)));
}

fn unique_host_ports(c: &Value, seen: &mut BTreeSet<String>, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, port) in items(c, "ports").iter().enumerate() {
        let Some(number) = int(port, "hostPort").filter(|n| *n != 0) else { continue };
        let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if seen.contains(&key) {
            out.push(FieldError::duplicate(&at.child("ports").index(i).child("hostPort"), key));
        } else {
            seen.insert(key);
        }
    }
}

fn mounts(c: &Value, context: &Context<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, mount) in items(c, "volumeMounts").iter().enumerate() {
        let here = at.index(i);
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            out.push(FieldError::required(&here.child("name"), ""));
        }
        if !context.volumes.contains(name) {
            out.push(FieldError::not_found(&here.child("name"), name));
        }
        if path.is_empty() {
            out.push(FieldError::required(&here.child("mountPath"), ""));
        }
        if !seen.insert(path) {
            out.push(FieldError::invalid(&here.child("mountPath"), path, "must be unique"));
        }
        let sub_path = text(mount, "subPath");
        super::volumes::descending_path(sub_path, &at.child("subPath"), out);
        let expression = text(mount, "subPathExpr");
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let message = "subPathExpr and subPath are mutually exclusive";
                out.push(FieldError::invalid(&here.child("subPathExpr"), expression, message));
            }
            super::volumes::descending_path(expression, &at.child("subPathExpr"), out);
        }
        one_of_if_set(mount, "mountPropagation", &["Bidirectional", "HostToContainer", "None"], at, out);
        if text(mount, "mountPropagation") == "Bidirectional" && !flag(get(c, "securityContext"), "privileged") {
            out.push(FieldError::forbidden(
                &at.child("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
}

fn devices(c: &Value, context: &Context<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, device) in items(c, "volumeDevices").iter().enumerate() {
        let at = at.index(i);
        let name = text(device, "name");
        if name.is_empty() {
            out.push(FieldError::required(&at.child("name"), ""));
        } else if !context.volumes.contains(name) {
            out.push(FieldError::not_found(&at.child("name"), name));
        }
        if text(device, "devicePath").is_empty() {
            out.push(FieldError::required(&at.child("devicePath"), ""));
        }
    }
}
