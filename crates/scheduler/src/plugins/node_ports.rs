//! NodePorts: no two pods of a node ask for the same host port.

use crate::{
    Events, NodeState, Template, Verdict,
    framework::{Plugin, Points},
};

pub const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn points(&self) -> Points {
        Points::FILTER
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::ASSIGNED_POD_DELETE
    }
    fn depends_on_pods(&self) -> bool {
        true
    }
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        let taken = pod.host_ports.iter().any(|wanted| node.host_ports.iter().any(|used| used.conflicts(wanted)));
        if taken { Verdict::Unschedulable(vec![REASON.into()]) } else { Verdict::Fit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, state};

    #[test]
    fn ports_conflict_by_address_protocol_and_number() {
        let mut busy = state(node("n"));
        busy.add(&pod("a").host_port("10.0.0.1", "TCP", 80).info().template, 0);
        let fit = |ip, protocol, port| {
            NodePorts.filter(&pod("b").host_port(ip, protocol, port).info().template, &busy).is_fit()
        };
        assert!(!fit("10.0.0.1", "TCP", 80));
        assert!(!fit("", "TCP", 80));
        assert!(!fit("0.0.0.0", "TCP", 80));
        assert!(fit("10.0.0.2", "TCP", 80));
        assert!(fit("10.0.0.1", "UDP", 80));
        assert!(fit("10.0.0.1", "TCP", 81));
    }
}
