//! Services. Cluster addresses and node ports are given out by the API server, which alone knows what is taken.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod_spec::{ip_address, one_of, one_of_if_set, port};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{
    Object, default as default_to, default_nonzero, default_object, each, get, has, int, items, keep_status, name,
    object, same, text,
};
use crate::selector::validate_labels;
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::new("Type", "string").about("How the service is reached."),
        Column::new("Cluster-IP", "string").about("Its address within the cluster."),
        Column::new("External-IP", "string").about("Its addresses outside the cluster."),
        Column::new("Port(s)", "string").about("Port, node port and protocol."),
        Column::AGE,
        Column::new("Selector", "string").about("Labels of the pods behind it.").wide(),
    ],
    row,
    fields: |service| {
        let spec = get(service, "spec");
        vec![("spec.clusterIP", text(spec, "clusterIP").to_owned()), ("spec.type", text(spec, "type").to_owned())]
    },
    field_labels: &["spec.clusterIP", "spec.type"],
    create_on_update: true,
    ..Hooks::PLAIN
};

fn default(service: &mut Value) {
    let Some(spec) = object(service, "spec") else { return };
    default_to(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP") => {
            let timeout = spec.get("sessionAffinityConfig").map(|c| &c["clientIP"]["timeoutSeconds"]);
            if timeout.is_none_or(Value::is_null) {
                spec.insert("sessionAffinityConfig".to_owned(), json!({ "clientIP": { "timeoutSeconds": 10800 } }));
            }
        }
        _ => {}
    }
    default_to(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        default_to(port, "protocol", "TCP");
        let unset = port.get("targetPort").is_none_or(|t| t.is_null() || t == "" || t.as_i64() == Some(0));
        if let Some(number) = port.get("port").cloned().filter(|_| unset) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    by_type(spec);
}

fn by_type(spec: &mut Object) {
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if is_external(&kind, external_ips) {
        default_to(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        default_to(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn is_external(kind: &str, external_ips: bool) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips)
}

fn prepare_create(service: &mut Value) {
    if let Some(map) = service.as_object_mut() {
        map.remove("status");
    }
    if let Some(status) = object(service, "status") {
        default_object(status, "loadBalancer");
    }
    if let Some(spec) = object(service, "spec") {
        list_cluster_ip(spec);
    }
}

/// The first of `clusterIPs` is `clusterIP`; older clients know only the latter.
fn list_cluster_ip(spec: &mut Object) {
    let Some(ip) = spec.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(str::to_owned) else {
        return;
    };
    if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}

/// What the API server gave out stays with a service that is written without it, as long as its type has a use for it.
fn prepare_update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    let old_spec = get(old, "spec");
    let Some(spec) = object(new, "spec") else { return };
    let types =
        [spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(), text(old_spec, "type").to_owned()];
    let unset = |spec: &Object, key: &str| match spec.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        Some(_) => false,
    };
    let external_name = types.iter().any(|t| t == "ExternalName");
    if !external_name && unset(spec, "clusterIP") && unset(spec, "clusterIPs") {
        for key in ["clusterIP", "clusterIPs"] {
            if has(old_spec, key) {
                spec.insert(key.to_owned(), get(old_spec, key).clone());
            }
        }
    }
    if !external_name {
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if unset(spec, key) && has(old_spec, key) {
                spec.insert(key.to_owned(), get(old_spec, key).clone());
            }
        }
    }
    if types.iter().all(|t| matches!(t.as_str(), "NodePort" | "LoadBalancer")) {
        let key = |number: Option<i64>, protocol: &str| (number, protocol.to_owned());
        for port in each(spec, "ports") {
            let wanted = key(
                port.get("port").and_then(Value::as_i64),
                port.get("protocol").and_then(Value::as_str).unwrap_or_default(),
            );
            let given = items(old_spec, "ports").iter().find(|p| key(int(p, "port"), text(p, "protocol")) == wanted);
            if let Some(number) = given.and_then(|p| int(p, "nodePort")) {
                default_nonzero(port, "nodePort", number);
            }
        }
    }
    list_cluster_ip(spec);
}

fn is_headless(spec: &Value) -> bool {
    text(spec, "clusterIP") == "None" || items(spec, "clusterIPs").first().is_some_and(|ip| ip == "None")
}

fn validate(service: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(service, "spec");
    let at = Path::new("spec");
    let kind = text(spec, "type");
    if items(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        out.push(FieldError::required(&at.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let message = format!("may not be set to 'None' for {kind} services");
            out.push(FieldError::invalid(&at.child("clusterIPs").index(0), "None", message));
        }
        "ExternalName" => external_name(spec, &at, &mut out),
        _ => {}
    }
    ports(spec, &at, &mut out);
    if let Some(labels) = get(spec, "selector").as_object() {
        validate_labels(labels, &at.child("selector"), &mut out);
    }
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], &at, &mut out);
    one_of_if_set(spec, "internalTrafficPolicy", &["Cluster", "Local"], &at, &mut out);
    addresses(spec, &at, &mut out);
    one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &at, &mut out);
    let external_ips = !items(spec, "externalIPs").is_empty();
    if is_external(kind, external_ips) {
        one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], &at, &mut out);
    } else if has(spec, "externalTrafficPolicy") {
        out.push(FieldError::invalid(
            &at.child("externalTrafficPolicy"),
            text(spec, "externalTrafficPolicy"),
            "may only be set for externally-accessible services",
        ));
    }
    if kind != "LoadBalancer" {
        for (key, path) in [
            ("loadBalancerSourceRanges", "LoadBalancerSourceRanges"),
            ("allocateLoadBalancerNodePorts", "allocateLoadBalancerNodePorts"),
            ("loadBalancerClass", "loadBalancerClass"),
        ] {
            if has(spec, key) && !same(get(spec, key), &Value::Null) {
                out.push(FieldError::forbidden(&at.child(path), "may only be used when `type` is 'LoadBalancer'"));
            }
        }
    }
    out
}

