//! The quality-of-service class of a pod.

use serde_json::Value;

use crate::object::{entries, get, has, items};
use crate::quantity::Quantity;

/// `Guaranteed` when every container limits cpu and memory and asks for as much, `BestEffort` when none asks for or
/// limits either, else `Burstable`. The pod's own resources, where set, decide instead of the containers'.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut totals = Totals { every_one_limited: true, ..Totals::default() };
    if has(spec, "resources") && ["limits", "requests"].iter().any(|k| has(&spec["resources"], k)) {
        totals.add(get(spec, "resources"));
    } else {
        for c in items(spec, "containers").iter().chain(items(spec, "initContainers")) {
            totals.add(get(c, "resources"));
        }
    }
    let none = |amounts: [Quantity; 2]| amounts.iter().all(Quantity::is_zero);
    if none(totals.requests) && none(totals.limits) {
        "BestEffort"
    } else if totals.every_one_limited && totals.requests == totals.limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Sums of cpu and memory.
#[derive(Default)]
struct Totals {
    requests: [Quantity; 2],
    limits: [Quantity; 2],
    every_one_limited: bool,
}

impl Totals {
    fn add(&mut self, resources: &Value) {
        Self::add_list(&mut self.requests, resources, "requests");
        let limited = Self::add_list(&mut self.limits, resources, "limits");
        self.every_one_limited &= limited == 2;
    }
    /// How many of the two are above zero.
    fn add_list(sums: &mut [Quantity; 2], resources: &Value, list: &str) -> usize {
        let mut found = 0;
        for (name, amount) in entries(resources, list) {
            let slot = match name {
                "cpu" => 0,
                "memory" => 1,
                _ => continue,
            };
            let amount = Quantity::from_json(amount).unwrap_or_default();
            if amount > Quantity::ZERO {
                sums[slot] += amount;
                found += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        for (resources, expected) in [
            (vec![json!({})], "BestEffort"),
            (vec![json!({"requests": {"cpu": "0"}})], "BestEffort"),
            (vec![json!({"requests": {"example.com/gpu": "1"}})], "BestEffort"),
            (vec![json!({"requests": {"cpu": "1"}})], "Burstable"),
            (vec![full.clone()], "Guaranteed"),
            (vec![full.clone(), full.clone()], "Guaranteed"),
            (vec![full.clone(), json!({})], "Burstable"),
            (
                vec![json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}})],
                "Burstable",
            ),
        ] {
            let containers: Vec<_> = resources.iter().map(|r| json!({ "resources": r })).collect();
            assert_eq!(qos_class(&json!({ "containers": containers })), expected, "{resources:?}");
        }
    }
}
