//! RuntimeHandlers: a pod goes only to a node that can run it.
//!
//! A RuntimeClass's handler must be among the node's; a pod that declares Wasm by annotation needs a node with a Wasm
//! runtime. Whether a plain image is Wasm is known only after pulling it, so such a pod is never rejected here: nodes
//! that can run both kinds merely score higher. A node that reports no handlers decides for itself.

use crate::{
    Events, NodeState, RuntimeHandler, Template, Verdict,
    framework::{MAX_SCORE, Normalize, Plugin, Points},
};

pub const NO_HANDLER: &str = "node(s) didn't have the runtime handler of the pod's RuntimeClass";
pub const NO_CLASS: &str = "node(s) unavailable because the pod's RuntimeClass does not exist";
pub const NO_WASM: &str = "node(s) didn't have a Wasm runtime";

/// Handlers that stand for a Wasm runtime, as runwasi, SpinKube, k3s and crun name them.
const WASM_HANDLERS: [&str; 13] = [
    "wasm",
    "wasmtime",
    "wasmtime-v1",
    "wasmtime-spin",
    "spin",
    "spin-v2",
    "slight",
    "wws",
    "lunatic",
    "wasmedge",
    "wasmedge-v1",
    "wasmer",
    "crun-wasm",
];
/// Labels of nodes that run Wasm without reporting a handler for it.
const WASM_LABELS: [(&str, &str); 2] = [("kubernetes.io/arch", "wasm32-wasi"), ("kwasm.sh/kwasm-provisioned", "true")];

pub struct RuntimeHandlers;

impl Plugin for RuntimeHandlers {
    fn name(&self) -> &'static str {
        "RuntimeHandlers"
    }
    fn points(&self) -> Points {
        Points::FILTER.scored(Normalize::No)
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_RUNTIME | Events::NODE_LABEL | Events::RUNTIME_CLASS
    }

    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        let reject = |reason: &'static str| Verdict::Unresolvable(vec![reason.into()]);
        match &pod.runtime_handler {
            RuntimeHandler::MissingClass(_) => reject(NO_CLASS),
            RuntimeHandler::Named(handler) => match &node.runtime_handlers {
                Some(handlers) if !handlers.contains(handler) => reject(NO_HANDLER),
                _ => Verdict::Fit,
            },
            RuntimeHandler::Default if pod.declared_wasm && node.runtime_handlers.is_some() && !has_wasm(node) => {
                reject(NO_WASM)
            }
            RuntimeHandler::Default => Verdict::Fit,
        }
    }

    /// For a pod of which nobody knows yet what it is, a node with both runtimes cannot be wrong.
    fn score(&self, pod: &Template, node: &NodeState) -> i64 {
        let unknown = pod.runtime_handler == RuntimeHandler::Default && !pod.declared_wasm;
        let containers = node.runtime_handlers.as_ref().is_some_and(|handlers| handlers.iter().any(String::is_empty));
        if unknown && containers && has_wasm(node) { MAX_SCORE } else { 0 }
    }
}

fn has_wasm(node: &NodeState) -> bool {
    let handlers = node.runtime_handlers.as_deref().unwrap_or_default();
    handlers.iter().any(|h| WASM_HANDLERS.contains(&h.as_str()))
        || WASM_LABELS.iter().any(|(key, value)| node.labels.get(*key).is_some_and(|v| v == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, state};

    #[test]
    fn a_pod_goes_only_where_it_can_run() {
        let plain = || pod("plain");
        let spin = || pod("spin").runtime_class("wasmtime-spin-v2");
        let wasm = || pod("wasm").annotation("module.wasm.image/variant", "compat");
        let smart = || pod("smart").annotation("run.oci.handler", "wasm-smart").command(&["/app.wasm#run"]);
        let smart_linux = || pod("smart").annotation("run.oci.handler", "wasm-smart").command(&["/bin/sh"]);
        let ghost = || pod("ghost").runtime_class("ghost");
        let wasm_node = || node("w").handlers(&["wasm", "spin"]);
        let linux_node = || node("l").handlers(&["", "runc"]);
        let silent_node = || node("s");
        let table = [
            (plain(), wasm_node(), None),
            (plain(), linux_node(), None),
            (spin(), wasm_node(), None),
            (spin(), linux_node(), Some(NO_HANDLER)),
            (spin(), silent_node(), None),
            (wasm(), wasm_node(), None),
            (wasm(), linux_node(), Some(NO_WASM)),
            (wasm(), silent_node(), None),
            (wasm(), linux_node().label("kubernetes.io/arch", "wasm32-wasi"), None),
            (smart(), linux_node(), Some(NO_WASM)),
            (smart_linux(), linux_node(), None),
            (ghost(), wasm_node(), Some(NO_CLASS)),
        ];
        for (pod, node, expected) in table {
            let verdict = RuntimeHandlers.filter(&pod.info().template, &state(node));
            assert_eq!(verdict.reasons().first().map(|r| &**r), expected, "{verdict:?}");
        }
    }

    #[test]
    fn an_unknown_image_prefers_a_node_that_runs_both() {
        let score = |pod: crate::testing::PodBuilder, handlers: &[&str]| {
            RuntimeHandlers.score(&pod.info().template, &state(node("n").handlers(handlers)))
        };
        assert_eq!(score(pod("a"), &["", "wasm"]), MAX_SCORE);
        assert_eq!(score(pod("a"), &["wasm"]), 0);
        assert_eq!(score(pod("a").runtime_class("wasm"), &["", "wasm"]), 0);
    }
}
