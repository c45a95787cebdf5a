//! NodeName: a pod that names a node goes there or nowhere.

use crate::{
    Events, NodeState, Template, Verdict,
    framework::{Plugin, Points},
};

pub const REASON: &str = "node(s) didn't match the requested node name";

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn points(&self) -> Points {
        Points::FILTER
    }
    fn events(&self) -> Events {
        Events::NODE_ADD
    }
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        match &pod.node_name {
            Some(name) if **name != *node.name => Verdict::Unresolvable(vec![REASON.into()]),
            _ => Verdict::Fit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fits, node, pod};

    #[test]
    fn only_the_named_node_fits() {
        assert!(fits(&NodeName, pod("a").on("n1"), node("n1")));
        assert!(fits(&NodeName, pod("a"), node("n2")));
        assert!(!fits(&NodeName, pod("a").on("n1"), node("n2")));
    }
}
