//! Ingresses.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, has, int, items, keep_status, name, text};
use crate::table::{self, Column};
use serde_json::json;
use std::collections::BTreeSet;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Class", "string"),
        Column::new("Hosts", "string"),
        Column::new("Address", "string"),
        Column::new("Ports", "string"),
        Column::AGE,
    ],
    row,
    prepare_create,
    prepare_update: keep_status,
    validate,
    ..Hooks::GENERIC
};

fn prepare_create(ingress: &mut Value) {
    if let Some(map) = ingress.as_object_mut() {
        map.insert("status".to_owned(), json!({ "loadBalancer": {} }));
    }
}

fn validate(ingress: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(ingress, "spec");
    let at = Path::new("spec");
    let rules = items(spec, "rules");
    if rules.is_empty() && !has(spec, "defaultBackend") {
        let message = "either `defaultBackend` or `rules` must be specified";
        out.push(FieldError::invalid(&at, get(spec, "rules").clone(), message));
    }
    if has(spec, "defaultBackend") {
        backend(get(spec, "defaultBackend"), &at.child("defaultBackend"), &mut out);
    }
    let at_rules = at.child("rules");
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, &at_rules.index(i), &mut out);
    }
    for (i, tls) in items(spec, "tls").iter().enumerate() {
        for (j, host) in items(tls, "hosts").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            let messages =
                if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns_subdomain(host) };
            invalid_each(&mut out, &at.child("tls").index(i).child("hosts").index(j), host, messages);
        }
    }
    let class = text(spec, "ingressClassName");
    if !class.is_empty() {
        invalid_each(&mut out, &at.child("ingressClassName"), class, names::dns_subdomain(class));
    }
    out
}

fn validate_rule(rule: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let host = text(rule, "host");
    let at_host = at.child("host");
    if host.parse::<std::net::IpAddr>().is_ok() {
        out.push(FieldError::invalid(&at_host, host, "must be a DNS name, not an IP address"));
    }
    if host.contains('*') {
        invalid_each(out, &at_host, host, names::wildcard_subdomain(host));
    } else if !host.is_empty() {
        invalid_each(out, &at_host, host, names::dns_subdomain(host));
    }
    if !has(rule, "http") {
        return;
    }
    let paths = items(get(rule, "http"), "paths");
    let http = at.child("http");
    let at_paths = http.child("paths");
    if paths.is_empty() {
        out.push(FieldError::required(&at_paths, ""));
    }
    for (i, path) in paths.iter().enumerate() {
        validate_path(path, &at_paths.index(i), out);
    }
}

fn validate_path(path: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let value = text(path, "path");
    let relative = !value.starts_with('/');
    match text(path, "pathType") {
        "" => return out.push(FieldError::required(&at.child("pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if relative {
                out.push(FieldError::invalid(&at.child("path"), value, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(bad) {
                    out.push(FieldError::invalid(&at.child("path"), value, format!("must not contain '{bad}'")));
                }
            }
            for bad in ["/..", "/."] {
                if value.ends_with(bad) {
                    out.push(FieldError::invalid(&at.child("path"), value, format!("cannot end with '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if relative && !value.is_empty() {
                out.push(FieldError::invalid(&at.child("path"), value, "must be an absolute path"));
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            out.push(FieldError::not_supported(&at.child("pathType"), other, &supported));
        }
    }
    backend(get(path, "backend"), &at.child("backend"), out);
}

fn backend(backend: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    match (has(backend, "resource"), has(backend, "service")) {
        (true, true) => out.push(FieldError::invalid(at, "", "cannot set both resource and service backends")),
        (false, false) => out.push(FieldError::invalid(at, "", "resource or service backend is required")),
        (true, false) => {
            for key in ["kind", "name"] {
                if text(get(backend, "resource"), key).is_empty() {
                    out.push(FieldError::required(&at.child("resource").child(key), ""));
                }
            }
        }
        (false, true) => {
            let service = get(backend, "service");
            let at_service = at.child("service");
            match text(service, "name") {
                "" => out.push(FieldError::required(&at_service.child("name"), "")),
                host => invalid_each(out, &at_service.child("name"), host, names::dns_1035_label(host)),
            }
            let port = get(service, "port");
            let at_port = at_service.child("port");
            match (text(port, "name"), int(port, "number").unwrap_or(0)) {
                ("", 0) => out.push(FieldError::required(at, "port name or number is required")),
                ("", number) => {
                    let messages = names::port_number(number).into_iter();
                    out.extend(messages.map(|m| FieldError::invalid(&at_port.child("number"), number, m)));
                }
                (port_name, 0) => invalid_each(out, &at_port.child("name"), port_name, names::port_name(port_name)),
                _ => out.push(FieldError::invalid(at, "", "cannot set both port name & port number")),
            }
        }
    }
}

fn row(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(ingress, "spec");
    let rules = items(spec, "rules");
    let hosts: Vec<&str> = rules.iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).take(3).collect();
    let more = rules.len().saturating_sub(3);
    let hosts = match (hosts.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, 0) => hosts.join(","),
        (false, more) => format!("{} + {more} more...", hosts.join(",")),
    };
    let addresses: BTreeSet<&str> = items(get(get(ingress, "status"), "loadBalancer"), "ingress")
        .iter()
        .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
        .collect();
    vec![
        name(ingress).into(),
        table::or_none(text(spec, "ingressClassName")),
        hosts.into(),
        addresses.into_iter().collect::<Vec<_>>().join(",").into(),
        if items(spec, "tls").is_empty() { "80".into() } else { "80, 443".into() },
        table::age(ingress, now),
    ]
}
