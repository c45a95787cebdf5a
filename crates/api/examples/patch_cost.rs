//! Measures what patches and the tracking of managed fields cost: `cargo run --release -p skiff-api --example
//! patch_cost`. Tracking runs on every write of every object.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{hint::black_box, time::Instant};

use serde_json::{Value, json};
use skiff_api::{
    kinds,
    patch::{apply, managed_fields, managed_fields::Writer, merge, strategic},
    schema,
};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-7d4b9c8f6d-x2x4z", "generateName": "web-7d4b9c8f6d-", "namespace": "default", "uid": "u",
            "resourceVersion": "1234", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app": "web", "pod-template-hash": "7d4b9c8f6d" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": {
            "containers": [{
                "name": "web", "image": "localhost/web:latest", "imagePullPolicy": "IfNotPresent",
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }, { "name": "C", "value": "3" }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets", "readOnly": true }],
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "serviceAccountName": "default", "serviceAccount": "default",
            "terminationGracePeriodSeconds": 30, "enableServiceLinks": true, "priority": 0,
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            ],
            "volumes": [{ "name": "token", "projected": { "defaultMode": 420, "sources": [{ "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } }] } }],
        },
        "status": { "phase": "Pending", "qosClass": "Burstable" },
    })
}

fn status() -> Value {
    let condition =
        |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z" });
    let conditions =
        ["PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "qosClass": "Burstable", "hostIP": "127.0.0.1", "podIP": "127.1.0.5",
        "podIPs": [{ "ip": "127.1.0.5" }], "hostIPs": [{ "ip": "127.0.0.1" }], "startTime": "2026-01-01T00:00:01Z",
        "conditions": conditions,
        "containerStatuses": [{ "name": "web", "image": "localhost/web:latest", "imageID": "sha256:0", "containerID": "wasm://1",
            "ready": true, "started": true, "restartCount": 0, "state": { "running": { "startedAt": "2026-01-01T00:00:01Z" } } }],
    })
}

/// Runs `work` on fresh copies of `input`, whose making is not measured; prints the median.
fn measure<T: Clone>(what: &str, input: &T, mut work: impl FnMut(&mut T)) {
    let mut times: Vec<_> = (0..5000)
        .map(|_| {
            let mut copy = black_box(input.clone());
            let begin = Instant::now();
            work(&mut copy);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{what:50} {:7.1} us", times[times.len() / 2].as_secs_f64() * 1e6);
}

fn main() {
    let kind = kinds::find_kind("", "v1", "Pod").unwrap();
    let schema = schema::of(kind);
    let writer = |manager, subresource, now| Writer { manager, api_version: "v1", subresource, now };
    let mut created = pod();
    managed_fields::update(schema, None, &mut created, &writer("skiff", "", "2026-01-01T00:00:00Z"));
    let mut running = created.clone();
    running["status"] = status();
    measure("track a create", &pod(), |pod| {
        managed_fields::update(schema, None, pod, &writer("skiff", "", "2026-01-01T00:00:00Z"));
    });
    measure("track the first status", &running, |pod| {
        managed_fields::update(schema, Some(&created), pod, &writer("node", "status", "2026-01-01T00:00:01Z"));
    });
    managed_fields::update(schema, Some(&created), &mut running, &writer("node", "status", "2026-01-01T00:00:01Z"));
    let mut ended = running.clone();
    ended["status"]["phase"] = "Succeeded".into();
    ended["status"]["conditions"][4]["status"] = "False".into();
    ended["status"]["conditions"][4]["lastTransitionTime"] = "2026-01-01T00:00:09Z".into();
    ended["status"]["containerStatuses"][0]["state"] = json!({ "terminated": { "exitCode": 0 } });
    measure("track a change of the status", &ended, |pod| {
        managed_fields::update(schema, Some(&running), pod, &writer("node", "status", "2026-01-01T00:00:09Z"));
    });
    measure("track what changed nothing", &running, |pod| {
        managed_fields::update(schema, Some(&running), pod, &writer("node", "status", "2026-01-01T00:00:09Z"));
    });
    let patch = json!({ "status": ended["status"] });
    measure("merge patch of the status", &running, |pod| merge::apply(patch.clone(), pod).unwrap());
    measure("strategic patch of the status", &running, |pod| strategic::apply(schema, patch.clone(), pod).unwrap());
    let applied = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "spec": pod()["spec"] });
    measure("apply the spec", &running, |pod| {
        *pod = apply::apply(kind, schema, Some(pod), applied.clone(), &writer("me", "", "2026-01-01T00:00:09Z"), true)
            .unwrap();
    });
    let text = running.to_string();
    measure("for comparison: parse the pod", &text, |text| {
        drop(black_box(serde_json::from_str::<Value>(text).unwrap()))
    });
}
