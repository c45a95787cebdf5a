//! Imports that the host does not have: all of them by name, what is nearest to each, and what the host has.

use wasmtime::{
    Module,
    component::{Component, Linker, types::ComponentItem},
};

use super::{clip, list, offers, offers::Offer, plural};

/// What a core module may import.
const MODULES_GET: &str = "a module can import WASI preview 1 (wasi_snapshot_preview1)";

/// Import module → what the program was most likely built for.
const ORIGINS: &[(&str, &str)] = &[
    ("wasi_unstable", "it was built for a WASI older than preview 1: build it with a newer toolchain"),
    ("wasi", "it was built for wasi-threads, which is not offered: build it for wasm32-wasip1"),
    ("env", "imports of \"env\" come from functions without a definition or from a build for a browser (Emscripten)"),
    ("wbg", "it was built for a browser (wasm-bindgen): build it for wasm32-wasip1 or wasm32-wasip2"),
    (
        "__wbindgen_placeholder__",
        "it was built for a browser (wasm-bindgen): build it for wasm32-wasip1 or wasm32-wasip2",
    ),
    ("gojs", "it was built for a browser: build it with GOOS=wasip1"),
    ("go", "it was built for a browser: build it with GOOS=wasip1"),
];

/// Tells of every import of a module for which `has` is false; `None` if there is none.
pub fn of_module(module: &Module, mut has: impl FnMut(&str, &str) -> bool) -> Option<String> {
    let absent: Vec<_> = module.imports().filter(|import| !has(import.module(), import.name())).collect();
    let first = absent.first()?;
    let names: Vec<_> = absent.iter().map(|i| format!("{:?} {:?}", clip(i.module()), clip(i.name()))).collect();
    let origin = ORIGINS.iter().find(|(name, _)| *name == first.module()).map(|(_, hint)| *hint);
    let component = first.module().contains(':').then_some(
        "it was built as the core of a component: make it one with `wasm-tools component new` or by its toolchain",
    );
    let hint = origin.or(component).map(|hint| format!("; {hint}")).unwrap_or_default();
    let word = plural("unsatisfied import", names.len());
    Some(format!("{word} {}{hint}; this node offers: {MODULES_GET}", list(&names)))
}

/// Tells of every import of a component that the linker lacks; `error` is what the linker itself said first.
pub fn of_component<T: 'static>(linker: &Linker<T>, component: &Component, error: &wasmtime::Error) -> String {
    let offers = offers::of(linker);
    let mut probe = linker.clone();
    probe.allow_shadowing(false);
    let engine = component.engine();
    let ty = component.component_type();
    let mut absent = Vec::new();
    for (name, import) in ty.imports(engine) {
        let ComponentItem::ComponentInstance(wanted) = import.ty else {
            if matches!(import.ty, ComponentItem::ComponentFunc(_)) {
                absent.push(format!("function {:?}", clip(name)));
            }
            continue;
        };
        let functions: Vec<_> = wanted
            .exports(engine)
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
            .map(|(name, _)| name.to_owned())
            .collect();
        match compatible(name, &offers) {
            Some(offer) => {
                let host = format!("{}/{}@{}", offer.package, offer.interface, offer.version);
                let lacks = functions.into_iter().filter(|function| !offers::defined(&mut probe, &host, function));
                let lacks: Vec<_> = lacks.map(|function| format!("{} of {}", clip(&function), clip(name))).collect();
                absent.extend(lacks);
            }
            // An interface of nothing but types needs nobody.
            None if functions.is_empty() => {}
            None => absent.push(format!("{}{}", clip(name), nearest(name, &offers))),
        }
    }
    let has = offers::describe(&offers);
    if absent.is_empty() {
        return format!("an import does not fit what this node has: {error:#}; this node offers: {has}");
    }
    format!("{} {}; this node offers: {has}", plural("unsatisfied import", absent.len()), list(&absent))
}

struct Name<'a> {
    package: &'a str,
    interface: &'a str,
    version: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let (package, interface) = path.split_once('/')?;
        Some(Self { package, interface, version })
    }
}

/// Versions of one track stand in for each other: those of one major version, or of one minor version before 1.0.
fn track(version: &str) -> &str {
    if version.contains(['-', '+']) {
        return version;
    }
    let mut dots = version.match_indices('.').map(|(index, _)| index);
    let end = if version.starts_with("0.") { dots.nth(1) } else { dots.next() };
    end.map_or(version, |end| &version[..end])
}

