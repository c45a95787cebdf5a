//! A pending or assigned pod as the scheduler sees it: a few words of its own, and a template shared with its equals.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod, PodSpec, Toleration};

use crate::resources::{Resources, pod_request, pod_scored_request};

/// Which runtime the pod's RuntimeClass names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum RuntimeHandler {
    /// No runtimeClassName: the node's default.
    #[default]
    Default,
    Named(String),
    /// The named RuntimeClass does not exist.
    MissingClass(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Empty or `0.0.0.0` for every address.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}
impl HostPort {
    /// Two pods cannot both have these on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// Everything that decides where a pod may go; equal for the pods of one ReplicaSet or Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    hash: u64,
    pub request: Resources,
    /// With defaults for containers without requests: what nodes are scored by.
    pub scored_request: Resources,
    pub node_name: Option<String>,
    pub node_selector: BTreeMap<String, String>,
    /// `None` when there is no required node affinity; an empty list matches no node.
    pub required_terms: Option<Vec<NodeSelectorTerm>>,
    pub preferred_terms: Vec<(i32, NodeSelectorTerm)>,
    pub tolerations: Vec<Toleration>,
    pub host_ports: Vec<HostPort>,
    pub runtime_handler: RuntimeHandler,
    /// An annotation says that at least one container is Wasm.
    pub declared_wasm: bool,
}

impl Template {
    pub fn new(pod: &Pod, runtime_handler: RuntimeHandler) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let mut template = Self {
            hash: 0,
            request: pod_request(spec),
            scored_request: pod_scored_request(spec),
            node_name: spec.node_name.clone().filter(|n| !n.is_empty()),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_terms: affinity
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .map(|s| s.node_selector_terms.clone()),
            preferred_terms: affinity
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
                .map(|terms| terms.iter().map(|t| (t.weight, t.preference.clone())).collect())
                .unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            host_ports: host_ports(spec),
            runtime_handler,
            declared_wasm: declared_wasm(pod),
        };
        template.hash = template.compute_hash();
        template
    }

    /// Equal templates have equal hashes; computed once.
    pub fn template_hash(&self) -> u64 {
        self.hash
    }

    /// Over the fields that differ between workloads in practice; equality decides.
    fn compute_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.request.hash(&mut hasher);
        self.scored_request.hash(&mut hasher);
        self.node_name.hash(&mut hasher);
        self.node_selector.hash(&mut hasher);
        self.host_ports.hash(&mut hasher);
        self.runtime_handler.hash(&mut hasher);
        self.declared_wasm.hash(&mut hasher);
        self.tolerations.len().hash(&mut hasher);
        for toleration in &self.tolerations {
            (&toleration.key, &toleration.value, &toleration.effect).hash(&mut hasher);
        }
        for term in self.required_terms.iter().flatten().chain(self.preferred_terms.iter().map(|(_, t)| t)) {
            for requirement in term.match_expressions.iter().flatten().chain(term.match_fields.iter().flatten()) {
                (&requirement.key, &requirement.operator, &requirement.values).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// One pod. Cheap to clone: the template is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub priority: i32,
    /// Names of the scheduling gates that are still closed.
    pub gates: Vec<String>,
    pub template: Arc<Template>,
}

impl PodInfo {
    /// `handler_of` gives the handler of a RuntimeClass by its name, `None` when there is no such class.
    pub fn new(pod: &Pod, handler_of: impl Fn(&str) -> Option<String>) -> Self {
        let spec = pod.spec.as_ref();
        let handler = match spec.and_then(|s| s.runtime_class_name.as_deref()).filter(|c| !c.is_empty()) {
            None => RuntimeHandler::Default,
            Some(class) => {
                handler_of(class).map_or_else(|| RuntimeHandler::MissingClass(class.into()), RuntimeHandler::Named)
            }
        };
        Self {
            namespace: pod.metadata.namespace.as_deref().unwrap_or_default().into(),
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            priority: spec.and_then(|s| s.priority).unwrap_or(0),
            gates: spec
                .and_then(|s| s.scheduling_gates.as_ref())
                .map(|gates| gates.iter().map(|g| g.name.clone()).collect())
                .unwrap_or_default(),
            template: Arc::new(Template::new(pod, handler)),
        }
    }

    /// Shares the template of an equal pod, so that later comparisons are of pointers.
    pub fn share_template_of(&mut self, other: &Self) -> bool {
        let equal = Arc::ptr_eq(&self.template, &other.template) || self.template == other.template;
        if equal {
            self.template = other.template.clone();
        }
        equal
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let host = spec.host_network == Some(true);
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0).or_else(|| host.then_some(p.container_port))?;
            Some(HostPort {
                ip: p.host_ip.clone().unwrap_or_default(),
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port,
            })
        })
        .collect()
}

/// The annotations by which runwasi and crun users say that a container is Wasm before anybody has pulled its image.
/// The `-smart` variants leave it to each container's command, so they say it only when every command ends so.
fn declared_wasm(pod: &Pod) -> bool {
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    let variant = annotation("module.wasm.image/variant");
    let handler = annotation("run.oci.handler");
    if variant == Some("compat") || handler == Some("wasm") {
        return true;
    }
    let smart = variant == Some("compat-smart") || handler == Some("wasm-smart");
    let wasm_command = |command: &Option<Vec<String>>| {
        let argv0 = command.as_ref().and_then(|c| c.first()).map(String::as_str).unwrap_or_default();
        let path = argv0.split('#').next().unwrap_or_default();
        path.ends_with(".wasm") || path.ends_with(".wat")
    };
    smart && pod.spec.iter().flat_map(|s| &s.containers).any(|c| wasm_command(&c.command))
}
