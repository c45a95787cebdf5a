//! The cluster as the scheduler sees it, kept incrementally: every call costs a search by name, not a walk.
//!
//! What must stay true: the sums of a node equal the sums over its pods, whatever the order of calls; a pod counts
//! once, whether it is assumed, assigned, or both.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{Events, NodeState, PodInfo};

#[derive(Debug)]
struct Placed {
    node: Arc<str>,
    pod: PodInfo,
    /// Decided here, not yet seen in the API.
    assumed: bool,
    /// Of the object as it was last seen: while it stays, so does what the pod asks for.
    generation: Option<i64>,
}

/// Bounded by the nodes and assigned pods of the cluster: one entry each.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Sorted by name.
    nodes: Vec<NodeState>,
    /// By UID. Never iterated in a decision: its order is not defined.
    pods: HashMap<Arc<str>, Placed>,
}

impl Snapshot {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.find(name).ok().map(|at| &self.nodes[at])
    }
    /// The nodes that are candidates.
    pub fn node_count(&self) -> usize {
        self.nodes.iter().filter(|n| n.exists).count()
    }
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|p| p.assumed)
    }
    /// The node a pod occupies, assumed or assigned.
    pub fn node_of(&self, uid: &str) -> Option<&Arc<str>> {
        self.pods.get(uid).map(|p| &p.node)
    }

    /// A node was added or changed. Returns what changed for waiting pods (nothing for a heartbeat).
    pub fn upsert_node(&mut self, node: &Node) -> Events {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let at = self.slot(name);
        self.nodes[at].update(node)
    }

    /// The Node object is gone. Its pods keep counting until they are removed, should it return.
    pub fn remove_node(&mut self, name: &str) {
        let Ok(at) = self.find(name) else { return };
        if self.nodes[at].pods == 0 {
            self.nodes.remove(at);
        } else {
            let node = &mut self.nodes[at];
            let occupied = NodeState {
                requested: std::mem::take(&mut node.requested),
                scored_requested: std::mem::take(&mut node.scored_requested),
                pods: node.pods,
                host_ports: std::mem::take(&mut node.host_ports),
                priorities: std::mem::take(&mut node.priorities),
                ..NodeState::unknown(name)
            };
            *node = occupied;
        }
    }

    /// A pod of the API, of any state: counts while it has a node and has not ended. Confirms what was assumed.
    pub fn upsert_pod(&mut self, pod: &Pod, handler_of: impl Fn(&str) -> Option<String>) -> Events {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty());
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        match node {
            Some(_) if matches!(phase, Some("Succeeded" | "Failed")) => self.remove_pod(uid),
            Some(node) => {
                let generation = pod.metadata.generation;
                if let Some(placed) = self.pods.get_mut(uid)
                    && *placed.node == *node
                {
                    // What was assumed is what was bound: the spec cannot have changed in between. And most changes
                    // of a pod are of its status, which costs nothing here.
                    let unchanged = placed.assumed || (generation.is_some() && placed.generation == generation);
                    if unchanged {
                        placed.assumed = false;
                        placed.generation = generation;
                        return Events::NONE;
                    }
                }
                let events = self.add_assigned(PodInfo::new(pod, handler_of), node);
                if let Some(placed) = self.pods.get_mut(uid) {
                    placed.generation = generation;
                }
                events
            }
            None => Events::NONE,
        }
    }

    /// A pod that the API says is on `node`.
    pub fn add_assigned(&mut self, pod: PodInfo, node: &str) -> Events {
        match self.pods.get_mut(&pod.uid) {
            Some(placed) if *placed.node == *node && same_demand(&placed.pod, &pod) => {
                placed.assumed = false;
                Events::NONE
            }
            Some(_) => {
                self.remove_pod(&pod.uid.clone());
                self.place(pod, node, false);
                Events::ASSIGNED_POD_ADD | Events::ASSIGNED_POD_DELETE
            }
            None => {
                self.place(pod, node, false);
                Events::ASSIGNED_POD_ADD
            }
        }
    }

    /// A decision was made: the pod counts from now on. Undone with [`Snapshot::forget`] when its binding fails.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        self.remove_pod(&pod.uid);
        self.place(pod.clone(), node, true);
    }

    /// Undoes [`Snapshot::assume`]; nothing happens to a pod that the API has confirmed.
    pub fn forget(&mut self, uid: &str) -> Events {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { Events::NONE }
    }

    /// The pod was deleted or has ended.
    pub fn remove_pod(&mut self, uid: &str) -> Events {
        let Some(placed) = self.pods.remove(uid) else { return Events::NONE };
        if let Ok(at) = self.find(&placed.node) {
            self.nodes[at].remove(&placed.pod.template, placed.pod.priority);
            if !self.nodes[at].exists && self.nodes[at].pods == 0 {
                self.nodes.remove(at);
            }
        }
        Events::ASSIGNED_POD_DELETE
    }

    fn place(&mut self, pod: PodInfo, node: &str, assumed: bool) {
        let at = self.slot(node);
        self.nodes[at].add(&pod.template, pod.priority);
        let node = self.nodes[at].name.clone();
        self.pods.insert(pod.uid.clone(), Placed { node, pod, assumed, generation: None });
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.nodes.binary_search_by(|n| (*n.name).cmp(name))
    }
    fn slot(&mut self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|at| {
            self.nodes.insert(at, NodeState::unknown(name));
            at
        })
    }
}

