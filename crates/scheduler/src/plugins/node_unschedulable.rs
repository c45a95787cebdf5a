//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::{
    Events, NodeState, Template, Verdict,
    framework::{Plugin, Points},
};

pub const REASON: &str = "node(s) were unschedulable";
const TAINT_KEY: &str = "node.kubernetes.io/unschedulable";

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn points(&self) -> Points {
        Points::FILTER
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_TAINT | Events::POD_UPDATE
    }
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        if !node.unschedulable {
            return Verdict::Fit;
        }
        let taint = Taint { key: TAINT_KEY.into(), effect: "NoSchedule".into(), time_added: None, value: None };
        if pod.tolerations.iter().any(|t| tolerates(t, &taint)) {
            Verdict::Fit
        } else {
            Verdict::Unresolvable(vec![REASON.into()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fits, node, pod};

    #[test]
    fn cordoned_nodes_take_only_those_who_tolerate_it() {
        assert!(fits(&NodeUnschedulable, pod("a"), node("n")));
        assert!(!fits(&NodeUnschedulable, pod("a"), node("n").cordoned()));
        assert!(fits(&NodeUnschedulable, pod("a").tolerate(TAINT_KEY, "Exists", "", ""), node("n").cordoned()));
    }
}
