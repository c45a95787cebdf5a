//! EndpointSlices.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::core::v1::endpoints::some_of;
use crate::core::v1::pod_spec::{ip_address, one_of};
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{default as default_to, each, get, has, int, items, name, text};
use crate::table::{self, Column};
use serde_json::json;
use std::collections::BTreeSet;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("AddressType", "string"),
        Column::new("Ports", "string"),
        Column::new("Endpoints", "string"),
        Column::AGE,
    ],
    row,
    default,
    validate,
    validate_update,
    generation_of: Some(|s| json!([get(s, "endpoints"), get(s, "ports"), get(s, "addressType")])),
    ..Hooks::PLAIN
};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
/// How many are listed before the rest is counted.
const SHOWN: usize = 3;

fn default(slice: &mut Value) {
    let Some(slice) = slice.as_object_mut() else { return };
    for port in each(slice, "ports") {
        if port.get("name").is_none_or(Value::is_null) {
            port.insert("name".to_owned(), "".into());
        }
        default_to(port, "protocol", "TCP");
    }
}

fn validate(slice: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let root = Path::new("addressType");
    let kind = text(slice, "addressType");
    if kind.is_empty() {
        out.push(FieldError::required(&root, ""));
    } else if !matches!(kind, "FQDN" | "IPv4" | "IPv6") {
        out.push(FieldError::not_supported(&root, kind, &["FQDN", "IPv4", "IPv6"]));
    }
    let endpoints = items(slice, "endpoints");
    let list = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        out.push(FieldError::too_many(&list, endpoints.len(), ENDPOINTS_MAX));
        return out;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let at = list.index(i);
        validate_endpoint(endpoint, kind, &at, &mut out);
    }
    validate_ports(items(slice, "ports"), &mut out);
    out
}

fn validate_endpoint(endpoint: &Value, kind: &str, at: &Path<'_>, out: &mut FieldErrors) {
    let addresses = items(endpoint, "addresses");
    let at_addresses = at.child("addresses");
    if addresses.is_empty() {
        out.push(FieldError::required(&at_addresses, "must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        out.push(FieldError::too_many(&at_addresses, addresses.len(), ADDRESSES_MAX));
    }
    for (i, address) in addresses.iter().map(|a| a.as_str().unwrap_or_default()).enumerate() {
        let at = at_addresses.index(i);
        match kind {
            "FQDN" => invalid_each(out, &at, address, names::dns_subdomain(address)),
            _ => match address.parse::<std::net::IpAddr>() {
                Err(_) => ip_address(address, &at, out),
                Ok(ip) if ip.is_ipv4() != (kind == "IPv4") && matches!(kind, "IPv4" | "IPv6") => {
                    out.push(FieldError::invalid(&at, address, format!("must be an {kind} address")));
                }
                Ok(_) => {}
            },
        }
    }
    let host = text(endpoint, "hostname");
    if !host.is_empty() {
        invalid_each(out, &at.child("hostname"), host, names::dns_label(host));
    }
}

fn validate_ports(ports: &[Value], out: &mut FieldErrors) {
    let list = Path::new("ports");
    if ports.len() > PORTS_MAX {
        return out.push(FieldError::too_many(&list, ports.len(), PORTS_MAX));
    }
    let mut seen = BTreeSet::new();
    for (i, p) in ports.iter().enumerate() {
        let at = list.index(i);
        let port_name = text(p, "name");
        if !port_name.is_empty() {
            invalid_each(out, &at.child("name"), port_name, names::dns_label(port_name));
        }
        if !seen.insert(port_name) {
            out.push(FieldError::duplicate(&at.child("name"), port_name));
        }
        one_of(p, "protocol", &["SCTP", "TCP", "UDP"], &at, out);
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if text(new, "addressType") != text(old, "addressType") {
        out.push(FieldError::immutable("addressType", text(new, "addressType")));
    }
    out
}

fn row(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = items(slice, "ports")
        .iter()
        .map(|p| match int(p, "port") {
            Some(number) => number.to_string(),
            None if has(p, "name") => text(p, "name").to_owned(),
            None => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = items(slice, "endpoints")
        .iter()
        .flat_map(|e| items(e, "addresses"))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let shown = |all: &[String]| match some_of(all, SHOWN) {
        none if none.is_empty() => "<unset>".to_owned(),
        some => some,
    };
    vec![
        name(slice).into(),
        text(slice, "addressType").into(),
        shown(&ports).into(),
        shown(&addresses).into(),
        table::age(slice, now),
    ]
}
