use k8s_openapi::api::core::v1::PodStatus;
use serde_json::json;
use skiff_reconcile::fixpoint::{Model, settle};

use super::*;
use crate::testing::{at, check, key, object, plan_of, run};

fn set(replicas: i32) -> ReplicaSet {
    object(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u-web", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c" }] } },
        },
    }))
}

fn pod(name: &str, owned: bool, label: &str) -> Pod {
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u-web",
        "controller": true, "blockOwnerDeletion": true }]);
    object(json!({
        "metadata": { "name": name, "namespace": "default", "labels": { "app": label },
            "ownerReferences": if owned { owner } else { json!([]) } },
        "spec": { "containers": [{ "name": "c" }], "nodeName": "n1" },
    }))
}

fn ready(pod: &mut Pod, since: i64) {
    let status = pod.status.get_or_insert_with(PodStatus::default);
    status.phase = Some("Running".into());
    status.conditions = Some(vec![object(json!({ "type": "Ready", "status": "True",
        "lastTransitionTime": at(since).to_string() }))]);
}

fn model(replicas: i32, pods: impl IntoIterator<Item = Pod>) -> Model {
    let mut model = Model::new();
    ReplicaSetController.watches().into_iter().for_each(|w| model.declare(w.codec));
    model.insert(set(replicas), at(0));
    pods.into_iter().for_each(|p| drop(model.insert(p, at(0))));
    model
}

const BUT: &[&str] = &["patch ReplicaSet/status", "event"];

#[test]
fn missing_pods_are_created_and_then_there_is_nothing_to_do() {
    let mut model = model(2, []);
    let plan = plan_of(&ReplicaSetController, &model, "web", at(0));
    check(
        &plan,
        &["patch"],
        "create Pod default/web-bbbbc\ncreate Pod default/web-bbbbd\n\
        event Normal SuccessfulCreate default/web: Created pod: web-bbbbc\n\
        event Normal SuccessfulCreate default/web: Created pod: web-bbbbd",
    );
    run(&mut model, &plan, at(0));
    settle(&ReplicaSetController, &mut model, &key("web"), at(0)).unwrap();
    check(&plan_of(&ReplicaSetController, &model, "web", at(0)), &[], "");
    let status = model.get::<ReplicaSet>(&key("web")).unwrap().status.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (2, None, Some(1)));
}

#[test]
fn the_least_useful_pods_go_first() {
    let mut pods = ["a", "b", "c", "d"].map(|n| pod(n, true, "web"));
    ready(&mut pods[0], 0);
    ready(&mut pods[1], 900);
    ready(&mut pods[2], 0);
    pods[2].metadata.annotations = Some([("controller.kubernetes.io/pod-deletion-cost".into(), "-1".into())].into());
    // In this order: not ready, cheap, young, and never the long-serving one.
    for (replicas, expected) in [(3, vec!["d"]), (2, vec!["d", "c"]), (1, vec!["d", "c", "b"])] {
        let plan = plan_of(&ReplicaSetController, &model(replicas, pods.clone()), "web", at(1000));
        let expected: Vec<_> = expected.iter().map(|n| format!("delete Pod default/{n}")).collect();
        check(&plan, BUT, &expected.join("\n"));
    }
}

#[test]
fn ended_and_deleted_pods_are_replaced() {
    let mut ended = pod("ended", true, "web");
    ended.status = Some(PodStatus { phase: Some("Failed".into()), ..PodStatus::default() });
    let mut going = pod("going", true, "web");
    going.metadata.deletion_timestamp = Some(seconds(at(1)));
    let model = model(1, [ended, going]);
    let plan = plan_of(&ReplicaSetController, &model, "web", at(2));
    check(&plan, BUT, "create Pod default/web-bbbbc");
}

#[test]
fn matching_orphans_are_adopted_and_strangers_released() {
    let mut model = model(2, [pod("orphan", false, "web"), pod("other", false, "db"), pod("gone", true, "db")]);
    let plan = plan_of(&ReplicaSetController, &model, "web", at(0));
    let lines: Vec<_> = plan.actions.iter().map(|a| a.to_string()).collect();
    assert!(lines[0].starts_with(r#"patch Pod default/gone {"metadata":{"ownerReferences":null}}"#), "{lines:?}");
    assert!(lines[1].starts_with("patch Pod default/orphan") && lines[1].contains(r#""uid":"u-web""#), "{lines:?}");
    // One is there already: one more is enough.
    assert_eq!(lines[2..], ["create Pod default/web-bbbbc"]);
    run(&mut model, &plan, at(0));
    settle(&ReplicaSetController, &mut model, &key("web"), at(0)).unwrap();
}

#[test]
fn a_pod_is_available_only_after_min_ready_seconds() {
    let mut young = pod("a", true, "web");
    ready(&mut young, 100);
    let mut model = model(1, [young]);
    model.change::<ReplicaSet>(&key("web"), |s| s.spec.min_ready_seconds = Some(10));
    let plan = plan_of(&ReplicaSetController, &model, "web", at(103));
    assert_eq!(plan.requeue, Some(Duration::from_secs(7)));
    run(&mut model, &plan, at(103));
    let available = |m: &Model| m.get::<ReplicaSet>(&key("web")).unwrap().status.clone().unwrap().available_replicas;
    assert_eq!(available(&model), None);
    let plan = plan_of(&ReplicaSetController, &model, "web", at(110));
    run(&mut model, &plan, at(110));
    assert_eq!(available(&model), Some(1));
}

#[test]
fn a_refused_creation_is_a_condition_until_the_number_is_right() {
    let mut model = model(1, []);
    let observed = ReplicaSetController.observe(&model, &key("web")).unwrap();
    let action =
        Action::Create { kind: skiff_reconcile::KindRef::of::<Pod>(), namespace: "default".into(), body: json!({}) };
    let refusal = Refusal { action: &action, message: "pods \"x\" is forbidden: exceeded quota" };
    let plan = ReplicaSetController.refused(&observed, &refusal, at(5));
    check(
        &plan,
        &["patch"],
        "event Warning FailedCreate default/web: Error creating: pods \"x\" is forbidden: exceeded quota",
    );
    run(&mut model, &plan, at(5));
    let reasons = |m: &Model| {
        let status = m.get::<ReplicaSet>(&key("web")).unwrap().status.clone().unwrap();
        status.conditions.unwrap_or_default().into_iter().filter_map(|c| c.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&model), ["FailedCreate"]);
    settle(&ReplicaSetController, &mut model, &key("web"), at(6)).unwrap();
    assert!(reasons(&model).is_empty());
}

#[test]
fn a_deleted_set_only_reports() {
    let mut model = model(3, [pod("a", true, "web")]);
    model.change::<ReplicaSet>(&key("web"), |s| {
        s.metadata.deletion_timestamp = Some(seconds(at(1)));
        s.metadata.finalizers = Some(vec!["foregroundDeletion".into()]);
    });
    check(&plan_of(&ReplicaSetController, &model, "web", at(2)), &["patch ReplicaSet/status"], "");
}
