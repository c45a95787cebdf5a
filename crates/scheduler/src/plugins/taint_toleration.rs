//! TaintToleration: a node's taints keep out pods that do not tolerate them; PreferNoSchedule only lowers the score.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::{
    Events, NodeState, Template, Verdict,
    framework::{Normalize, Plugin, Points},
};

pub const REASON: &str = "node(s) had untolerated taint(s)";

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn points(&self) -> Points {
        Points::FILTER.scored(Normalize::ByHighestReversed)
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_TAINT | Events::POD_UPDATE
    }
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        match node.taints.iter().filter(repels).all(|taint| pod.tolerations.iter().any(|t| tolerates(t, taint))) {
            true => Verdict::Fit,
            false => Verdict::Unresolvable(vec![REASON.into()]),
        }
    }
    /// How many taints the pod would rather avoid.
    fn score(&self, pod: &Template, node: &NodeState) -> i64 {
        let avoided =
            |taint: &&Taint| taint.effect == "PreferNoSchedule" && !pod.tolerations.iter().any(|t| tolerates(t, taint));
        node.taints.iter().filter(avoided).count() as i64
    }
}

/// As the API documents Toleration: an empty key with Exists tolerates all keys, an empty effect all effects; Lt and
/// Gt compare the taint's value with the toleration's as whole numbers.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    fn text(value: &Option<String>) -> &str {
        value.as_deref().unwrap_or_default()
    }
    let (effect, key, value) = (text(&toleration.effect), text(&toleration.key), text(&toleration.value));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let numbers = || Some((text(&taint.value).parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    match text(&toleration.operator) {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && value == text(&taint.value),
        "Lt" => numbers().is_some_and(|(taint, own)| taint < own),
        "Gt" => numbers().is_some_and(|(taint, own)| taint > own),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fits, node, pod};

    #[test]
    fn tolerations_match_by_key_operator_value_and_effect() {
        let cases = [
            // key, operator, value, effect of the toleration; does it tolerate `team=red:NoSchedule`?
            (("team", "Equal", "red", "NoSchedule"), true),
            (("team", "", "red", ""), true),
            (("team", "Equal", "blue", ""), false),
            (("team", "Exists", "", "NoExecute"), false),
            (("team", "Exists", "", ""), true),
            (("", "Exists", "", ""), true),
            (("other", "Exists", "", ""), false),
            (("team", "Gt", "5", ""), false),
        ];
        for ((key, operator, value, effect), expected) in cases {
            let pod = pod("a").tolerate(key, operator, value, effect);
            let fit = fits(&TaintToleration, pod, node("n").taint("team", "red", "NoSchedule"));
            assert_eq!(fit, expected, "{key} {operator} {value} {effect}");
        }
    }

    #[test]
    fn numeric_tolerations_compare_the_taint_with_their_value() {
        let level = |operator| {
            fits(
                &TaintToleration,
                pod("a").tolerate("sla", operator, "950", ""),
                node("n").taint("sla", "900", "NoExecute"),
            )
        };
        assert!(level("Lt"));
        assert!(!level("Gt"));
    }

    #[test]
    fn prefer_no_schedule_never_filters() {
        assert!(fits(&TaintToleration, pod("a"), node("n").taint("k", "v", "PreferNoSchedule")));
    }
}
