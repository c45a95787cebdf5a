//! NodeAffinity: nodeSelector and required node affinity filter, preferred node affinity scores.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::{
    Events, NodeState, Template, Verdict,
    framework::{Normalize, Plugin, Points},
};

pub const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn points(&self) -> Points {
        Points::FILTER.scored(Normalize::ByHighest)
    }
    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_LABEL | Events::POD_UPDATE
    }
    fn filter(&self, pod: &Template, node: &NodeState) -> Verdict {
        let selected = pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let required = || pod.required_terms.as_ref().is_none_or(|terms| terms.iter().any(|t| matches(t, node)));
        if selected && required() { Verdict::Fit } else { Verdict::Unresolvable(vec![REASON.into()]) }
    }
    /// The sum of the weights of the preferences that the node meets.
    fn score(&self, pod: &Template, node: &NodeState) -> i64 {
        pod.preferred_terms.iter().filter(|(_, term)| matches(term, node)).map(|(weight, _)| i64::from(*weight)).sum()
    }
}

/// All requirements of a term must hold; a term without any matches nothing.
fn matches(term: &NodeSelectorTerm, node: &NodeState) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && holds(r, Some(&node.name));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, node.labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |actual: &str| values.iter().any(|v| v == actual);
    let numbers = || Some((actual?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(listed),
        "NotIn" => !actual.is_some_and(listed),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => numbers().is_some_and(|(actual, bound)| actual > bound),
        "Lt" => numbers().is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fits, node, pod};

    #[test]
    fn node_selector_needs_every_label() {
        let n = || node("n").label("zone", "a").label("disk", "ssd");
        assert!(fits(&NodeAffinity, pod("a").node_selector("zone", "a").node_selector("disk", "ssd"), n()));
        assert!(!fits(&NodeAffinity, pod("a").node_selector("zone", "a").node_selector("disk", "hdd"), n()));
    }

    #[test]
    fn each_operator_means_what_the_api_says() {
        let cases: &[(&str, &str, &[&str], bool)] = &[
            ("zone", "In", &["a", "b"], true),
            ("zone", "In", &["b"], false),
            ("zone", "NotIn", &["b"], true),
            ("gone", "NotIn", &["b"], true),
            ("zone", "Exists", &[], true),
            ("gone", "Exists", &[], false),
            ("gone", "DoesNotExist", &[], true),
            ("cores", "Gt", &["3"], true),
            ("cores", "Gt", &["4"], false),
            ("cores", "Lt", &["5"], true),
            ("zone", "Lt", &["5"], false),
            ("zone", "Near", &["a"], false),
        ];
        for (key, operator, values, expected) in cases {
            let n = node("n").label("zone", "a").label("cores", "4");
            assert_eq!(fits(&NodeAffinity, pod("a").require(key, operator, values), n), *expected, "{key} {operator}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_none_matches_nothing() {
        let either = pod("a").require("zone", "In", &["x"]).or_require("zone", "In", &["a"]);
        assert!(fits(&NodeAffinity, either, node("n").label("zone", "a")));
        assert!(!fits(&NodeAffinity, pod("a").require_nothing(), node("n")));
        assert!(fits(&NodeAffinity, pod("a").require_node("n"), node("n")));
        assert!(!fits(&NodeAffinity, pod("a").require_node("n"), node("m")));
    }

    #[test]
    fn preferences_add_their_weights() {
        let template = pod("a").prefer(10, "zone", "In", &["a"]).prefer(5, "disk", "Exists", &[]).info().template;
        let both = crate::testing::state(node("n").label("zone", "a").label("disk", "ssd"));
        let one = crate::testing::state(node("n").label("disk", "ssd"));
        assert_eq!((NodeAffinity.score(&template, &both), NodeAffinity.score(&template, &one)), (15, 5));
    }
}
