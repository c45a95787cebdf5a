//! The rules of the structure, as tests: who may depend on whom, and what must not appear where.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The layer of every crate: it may depend on crates of lower layers only. The two products may know each other.
const LAYERS: &[(&str, u8)] = &[
    ("api", 0),
    ("store", 1),
    ("runtime", 1),
    ("reconcile", 1),
    ("controllers", 2),
    ("scheduler", 2),
    ("lifecycle", 2),
    ("store-redb", 3),
    ("runtime-wasm", 3),
    ("client", 3),
    ("spdy", 3),
    ("apiserver", 4),
    ("manager", 4),
    ("node", 4),
    ("skiff", 5),
    ("testing", 6),
];

/// A dependency and the only crates whose `[dependencies]` may name it.
const CONFINED: &[(&str, &[&str])] = &[
    ("redb", &["store-redb"]),
    ("wasmtime", &["runtime-wasm"]),
    ("wasmtime-wasi", &["runtime-wasm"]),
    ("axum", &["apiserver", "node", "skiff"]),
    ("anyhow", &["skiff", "testing"]),
    ("skiff-store", &["store-redb", "apiserver", "skiff", "testing"]),
    ("skiff-store-redb", &["skiff", "testing"]),
    ("skiff-runtime-wasm", &["skiff", "testing"]),
];

/// What the pure layers (L0 and L2) may never name.
const IMPURE: &[&str] = &["tokio", "futures", "async-trait", "kube", "hyper", "axum", "rand", "uuid", "rustix"];

/// The names under `[dependencies]` (not dev-dependencies: tests may use more) of every crate.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or("");
        let names = section
            .lines()
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split(['.', '=', ' ']).next())
            .filter(|name| !name.is_empty() && !name.starts_with('#'))
            .map(String::from)
            .collect();
        out.insert(dir.file_name().unwrap().to_string_lossy().into_owned(), names);
    }
    out
}

fn layer(name: &str) -> u8 {
    LAYERS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("crate {name} has no layer: add it to LAYERS")).1
}

#[test]
fn a_crate_depends_only_on_lower_layers() {
    for (name, deps) in dependencies() {
        for dep in deps.iter().filter_map(|d| d.strip_prefix("skiff-").or((d == "skiff").then_some("skiff"))) {
            assert!(
                layer(dep) < layer(&name),
                "{name} (layer {}) depends on {dep} (layer {})",
                layer(&name),
                layer(dep)
            );
        }
    }
}

#[test]
fn an_outside_world_stays_behind_its_door() {
    for (name, deps) in dependencies() {
        for (dep, allowed) in CONFINED {
            assert!(
                !deps.contains(*dep) || allowed.contains(&name.as_str()),
                "{dep} is for {allowed:?}, not for {name}"
            );
        }
    }
}

#[test]
fn decisions_are_pure() {
    let deps = dependencies();
    for (name, layer) in LAYERS.iter().filter(|(_, layer)| matches!(layer, 0 | 2)) {
        for dep in IMPURE {
            assert!(!deps[*name].contains(*dep), "{name} (layer {layer}) must not use {dep}");
        }
        for file in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for word in [
                "SystemTime::now",
                "Instant::now",
                "Timestamp::now",
                "Zoned::now",
                "async fn",
                "std::fs::",
                "std::net::Tcp",
            ] {
                assert!(!text.contains(word), "{} has {word}", file.display());
            }
        }
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources(&root().join("crates")) {
        // Tests beside the code speak for themselves.
        if file.to_string_lossy().ends_with("tests.rs") || file.to_string_lossy().contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
    }
}

#[test]
fn nothing_is_left_undone_behind_a_green_check() {
    for file in sources(&root().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        for word in [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("TO", "DO"), concat!("FIX", "ME")] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}
