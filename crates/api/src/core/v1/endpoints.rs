//! Endpoints: what EndpointSlices were before they were slices.

use jiff::Timestamp;
use serde_json::Value;

use super::pod_spec::{ip_address, one_of, port};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{default as default_to, each, int, items, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("Endpoints", "string").about("Addresses and ports."), Column::AGE],
    row,
    default,
    validate,
    create_on_update: true,
    ..Hooks::PLAIN
};

/// How many are listed before the rest is counted.
const SHOWN: usize = 3;

fn default(endpoints: &mut Value) {
    let Some(endpoints) = endpoints.as_object_mut() else { return };
    for subset in each(endpoints, "subsets") {
        each(subset, "ports").for_each(|port| default_to(port, "protocol", "TCP"));
    }
}

fn validate(endpoints: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let list = Path::new("subsets");
    for (i, subset) in items(endpoints, "subsets").iter().enumerate() {
        let at = list.index(i);
        let addresses = ["addresses", "notReadyAddresses"];
        if addresses.iter().all(|k| items(subset, k).is_empty()) {
            out.push(FieldError::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for key in addresses {
            for (j, address) in items(subset, key).iter().enumerate() {
                ip_address(text(address, "ip"), &at.child(key).index(j).child("ip"), &mut out);
            }
        }
        let ports = items(subset, "ports");
        for (j, p) in ports.iter().enumerate() {
            let list = at.child("ports");
            let at = list.index(j);
            if ports.len() > 1 && text(p, "name").is_empty() {
                out.push(FieldError::required(&at.child("name"), ""));
            }
            port(&int(p, "port").unwrap_or(0).into(), &at.child("port"), &mut out);
            one_of(p, "protocol", &["SCTP", "TCP", "UDP"], &at, &mut out);
        }
    }
    out
}

fn row(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(endpoints, "subsets") {
        let ports = items(subset, "ports");
        let ips = || items(subset, "addresses").iter().map(|a| text(a, "ip"));
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let number = int(port, "port").unwrap_or(0);
            all.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }),
            );
        }
    }
    vec![name(endpoints).into(), table::or_none(&some_of(&all, SHOWN)), table::age(endpoints, now)]
}

/// `a,b,c + 2 more...`.
pub(crate) fn some_of(all: &[String], shown: usize) -> String {
    match all.len().checked_sub(shown) {
        None | Some(0) => all.join(","),
        Some(more) => format!("{} + {more} more...", all[..shown].join(",")),
    }
}
