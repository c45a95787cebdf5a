//! Which engine a pod's RuntimeClass asks for, and that this host's own runs it instead.

/// RuntimeClass handlers that mean "Wasm", and the engine that each asks for where it is not this host's own.
pub const HANDLERS: [(&str, Option<&str>); 17] = [
    ("", None),
    ("wasm", None),
    ("wasmtime", None),
    ("wasmtime-v1", None),
    ("wasmedge", Some("wasmedge")),
    ("wasmedge-v1", Some("wasmedge")),
    ("wasmer", Some("wasmer")),
    ("spin", None),
    ("spin-v2", None),
    ("wasmtime-spin", None),
    ("wasmtime-spin-v1", None),
    ("wasmtime-spin-v2", None),
    ("slight", Some("slight")),
    ("wws", Some("wws")),
    ("lunatic", Some("lunatic")),
    // These two name no engine: theirs is chosen when they are built.
    ("crun", None),
    ("crun-wasm", None),
];

/// What to tell the user of a pod with this handler, if it asks for another engine.
pub fn substituted(handler: &str) -> Option<String> {
    let (_, engine) = HANDLERS.iter().find(|(name, _)| *name == handler)?;
    let engine = (*engine)?;
    Some(format!(
        "{engine} is not embedded in this node: wasmtime runs this pod, with WASI and without interfaces of {engine} alone"
    ))
}

/// As an event's reason.
pub const REASON: &str = "EngineSubstituted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_engines_are_told() {
        for (handler, told) in
            [("wasmedge-v1", true), ("wasmer", true), ("wasmtime-v1", false), ("", false), ("runc", false)]
        {
            assert_eq!(substituted(handler).is_some(), told, "{handler}");
        }
    }
}
