//! Fluent builders for tests of the scheduler and of those who call it: `pod("a").cpu("500m").label("app", "web")`.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::{NodeState, Plugin, PodInfo};

/// A pod in namespace `default` with UID `uid-NAME` and one container that asks for nothing.
pub fn pod(name: &str) -> PodBuilder {
    PodBuilder(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "containers": [{ "name": "c0", "image": "example", "resources": { "requests": {} } }] },
    }))
}

/// A node with 1,000 pods of room and no resources.
pub fn node(name: &str) -> NodeBuilder {
    NodeBuilder(json!({
        "metadata": { "name": name, "labels": {} },
        "spec": {},
        "status": { "allocatable": { "pods": "1000" } },
    }))
}

#[derive(Clone, Debug)]
pub struct PodBuilder(Value);

impl PodBuilder {
    pub fn build(self) -> Pod {
        serde_json::from_value(self.0).unwrap_or_default()
    }
    /// As seen with the RuntimeClasses `wasm` and `wasmtime-spin-v2` (handler `spin`).
    pub fn info(self) -> PodInfo {
        PodInfo::new(&self.build(), handler_of)
    }

    pub fn namespace(mut self, namespace: &str) -> Self {
        self.0["metadata"]["namespace"] = namespace.into();
        self
    }
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = value.into();
        self
    }
    /// Of the first container, like `memory` and `resource`.
    pub fn cpu(self, amount: &str) -> Self {
        self.resource("cpu", amount)
    }
    pub fn memory(self, amount: &str) -> Self {
        self.resource("memory", amount)
    }
    pub fn resource(mut self, name: &str, amount: &str) -> Self {
        self.0["spec"]["containers"][0]["resources"]["requests"][name] = amount.into();
        self
    }
    pub fn command(mut self, command: &[&str]) -> Self {
        self.0["spec"]["containers"][0]["command"] = json!(command);
        self
    }
    pub fn container_cpu(self, amount: &str) -> Self {
        self.push("containers", json!({ "name": "more", "resources": { "requests": { "cpu": amount } } }))
    }
    pub fn init_cpu(self, amount: &str) -> Self {
        self.push("initContainers", json!({ "name": "init", "resources": { "requests": { "cpu": amount } } }))
    }
    pub fn sidecar_cpu(self, amount: &str) -> Self {
        let requests = json!({ "requests": { "cpu": amount } });
        self.push("initContainers", json!({ "name": "side", "restartPolicy": "Always", "resources": requests }))
    }
    pub fn pod_level(mut self, name: &str, amount: &str) -> Self {
        self.0["spec"]["resources"]["requests"][name] = amount.into();
        self
    }
    pub fn overhead(mut self, name: &str, amount: &str) -> Self {
        self.0["spec"]["overhead"][name] = amount.into();
        self
    }
    pub fn host_port(mut self, ip: &str, protocol: &str, port: i32) -> Self {
        self.0["spec"]["containers"][0]["ports"] =
            json!([{ "containerPort": port, "hostPort": port, "hostIP": ip, "protocol": protocol }]);
        self
    }
    pub fn priority(mut self, priority: i32) -> Self {
        self.0["spec"]["priority"] = priority.into();
        self
    }
    pub fn gate(self, name: &str) -> Self {
        self.push("schedulingGates", json!({ "name": name }))
    }
    pub fn on(mut self, node: &str) -> Self {
        self.0["spec"]["nodeName"] = node.into();
        self
    }
    pub fn phase(mut self, phase: &str) -> Self {
        self.0["status"]["phase"] = phase.into();
        self
    }
    pub fn runtime_class(mut self, class: &str) -> Self {
        self.0["spec"]["runtimeClassName"] = class.into();
        self
    }
    pub fn node_selector(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["nodeSelector"][key] = value.into();
        self
    }
    pub fn tolerate(self, key: &str, operator: &str, value: &str, effect: &str) -> Self {
        self.push("tolerations", json!({ "key": key, "operator": operator, "value": value, "effect": effect }))
    }
    pub fn require(self, key: &str, operator: &str, values: &[&str]) -> Self {
        self.require_nothing().or_require(key, operator, values)
    }
    pub fn or_require(self, key: &str, operator: &str, values: &[&str]) -> Self {
        self.push_term(json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }))
    }
    pub fn require_node(self, name: &str) -> Self {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [name] });
        self.require_nothing().push_term(json!({ "matchFields": [field] }))
    }
    pub fn require_nothing(mut self) -> Self {
        self.0["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({ "nodeSelectorTerms": [] });
        self
    }
    pub fn prefer(mut self, weight: i32, key: &str, operator: &str, values: &[&str]) -> Self {
        let expression = json!({ "key": key, "operator": operator, "values": values });
        let term = json!({ "weight": weight, "preference": { "matchExpressions": [expression] } });
        let affinity = &mut self.0["spec"]["affinity"]["nodeAffinity"];
        append(&mut affinity["preferredDuringSchedulingIgnoredDuringExecution"], term);
        self
    }

    fn push(mut self, list: &str, item: Value) -> Self {
        append(&mut self.0["spec"][list], item);
        self
    }
    fn push_term(mut self, term: Value) -> Self {
        let affinity = &mut self.0["spec"]["affinity"]["nodeAffinity"];
        append(&mut affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"], term);
        self
    }
}

#[derive(Clone, Debug)]
pub struct NodeBuilder(Value);

impl NodeBuilder {
    pub fn build(self) -> Node {
        serde_json::from_value(self.0).unwrap_or_default()
    }
    pub fn cpu(self, amount: &str) -> Self {
        self.resource("cpu", amount)
    }
    pub fn memory(self, amount: &str) -> Self {
        self.resource("memory", amount)
    }
    pub fn pods(self, count: u32) -> Self {
        self.resource("pods", &count.to_string())
    }
    pub fn resource(mut self, name: &str, amount: &str) -> Self {
        self.0["status"]["allocatable"][name] = amount.into();
        self
    }
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        append(&mut self.0["spec"]["taints"], json!({ "key": key, "value": value, "effect": effect }));
        self
    }
    pub fn cordoned(mut self) -> Self {
        self.0["spec"]["unschedulable"] = true.into();
        self
    }
    pub fn handlers(mut self, names: &[&str]) -> Self {
        let handlers: Vec<_> = names.iter().map(|n| json!({ "name": n })).collect();
        self.0["status"]["runtimeHandlers"] = handlers.into();
        self
    }
}

/// The node as the scheduler sees it, with no pods.
pub fn state(node: NodeBuilder) -> NodeState {
    let node = node.build();
    let mut state = NodeState::unknown(node.metadata.name.as_deref().unwrap_or_default());
    state.update(&node);
    state
}

/// Does this plugin alone let the pod on the node?
pub fn fits(plugin: &dyn Plugin, pod: PodBuilder, node: NodeBuilder) -> bool {
    plugin.filter(&pod.info().template, &state(node)).is_fit()
}

pub fn handler_of(class: &str) -> Option<String> {
    match class {
        "wasm" => Some("wasm".into()),
        "wasmtime-spin-v2" => Some("spin".into()),
        _ => None,
    }
}

fn append(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}