fn external_name(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !same(get(spec, key), &Value::Null) {
            out.push(FieldError::forbidden(&at.child(key), "may not be set for ExternalName services"));
        }
    }
    match text(spec, "externalName").trim_end_matches('.') {
        "" => out.push(FieldError::required(&at.child("externalName"), "")),
        host => invalid_each(out, &at.child("externalName"), host, names::dns_subdomain(host)),
    }
}

fn ports(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let list = items(spec, "ports");
    let at_ports = at.child("ports");
    let (mut names_seen, mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, p) in list.iter().enumerate() {
        let at = at_ports.index(i);
        let port_name = text(p, "name");
        if port_name.is_empty() {
            if list.len() > 1 {
                out.push(FieldError::required(&at.child("name"), ""));
            }
        } else {
            invalid_each(out, &at.child("name"), port_name, names::dns_label(port_name));
            if !names_seen.insert(port_name) {
                out.push(FieldError::duplicate(&at.child("name"), port_name));
            }
        }
        port(&int(p, "port").unwrap_or(0).into(), &at.child("port"), out);
        one_of(p, "protocol", &["SCTP", "TCP", "UDP"], &at, out);
        port(get(p, "targetPort"), &at.child("targetPort"), out);
        if let Some(protocol) = get(p, "appProtocol").as_str() {
            invalid_each(out, &at.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
        if let Some(node_port) = int(p, "nodePort").filter(|n| *n != 0) {
            if text(spec, "type") == "ClusterIP" {
                let message = "may not be used when `type` is 'ClusterIP'";
                out.push(FieldError::forbidden(&at.child("nodePort"), message));
            }
            if !node_ports.insert((text(p, "protocol"), node_port)) {
                out.push(FieldError::duplicate(&at.child("nodePort"), node_port));
            }
        }
        if !numbers.insert((text(p, "protocol"), int(p, "port"))) {
            let key = json!({ "port": get(p, "port"), "protocol": text(p, "protocol") });
            out.push(FieldError::duplicate(&at, key));
        }
    }
}

fn addresses(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for (i, ip) in items(spec, "clusterIPs").iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        if i == 0 && ip != text(spec, "clusterIP") && !text(spec, "clusterIP").is_empty() {
            let message = "first value must match `clusterIP`";
            out.push(FieldError::invalid(&at.child("clusterIPs"), get(spec, "clusterIPs").clone(), message));
        }
        if ip != "None" {
            ip_address(ip, &at.child("clusterIPs").index(i), out);
        }
    }
    let ip = text(spec, "clusterIP");
    if !matches!(ip, "" | "None") && items(spec, "clusterIPs").is_empty() {
        ip_address(ip, &at.child("clusterIPs").index(0), out);
    }
    for (i, ip) in items(spec, "externalIPs").iter().enumerate() {
        ip_address(ip.as_str().unwrap_or_default(), &at.child("externalIPs").index(i), out);
    }
    one_of_if_set(spec, "ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"], at, out);
    for (i, family) in items(spec, "ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or_default();
        if !matches!(family, "IPv4" | "IPv6") {
            let at = at.child("ipFamilies");
            out.push(FieldError::not_supported(&at.index(i), family, &["IPv4", "IPv6"]));
        }
    }
}

/// The cluster address stays as long as the service has one.
fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    let (ip, old_ip) = (text(spec, "clusterIP"), text(old_spec, "clusterIP"));
    let released = text(spec, "type") == "ExternalName" || text(old_spec, "type") == "ExternalName";
    if !released && !old_ip.is_empty() && ip != old_ip {
        let at = Path::new("spec");
        let first = at.child("clusterIPs");
        if items(spec, "clusterIPs").is_empty() {
            out.push(FieldError::invalid(
                &first,
                get(spec, "clusterIPs").clone(),
                "primary clusterIP can not be unset",
            ));
        } else {
            out.push(FieldError::invalid(&first.index(0), ip, "may not change once set"));
        }
    }
    out
}

fn external_ip(service: &Value) -> Value {
    let spec = get(service, "spec");
    let texts = |list: &[Value]| list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>();
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => table::or_none(&texts(items(spec, "externalIPs")).join(",")),
        "LoadBalancer" => {
            let ingress = items(get(get(service, "status"), "loadBalancer"), "ingress");
            let mut all: Vec<String> = ingress
                .iter()
                .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") }.to_owned())
                .collect();
            all.extend(texts(items(spec, "externalIPs")));
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        "ExternalName" => text(spec, "externalName").into(),
        _ => "<unknown>".into(),
    }
}

fn row(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(service, "spec");
    let ports: Vec<String> = items(spec, "ports")
        .iter()
        .map(|p| {
            let (number, protocol) = (int(p, "port").unwrap_or(0), text(p, "protocol"));
            match int(p, "nodePort").filter(|n| *n > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let first = items(spec, "clusterIPs").first().and_then(Value::as_str);
    vec![
        name(service).into(),
        text(spec, "type").into(),
        table::or_none(first.unwrap_or_else(|| text(spec, "clusterIP"))),
        external_ip(service),
        table::or_none(&ports.join(",")),
        table::age(service, now),
        table::labels(get(spec, "selector")),
    ]
}
