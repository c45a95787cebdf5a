//! The pod annotations that a runtime or the node acts upon.

use std::collections::BTreeMap;

/// `declared`: a container sees the variables that its image and its pod declare, and no other: neither its host name nor
/// the addresses of services.
pub const ENVIRONMENT: &str = "skiff.dev/environment";

/// `none`, `cluster` or `all`: what the guests of a pod may do with the network.
pub const NETWORK: &str = "skiff.dev/network";
/// WebAssembly features to turn on, or off with a `-` before the name: `wide-arithmetic,-relaxed-simd`.
pub const WASM_FEATURES: &str = "skiff.dev/wasm-features";
/// `source`: backtraces tell file and line where the module has debug information (DWARF).
pub const BACKTRACE: &str = "skiff.dev/backtrace";
/// `true`: a fault leaves a core dump.
pub const CORE_DUMP: &str = "skiff.dev/core-dump";
/// Where in a mounted volume the core dump is written; without it the node keeps a few.
pub const CORE_DUMP_PATH: &str = "skiff.dev/core-dump-path";
/// A seed: clocks, randomness and environment are the same in every run with it.
pub const DETERMINISTIC: &str = "skiff.dev/deterministic";
/// The function that prepares a module once for all; containers start from what it left.
pub const SNAPSHOT: &str = "skiff.dev/snapshot";
/// `configmap/NAME,secret/NAME`: what `wasi:config/store` reads; the later source of a key wins.
pub const CONFIG: &str = "skiff.dev/config";
/// Buckets that `wasi:keyvalue` may open beside `default`: `NAME` of the node, `configmap/NAME` and `secret/NAME`, read-only.
pub const KEYVALUE: &str = "skiff.dev/keyvalue";

/// The sources that the annotations of a pod name: ConfigMaps, then Secrets.
pub fn sources(annotations: Option<&BTreeMap<String, String>>) -> (Vec<String>, Vec<String>) {
    let lists = [CONFIG, KEYVALUE].into_iter().filter_map(|name| annotations?.get(name));
    let words: Vec<_> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
    let of = |kind: &str| words.iter().filter_map(|word| word.strip_prefix(kind)).map(str::to_owned).collect();
    (of("configmap/"), of("secret/"))
}

/// Real time that each container of the pod may run for: `500ms`, `30s`, `5m`, `2h`.
pub const WALL_TIME: &str = "skiff.dev/wall-time";

/// Whether the pod wants nothing in its environment but what is declared.
pub fn declared_environment_only(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let Some(all) = annotations else { return false };
    // Services come and go: a run that is to be the same every time does not see them.
    all.get(ENVIRONMENT).is_some_and(|value| value == "declared") || all.contains_key(DETERMINISTIC)
}
