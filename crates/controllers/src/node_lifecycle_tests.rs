//! A node's life as its conditions and leases tell it, and the evictions that follow.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use skiff_reconcile::fixpoint::{Model, settle};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}
fn key() -> ObjectKey {
    ObjectKey::new("", "n1")
}
fn model(ready: Option<&str>) -> Model {
    let mut model = Model::new();
    let mut node = Node::default();
    node.metadata.name = Some("n1".into());
    let ready = ready.map(|status| NodeCondition {
        type_: "Ready".into(),
        status: status.into(),
        last_heartbeat_time: Some(Time(at(0))),
        ..NodeCondition::default()
    });
    node.status.get_or_insert_default().conditions = Some(ready.into_iter().collect());
    model.insert(node, at(0));
    model
}
fn heartbeat(model: &mut Model, seconds: i64) {
    let mut lease = Lease::default();
    lease.metadata.name = Some("n1".into());
    lease.metadata.namespace = Some(LEASE_NAMESPACE.into());
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(at(seconds)));
    model.insert(lease, at(0));
}
fn pod(model: &mut Model, name: &str, tolerations: Value) {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("default".into());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some("n1".into());
    spec.tolerations = serde_json::from_value(tolerations).expect("tolerations");
    model.insert(pod, at(0));
}
fn run(model: &mut Model, now: i64) -> Vec<Plan> {
    settle(&NodeLifecycleController { started: at(0) }, model, &key(), at(now)).expect("settles")
}
fn requeue(model: &Model, now: i64) -> Option<u64> {
    let controller = NodeLifecycleController { started: at(0) };
    let observed = controller.observe(model, &key()).expect("the node");
    let plan = controller.reconcile(&observed, at(now), &mut skiff_reconcile::fixpoint::CountingEntropy::default());
    plan.requeue.map(|r| r.as_secs())
}
fn tainted(model: &Model) -> String {
    let node = model.get::<Node>(&key()).expect("the node");
    let list: Vec<String> = taints(&node)
        .iter()
        .map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect))
        .collect();
    list.join(" ")
}
fn ready(model: &Model) -> String {
    let node = model.get::<Node>(&key()).expect("the node");
    condition(&node, "Ready").map_or("none".into(), |c| c.status.clone())
}
fn is_going(model: &Model, name: &str) -> bool {
    let pod = model.get::<Pod>(&ObjectKey::new("default", name)).expect("the pod");
    pod.metadata.deletion_timestamp.is_some()
}

#[test]
fn a_heartbeat_keeps_a_node_ready_and_its_absence_does_not() {
    let mut m = model(Some("True"));
    heartbeat(&mut m, 30);
    assert!(run(&mut m, 79).is_empty());
    assert_eq!(requeue(&m, 79), Some(1));
    assert_eq!(run(&mut m, 80).len(), 2, "the conditions, then the taints");
    assert_eq!((ready(&m).as_str(), tainted(&m).as_str()), ("Unknown", "unreachable:NoSchedule unreachable:NoExecute"));
    // It comes back: the node itself writes Ready, the taints go.
    heartbeat(&mut m, 100);
    m.change::<Node>(&key(), |node| {
        for c in node.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
            c.status = if c.type_ == "Ready" { "True" } else { "False" }.into();
        }
    });
    run(&mut m, 101);
    assert_eq!(tainted(&m), "");
}

#[test]
fn nothing_is_judged_soon_after_the_controller_started() {
    let mut m = model(Some("True"));
    let late = NodeLifecycleController { started: at(1000) };
    assert!(settle(&late, &mut m, &key(), at(1049)).expect("settles").is_empty());
    assert!(!settle(&late, &mut m, &key(), at(1050)).expect("settles").is_empty());
}

#[test]
fn a_node_that_is_not_ready_yet_takes_no_pods() {
    for (status, expected) in [
        (None, "not-ready:NoSchedule not-ready:NoExecute"),
        (Some("False"), "not-ready:NoSchedule not-ready:NoExecute"),
        (Some("True"), ""),
    ] {
        let mut m = model(status);
        run(&mut m, 1);
        assert_eq!(tainted(&m), expected, "Ready is {status:?}");
    }
}

#[test]
fn taints_of_others_stay_and_cordon_and_pressure_have_theirs() {
    let mut m = model(Some("True"));
    m.change::<Node>(&key(), |node| {
        let spec = node.spec.get_or_insert_default();
        spec.unschedulable = Some(true);
        let mine = Taint { key: "mine".into(), effect: NO_EXECUTE.into(), ..Taint::default() };
        let stale = Taint { key: UNREACHABLE.into(), effect: NO_EXECUTE.into(), ..Taint::default() };
        spec.taints = Some(vec![mine, stale]);
        let pressure =
            NodeCondition { type_: "DiskPressure".into(), status: "True".into(), ..NodeCondition::default() };
        node.status.get_or_insert_default().conditions.get_or_insert_default().push(pressure);
    });
    run(&mut m, 1);
    assert_eq!(tainted(&m), "mine:NoExecute disk-pressure:NoSchedule unschedulable:NoSchedule");
}

#[test]
fn pods_leave_a_silent_node_when_their_toleration_ends() {
    let mut m = model(Some("True"));
    let tolerate = |seconds: Option<i64>| json!([{ "key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }]);
    pod(&mut m, "at-once", json!([]));
    pod(&mut m, "later", tolerate(Some(300)));
    pod(&mut m, "never", tolerate(None));
    pod(&mut m, "everything", json!([{ "operator": "Exists" }]));
    pod(&mut m, "other", json!([{ "key": NOT_READY, "operator": "Exists" }]));
    run(&mut m, 50);
    let going = |m: &Model| ["at-once", "later", "never", "everything", "other"].map(|p| is_going(m, p));
    assert_eq!(going(&m), [true, false, false, false, true]);
    assert_eq!(requeue(&m, 60), Some(290));
    run(&mut m, 349);
    assert_eq!(going(&m), [true, false, false, false, true]);
    run(&mut m, 350);
    assert_eq!(going(&m), [true, true, false, false, true]);
    let evicted = m.get::<Pod>(&ObjectKey::new("default", "later")).expect("the pod");
    let conditions = evicted.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    assert_eq!(conditions[0].reason.as_deref(), Some("DeletionByTaintManager"));
}
