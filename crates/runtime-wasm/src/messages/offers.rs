//! The interfaces that a host may offer to components, each with one item in it by which it is known to be there.
//!
//! A linker cannot be listed, so a row counts only where the linker refuses to have its item defined again.

use std::collections::BTreeMap;

use wasmtime::component::Linker;

/// Package, version, interface, and an item of it.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("wasi:cli", "0.2.12", "environment", "get-environment"),
    ("wasi:cli", "0.2.12", "exit", "exit"),
    ("wasi:cli", "0.2.12", "stdin", "get-stdin"),
    ("wasi:cli", "0.2.12", "stdout", "get-stdout"),
    ("wasi:cli", "0.2.12", "stderr", "get-stderr"),
    ("wasi:cli", "0.2.12", "terminal-input", "terminal-input"),
    ("wasi:cli", "0.2.12", "terminal-output", "terminal-output"),
    ("wasi:cli", "0.2.12", "terminal-stdin", "get-terminal-stdin"),
    ("wasi:cli", "0.2.12", "terminal-stdout", "get-terminal-stdout"),
    ("wasi:cli", "0.2.12", "terminal-stderr", "get-terminal-stderr"),
    ("wasi:clocks", "0.2.12", "monotonic-clock", "now"),
    ("wasi:clocks", "0.2.12", "wall-clock", "now"),
    ("wasi:io", "0.2.12", "error", "error"),
    ("wasi:io", "0.2.12", "poll", "pollable"),
    ("wasi:io", "0.2.12", "streams", "input-stream"),
    ("wasi:random", "0.2.12", "random", "get-random-bytes"),
    ("wasi:random", "0.2.12", "insecure", "get-insecure-random-bytes"),
    ("wasi:random", "0.2.12", "insecure-seed", "insecure-seed"),
    ("wasi:filesystem", "0.2.12", "types", "descriptor"),
    ("wasi:filesystem", "0.2.12", "preopens", "get-directories"),
    ("wasi:sockets", "0.2.12", "network", "network"),
    ("wasi:sockets", "0.2.12", "instance-network", "instance-network"),
    ("wasi:sockets", "0.2.12", "ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets", "0.2.12", "tcp", "tcp-socket"),
    ("wasi:sockets", "0.2.12", "tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets", "0.2.12", "udp", "udp-socket"),
    ("wasi:sockets", "0.2.12", "udp-create-socket", "create-udp-socket"),
    ("wasi:http", "0.2.12", "types", "fields"),
    ("wasi:http", "0.2.12", "outgoing-handler", "handle"),
    ("wasi:config", "0.2.0-rc.1", "store", "get"),
    ("wasi:keyvalue", "0.2.0-draft", "store", "open"),
    ("wasi:keyvalue", "0.2.0-draft", "atomics", "increment"),
    ("wasi:keyvalue", "0.2.0-draft", "batch", "get-many"),
    ("fermyon:spin", "2.0.0", "variables", "get"),
    ("fermyon:spin", "2.0.0", "key-value", "store"),
    ("wasi:cli", "0.3.0", "environment", "get-environment"),
    ("wasi:cli", "0.3.0", "exit", "exit"),
    ("wasi:cli", "0.3.0", "stdin", "read-via-stream"),
    ("wasi:cli", "0.3.0", "stdout", "write-via-stream"),
    ("wasi:cli", "0.3.0", "stderr", "write-via-stream"),
    ("wasi:clocks", "0.3.0", "monotonic-clock", "now"),
    ("wasi:clocks", "0.3.0", "system-clock", "now"),
    ("wasi:random", "0.3.0", "random", "get-random-bytes"),
    ("wasi:random", "0.3.0", "insecure", "get-insecure-random-bytes"),
    ("wasi:random", "0.3.0", "insecure-seed", "get-insecure-seed"),
    ("wasi:filesystem", "0.3.0", "types", "descriptor"),
    ("wasi:filesystem", "0.3.0", "preopens", "get-directories"),
    ("wasi:sockets", "0.3.0", "types", "tcp-socket"),
    ("wasi:sockets", "0.3.0", "ip-name-lookup", "resolve-addresses"),
    ("wasi:http", "0.3.0", "types", "fields"),
    ("wasi:http", "0.3.0", "client", "send"),
];

/// One interface that the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub package: &'static str,
    pub version: &'static str,
    pub interface: &'static str,
}

/// What this linker has, in the table's order.
pub fn of<T: 'static>(linker: &Linker<T>) -> Vec<Offer> {
    let mut probe = linker.clone();
    probe.allow_shadowing(false);
    let rows = ROWS.iter().filter(|(package, version, interface, item)| {
        defined(&mut probe, &format!("{package}/{interface}@{version}"), item)
    });
    rows.map(|&(package, version, interface, _)| Offer { package, version, interface }).collect()
}

/// Whether the linker has that item. It may have it afterwards: this is for a copy.
pub fn defined<T: 'static>(probe: &mut Linker<T>, interface: &str, item: &str) -> bool {
    probe.instance(interface).is_ok_and(|mut instance| instance.func_wrap(item, |_, (): ()| Ok(())).is_err())
}

/// `wasi:cli@0.2.12 (environment, exit), wasi:io@0.2.12 (error)`
pub fn describe(offers: &[Offer]) -> String {
    let mut packages: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for offer in offers {
        packages.entry((offer.package, offer.version)).or_default().push(offer.interface);
    }
    let packages =
        packages.iter().map(|((package, version), names)| format!("{package}@{version} ({})", names.join(", ")));
    packages.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guest::Host, options::Variant, program::Machine};

    #[test]
    fn every_interface_of_the_command_world_is_known() {
        let machine = Machine::new(wasmtime::Engine::default(), &Variant::default(), false).expect("links");
        let offers = of(machine.components());
        let missing: Vec<_> = ROWS
            .iter()
            .filter(|row| row.1 == "0.2.12" && row.0 != "wasi:http")
            .filter(|row| !offers.iter().any(|offer| (offer.package, offer.interface) == (row.0, row.2)))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(of(&Linker::<Host>::new(&machine.engine)).is_empty(), "an empty linker offers nothing");
    }
}
