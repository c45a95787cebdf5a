//! NodeResourcesFit: what pods of a node ask for never exceeds what the node offers; scores by what is left.

use crate::{
    Events, NodeState, Template, Verdict,
    framework::{MAX_SCORE, Normalize, Plugin, Points, Reason},
};

pub const TOO_MANY_PODS: &str = "Too many pods";
pub const INSUFFICIENT_CPU: &str = "Insufficient cpu";
pub const INSUFFICIENT_MEMORY: &str = "Insufficient memory";
pub const INSUFFICIENT_EPHEMERAL_STORAGE: &str = "Insufficient ephemeral-storage";

/// Which nodes are better, by CPU and memory with equal weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// The emptiest: spreads pods.
    #[default]
    LeastAllocated,
    /// The fullest: packs pods, leaves nodes empty.
    MostAllocated,
}

pub struct NodeResourcesFit {
    pub scoring: ScoringStrategy,
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn points(&self) -> Points {
        Points::FILTER.scored(Normalize::No)
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_ALLOCATABLE | Events::ASSIGNED_POD_DELETE | Events::POD_UPDATE
    }
    fn depends_on_pods(&self) -> bool {
        true
    }

    /// Names every resource that is short. More than the whole node can never fit, whatever is evicted.
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        let mut short: Vec<Reason> = Vec::new();
        let mut never = false;
        let mut check = |wanted: i64, allocatable: i64, used: i64, reason: fn(&str) -> Reason, name: &str| {
            if wanted > 0 && wanted > allocatable.saturating_sub(used) {
                short.push(reason(name));
                never |= wanted > allocatable;
            }
        };
        let (want, have, used) = (&pod.request, &node.allocatable, &node.requested);
        check(1, node.allocatable_pods, node.pods, |_| TOO_MANY_PODS.into(), "");
        check(want.milli_cpu, have.milli_cpu, used.milli_cpu, |_| INSUFFICIENT_CPU.into(), "");
        check(want.memory, have.memory, used.memory, |_| INSUFFICIENT_MEMORY.into(), "");
        check(
            want.ephemeral_storage,
            have.ephemeral_storage,
            used.ephemeral_storage,
            |_| INSUFFICIENT_EPHEMERAL_STORAGE.into(),
            "",
        );
        for (name, wanted) in &want.extended {
            let amount = |of: &crate::Resources| of.extended.get(name).copied().unwrap_or(0);
            check(*wanted, amount(have), amount(used), |name| format!("Insufficient {name}").into(), name);
        }
        match (short.is_empty(), never) {
            (true, _) => Verdict::Fit,
            (false, false) => Verdict::Unschedulable(short),
            (false, true) => Verdict::Unresolvable(short),
        }
    }

    fn score(&self, pod: &Template, node: &NodeState) -> i64 {
        let (want, used, have) = (&pod.scored_request, &node.scored_requested, &node.allocatable);
        let parts = [
            self.part(used.milli_cpu.saturating_add(want.milli_cpu), have.milli_cpu),
            self.part(used.memory.saturating_add(want.memory), have.memory),
        ];
        let (sum, count) = parts.iter().flatten().fold((0, 0), |(sum, count), part| (sum + part, count + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

impl NodeResourcesFit {
    /// 0 to 100, or `None` for a resource that the node does not have.
    fn part(&self, requested: i64, capacity: i64) -> Option<i64> {
        if capacity <= 0 {
            return None;
        }
        let share = |amount: i64| (i128::from(amount) * i128::from(MAX_SCORE) / i128::from(capacity)) as i64;
        Some(match self.scoring {
            ScoringStrategy::LeastAllocated if requested > capacity => 0,
            ScoringStrategy::LeastAllocated => share(capacity - requested),
            ScoringStrategy::MostAllocated => share(requested.min(capacity)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder, node, pod, state};

    const FIT: NodeResourcesFit = NodeResourcesFit { scoring: ScoringStrategy::LeastAllocated };

    fn verdict(wanted: PodBuilder, on: NodeBuilder, used: &[PodBuilder]) -> Verdict {
        let mut node = state(on);
        for other in used {
            node.add(&other.clone().info().template, 0);
        }
        FIT.filter(&wanted.info().template, &node)
    }

    #[test]
    fn names_every_resource_that_is_short() {
        let n = || node("n").cpu("2").memory("1Gi").pods(2).resource("example.com/gpu", "1");
        let cases = [
            (pod("a").cpu("2").memory("1Gi"), vec![], Verdict::Fit),
            (pod("a").cpu("1500m"), vec![pod("b").cpu("1")], Verdict::Unschedulable(vec![INSUFFICIENT_CPU.into()])),
            (pod("a").cpu("3"), vec![], Verdict::Unresolvable(vec![INSUFFICIENT_CPU.into()])),
            (
                pod("a").cpu("2").memory("1Gi"),
                vec![pod("b").cpu("1").memory("1Mi")],
                Verdict::Unschedulable(vec![INSUFFICIENT_CPU.into(), INSUFFICIENT_MEMORY.into()]),
            ),
            (pod("a"), vec![pod("b"), pod("c")], Verdict::Unschedulable(vec![TOO_MANY_PODS.into()])),
            (
                pod("a").resource("example.com/gpu", "1"),
                vec![pod("b").resource("example.com/gpu", "1")],
                Verdict::Unschedulable(vec!["Insufficient example.com/gpu".into()]),
            ),
            (
                pod("a").resource("ephemeral-storage", "1"),
                vec![],
                Verdict::Unresolvable(vec![INSUFFICIENT_EPHEMERAL_STORAGE.into()]),
            ),
            // Who asks for nothing fits where others have taken everything.
            (pod("a"), vec![pod("b").cpu("2").memory("1Gi")], Verdict::Fit),
        ];
        for (wanted, used, expected) in cases {
            assert_eq!(verdict(wanted, n(), &used), expected);
        }
    }

    #[test]
    fn least_allocated_spreads_and_most_allocated_packs() {
        let template = pod("a").cpu("1").memory("1Gi").info().template;
        let n = state(node("n").cpu("4").memory("4Gi"));
        assert_eq!(FIT.score(&template, &n), 75);
        assert_eq!(NodeResourcesFit { scoring: ScoringStrategy::MostAllocated }.score(&template, &n), 25);
    }
}
