//! Builders and checks for the tests of controllers.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use skiff_reconcile::{
    Controller, ObjectKey, Plan,
    fixpoint::{CountingEntropy, Model},
};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// The plan for `default/NAME` in this model; empty when the object is gone.
pub fn plan_of<C: Controller>(controller: &C, model: &Model, name: &str, now: Timestamp) -> Plan {
    let observed = controller.observe(model, &key(name));
    observed.map_or_else(Plan::default, |o| controller.reconcile(&o, now, &mut CountingEntropy::default()))
}

/// Compares the plan line by line; lines of the plan that begin with one of `but` are left out.
#[track_caller]
pub fn check(plan: &Plan, but: &[&str], expected: &str) {
    let text = plan.to_string();
    let lines: Vec<&str> = text.lines().filter(|l| !but.iter().any(|b| l.starts_with(b))).collect();
    assert_eq!(lines.join("\n"), expected);
}

/// Executes the plan; what the model refuses is a failed test.
#[track_caller]
pub fn run(model: &mut Model, plan: &Plan, now: Timestamp) {
    for action in plan.actions.iter().chain(&plan.status) {
        model.apply(action, now).unwrap_or_else(|e| panic!("{action}: {e}"));
    }
}
