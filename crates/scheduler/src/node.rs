//! A node as the scheduler sees it: what it offers, and what the pods on it have taken.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::{
    Events,
    pod::{HostPort, Template},
    resources::{Resources, pod_count},
};

#[derive(Clone, Debug)]
pub struct NodeState {
    pub name: Arc<str>,
    /// False for a node that pods name but that has no Node object (yet): it is no candidate.
    pub exists: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub allocatable_pods: i64,
    /// Names in `status.runtimeHandlers` (empty for the default one); `None` when the node does not report them.
    pub runtime_handlers: Option<Vec<String>>,
    pub requested: Resources,
    pub scored_requested: Resources,
    pub pods: i64,
    pub host_ports: Vec<HostPort>,
    /// How many pods of each priority: what preemption could evict.
    pub priorities: BTreeMap<i32, u32>,
}

impl NodeState {
    pub(crate) fn unknown(name: &str) -> Self {
        Self {
            name: name.into(),
            exists: false,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources::default(),
            allocatable_pods: 0,
            runtime_handlers: None,
            requested: Resources::default(),
            scored_requested: Resources::default(),
            pods: 0,
            host_ports: Vec::new(),
            priorities: BTreeMap::new(),
        }
    }

    /// Takes over the object; says what changed. Heartbeats change nothing.
    pub(crate) fn update(&mut self, node: &Node) -> Events {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let mut events = if self.exists { Events::NONE } else { Events::NODE_ADD };
        self.exists = true;
        let empty = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
        if *labels != self.labels {
            self.labels = labels.clone();
            events |= Events::NODE_LABEL;
        }
        let taints = spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        if *taints != *self.taints || unschedulable != self.unschedulable {
            self.taints = taints.to_vec();
            self.unschedulable = unschedulable;
            events |= Events::NODE_TAINT;
        }
        let list = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        let (allocatable, pods) = (Resources::from_list(list), pod_count(list));
        if allocatable != self.allocatable || pods != self.allocatable_pods {
            self.allocatable = allocatable;
            self.allocatable_pods = pods;
            events |= Events::NODE_ALLOCATABLE;
        }
        let handlers = status
            .and_then(|s| s.runtime_handlers.as_ref())
            .map(|handlers| handlers.iter().map(|h| h.name.clone().unwrap_or_default()).collect());
        if handlers != self.runtime_handlers {
            self.runtime_handlers = handlers;
            events |= Events::NODE_RUNTIME;
        }
        events
    }

    pub(crate) fn add(&mut self, template: &Template, priority: i32) {
        self.requested.add(&template.request);
        self.scored_requested.add(&template.scored_request);
        self.pods += 1;
        self.host_ports.extend(template.host_ports.iter().cloned());
        *self.priorities.entry(priority).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, template: &Template, priority: i32) {
        self.requested.sub(&template.request);
        self.scored_requested.sub(&template.scored_request);
        self.pods -= 1;
        for port in &template.host_ports {
            if let Some(at) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(at);
            }
        }
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
    }

    /// A pod of this priority could evict something here.
    pub fn has_lower_priority(&self, priority: i32) -> bool {
        self.priorities.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }
}
