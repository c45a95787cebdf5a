//! Which runtime a container goes to: pure.
//!
//! Wasm is chosen per container. What says so, in this order: the image (its config or layers), the annotations
//! `module.wasm.image/variant` and `run.oci.handler`, a RuntimeClass whose handler is a Wasm one. Everything else is a
//! Linux container.

use std::collections::BTreeMap;

use skiff_runtime::{Capabilities, ImageKind};

/// Handlers of RuntimeClasses that mean Wasm.
const WASM_HANDLERS: [&str; 14] = [
    "wasm",
    "wasmtime",
    "wasmtime-v1",
    "wasmedge",
    "wasmedge-v1",
    "wasmer",
    "spin",
    "spin-v2",
    "slight",
    "wws",
    "lunatic",
    "crun-wasm",
    "wasmtime-spin",
    "wasmtime-spin-v1",
];

/// What is known of a container before its image is.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Of the pod's RuntimeClass; empty without one.
    pub handler: &'a str,
    /// `command[0]`, or `args[0]` if there is no command.
    pub argv0: Option<&'a str>,
}

/// The indices of the runtimes that may take the container, the best one first. The first whose image store takes the
/// image (see [`runs`]) gets the container.
///
/// # Errors
/// A message for an event: no runtime of this node answers to the handler.
pub fn order(wanted: Wanted<'_>, runtimes: &[&Capabilities]) -> Result<Vec<usize>, String> {
    let answers = |c: &Capabilities| wanted.handler.is_empty() || c.handlers.iter().any(|h| h == wanted.handler);
    let mut able: Vec<usize> = (0..runtimes.len()).filter(|i| answers(runtimes[*i])).collect();
    if able.is_empty() {
        return Err(format!("no runtime for {:?} is configured on this node", wanted.handler));
    }
    let wasm_first = says_wasm(wanted);
    // Stable: equals keep the order of the configuration.
    able.sort_by_key(|i| if wasm_first { !runtimes[*i].wasm } else { !runtimes[*i].linux });
    Ok(able)
}

/// Whether a runtime runs images of this kind.
pub fn runs(runtime: &Capabilities, kind: ImageKind) -> bool {
    match kind {
        ImageKind::Wasm => runtime.wasm,
        ImageKind::Linux => runtime.linux,
    }
}

fn says_wasm(wanted: Wanted<'_>) -> bool {
    let annotation = |key: &str| wanted.annotations.and_then(|a| a.get(key)).map(String::as_str);
    let is_module = wanted.argv0.is_some_and(|a| {
        let path = a.split('#').next().unwrap_or(a);
        path.ends_with(".wasm") || path.ends_with(".wat")
    });
    for value in ["module.wasm.image/variant", "run.oci.handler"].map(annotation).into_iter().flatten() {
        match value {
            "compat" | "wasm" => return true,
            "compat-smart" | "wasm-smart" => return is_module,
            _ => {}
        }
    }
    WASM_HANDLERS.contains(&wanted.handler)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes() -> (Capabilities, Capabilities) {
        let handlers = |h: &[&str]| h.iter().map(|s| (*s).to_owned()).collect();
        let linux = Capabilities { linux: true, handlers: handlers(&["", "runc"]), ..Capabilities::default() };
        let wasm =
            Capabilities { wasm: true, handlers: handlers(&["", "wasmtime", "spin"]), ..Capabilities::default() };
        (linux, wasm)
    }

    #[test]
    fn a_container_goes_where_its_pod_says() {
        let (linux, wasm) = runtimes();
        let both = [&linux, &wasm];
        let compat = BTreeMap::from([("module.wasm.image/variant".to_owned(), "compat".to_owned())]);
        let smart = BTreeMap::from([("run.oci.handler".to_owned(), "wasm-smart".to_owned())]);
        for (sentence, annotations, handler, argv0, expected) in [
            ("an ordinary container is a Linux one", None, "", None, Ok(vec![0, 1])),
            ("compat means Wasm", Some(&compat), "", None, Ok(vec![1, 0])),
            ("smart means Wasm for a module", Some(&smart), "", Some("/app.wasm#run"), Ok(vec![1, 0])),
            ("smart leaves a sidecar alone", Some(&smart), "", Some("/bin/envoy"), Ok(vec![0, 1])),
            ("a Wasm class means Wasm", None, "spin", None, Ok(vec![1])),
            ("a Linux class means Linux", None, "runc", None, Ok(vec![0])),
            (
                "an unknown class is refused",
                None,
                "kata",
                None,
                Err("no runtime for \"kata\" is configured on this node".to_owned()),
            ),
        ] {
            assert_eq!(order(Wanted { annotations, handler, argv0 }, &both), expected, "{sentence}");
        }
    }
}