fn compatible<'a>(name: &str, offers: &'a [Offer]) -> Option<&'a Offer> {
    let name = Name::parse(name)?;
    let fits =
        |o: &&Offer| (o.package, o.interface, track(o.version)) == (name.package, name.interface, track(name.version));
    offers.iter().find(fits)
}

/// What the host has instead, in brackets.
fn nearest(name: &str, offers: &[Offer]) -> String {
    let Some(name) = Name::parse(name) else { return String::new() };
    let mut same = offers.iter().filter(|o| (o.package, o.interface) == (name.package, name.interface)).peekable();
    if same.peek().is_some() {
        let versions: Vec<_> = same.map(|offer| offer.version).collect();
        let experimental =
            if name.version.starts_with("0.3.") { "; a node with the option --wasi-0.3 has 0.3" } else { "" };
        return format!(" (this node has version {}{experimental})", versions.join(", "));
    }
    if offers.iter().any(|offer| offer.package == name.package) {
        return format!(" (this node has no such interface of {})", clip(name.package));
    }
    format!(" (this node has nothing of {})", clip(name.package))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::Variant, program::Machine};

    fn machine() -> Machine {
        Machine::new(wasmtime::Engine::default(), &Variant::default(), false).expect("links")
    }

    #[test]
    fn every_unsatisfied_import_of_a_component_is_named() {
        let rows: [(&str, &[&str]); 6] = [
            (
                r#"(component (import "acme:db/query@1.0.0" (instance (export "run" (func))))
                              (import "wasi:cli/environment@0.2.3" (instance (export "get-environment" (func))))
                              (import "acme:log/sink" (instance (export "write" (func)))))"#,
                &[
                    "unsatisfied imports acme:db/query@1.0.0 (this node has nothing of acme:db), acme:log/sink",
                    "wasi:cli@0.2.12 (environment, exit",
                ],
            ),
            (
                r#"(component (import "wasi:cli/stdin@0.3.0" (instance (export "read-via-stream" (func)))))"#,
                &["wasi:cli/stdin@0.3.0 (this node has version 0.2.12; a node with the option --wasi-0.3 has 0.3)"],
            ),
            (
                r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "explode" (func)) (export "exit" (func)))))"#,
                &["unsatisfied import explode of wasi:cli/exit@0.2.0; this"],
            ),
            (
                r#"(component (import "wasi:cli/colours@0.2.0" (instance (export "red" (func)))))"#,
                &["wasi:cli/colours@0.2.0 (this node has no such interface of wasi:cli)"],
            ),
            (r#"(component (import "host-log" (func)))"#, &["unsatisfied import function \"host-log\""]),
            (
                r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "exit" (func (param "a" u32))))))"#,
                &["an import does not fit what this node has", "exit"],
            ),
        ];
        let machine = machine();
        for (text, expected) in rows {
            let component = Component::new(&machine.engine, text).expect("is valid");
            let error = machine.components().instantiate_pre(&component).err().expect("does not link");
            let message = of_component(machine.components(), &component, &error);
            for part in expected {
                assert!(message.contains(part), "{part:?} in {message:?}");
            }
        }
    }

    #[test]
    fn every_unsatisfied_import_of_a_module_is_named() {
        let many: String = (0..12).map(|n| format!(r#"(import "env" "f{n}" (func))"#)).collect();
        let rows = [
            (format!("(module {many})"), "\"env\" \"f9\" and 2 others; imports of \"env\""),
            (r#"(module (import "wasi_unstable" "fd_write" (func)))"#.to_owned(), "older than preview 1"),
            (r#"(module (import "wasi:cli/run@0.2.0" "x" (func)))"#.to_owned(), "wasm-tools component new"),
            (r#"(module (import "gojs" "runtime.x" (func)))"#.to_owned(), "GOOS=wasip1"),
            (r#"(module (import "m" "f" (func)))"#.to_owned(), "unsatisfied import \"m\" \"f\"; this node offers"),
        ];
        let engine = wasmtime::Engine::default();
        for (text, expected) in rows {
            let module = Module::new(&engine, text).expect("is valid");
            let message = of_module(&module, |_, _| false).expect("something is absent");
            assert!(message.contains(expected), "{expected:?} in {message:?}");
            assert_eq!(of_module(&module, |_, _| true), None);
        }
    }

    #[test]
    fn versions_stand_in_for_each_other_within_a_track() {
        let rows = [("0.2.3", "0.2"), ("0.2.0-draft", "0.2.0-draft"), ("1.4.0", "1"), ("", ""), ("2", "2")];
        for (version, expected) in rows {
            assert_eq!(track(version), expected);
        }
    }
}