/// A status change of an assigned pod must not wake the unschedulable ones.
fn same_demand(a: &PodInfo, b: &PodInfo) -> bool {
    a.priority == b.priority
        && (Arc::ptr_eq(&a.template, &b.template)
            || (a.template.request == b.template.request && a.template.host_ports == b.template.host_ports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn a_pod_counts_once_however_often_it_is_seen() {
        let mut snapshot = Snapshot::new();
        assert!(!snapshot.upsert_node(&node("n1").cpu("4").build()).is_empty());
        let a = pod("a").cpu("1");
        snapshot.assume(&a.clone().info(), "n1");
        assert!(snapshot.is_assumed("uid-a"));
        assert_eq!(snapshot.upsert_pod(&a.clone().on("n1").build(), |_| None), Events::NONE);
        assert!(!snapshot.is_assumed("uid-a"));
        // Confirmed: forget has nothing to undo, a status update changes nothing.
        assert_eq!(snapshot.forget("uid-a"), Events::NONE);
        assert_eq!(snapshot.upsert_pod(&a.clone().on("n1").phase("Running").build(), |_| None), Events::NONE);
        assert_eq!(snapshot.node("n1").unwrap().requested.milli_cpu, 1000);
        // A resize in place changes the generation, and what counts.
        let mut resized = pod("a").cpu("2").on("n1").build();
        resized.metadata.generation = Some(2);
        assert!(!snapshot.upsert_pod(&resized, |_| None).is_empty());
        assert_eq!(snapshot.upsert_pod(&resized, |_| None), Events::NONE);
        assert_eq!(snapshot.node("n1").unwrap().requested.milli_cpu, 2000);
        // It ends: its room is free, and only once.
        let done = a.on("n1").phase("Succeeded").build();
        assert_eq!(snapshot.upsert_pod(&done, |_| None), Events::ASSIGNED_POD_DELETE);
        assert_eq!(snapshot.upsert_pod(&done, |_| None), Events::NONE);
        assert_eq!((snapshot.node("n1").unwrap().requested.milli_cpu, snapshot.node("n1").unwrap().pods), (0, 0));
    }

    #[test]
    fn pods_may_arrive_before_their_node_and_outlive_it() {
        let mut snapshot = Snapshot::new();
        snapshot.upsert_pod(&pod("a").cpu("1").on("n1").build(), |_| None);
        assert_eq!(snapshot.node_count(), 0);
        snapshot.upsert_node(&node("n1").cpu("4").build());
        assert_eq!(snapshot.node("n1").unwrap().requested.milli_cpu, 1000);
        snapshot.remove_node("n1");
        assert_eq!(snapshot.node_count(), 0);
        snapshot.upsert_node(&node("n1").cpu("4").build());
        assert_eq!(snapshot.node("n1").unwrap().requested.milli_cpu, 1000);
        snapshot.remove_node("n1");
        snapshot.remove_pod("uid-a");
        assert!(snapshot.nodes().is_empty());
    }

    #[test]
    fn node_updates_say_what_changed() {
        let mut snapshot = Snapshot::new();
        snapshot.upsert_node(&node("n1").cpu("4").build());
        let cases = [
            (node("n1").cpu("4"), Events::NONE),
            (node("n1").cpu("8"), Events::NODE_ALLOCATABLE),
            (node("n1").cpu("8").label("a", "b"), Events::NODE_LABEL),
            (node("n1").cpu("8").label("a", "b").taint("k", "v", "NoSchedule"), Events::NODE_TAINT),
            (
                node("n1").cpu("8").label("a", "b").taint("k", "v", "NoSchedule").handlers(&["wasm"]),
                Events::NODE_RUNTIME,
            ),
        ];
        for (node, expected) in cases {
            assert_eq!(snapshot.upsert_node(&node.build()), expected);
        }
    }
}
