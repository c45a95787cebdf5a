//! A node's stories, in process, against the fake runtime and the real API server.

mod cluster;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use cluster::{Cluster, summary};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PodStatus, Secret};
use serde_json::json;
use skiff_reconcile::{KindRef, ObjectKey};
use skiff_runtime::{Runtime, SandboxConfig, fake::FakeRuntime};

#[tokio::test]
async fn a_bound_pod_runs_to_its_end() {
    let c = Cluster::start().await;
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x:1" }] });
    c.run("job", spec, json!({ "fake.skiff.dev/exit-after": "20ms" })).await;
    let running = c.phase("job", "Running").await;
    assert_eq!(summary(&running), "Running; a=running x0");
    let status = running.status.clone().expect("a status");
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    assert!(
        status.container_statuses.expect("statuses")[0].container_id.clone().expect("an id").starts_with("fake://")
    );
    let done = c.phase("job", "Succeeded").await;
    assert_eq!(summary(&done), "Succeeded; a=Completed(0) x0");
    for (reason, text) in [
        ("Pulled", "Container image \"x:1\" already present on machine"),
        ("Created", "Container created"),
        ("Started", "Container started"),
    ] {
        c.event("job", reason, text).await;
    }
}

#[tokio::test]
async fn a_node_registers_with_what_it_has() {
    let c = Cluster::with(|config| {
        config.capacity.insert("cpu".into(), "7".into());
        config.labels.insert("zone".into(), "a".into());
        config.pods_max = Some(5);
    })
    .await;
    let node: Node = c.rest.get(&KindRef::of::<Node>(), &ObjectKey::new("", "node-1")).await.expect("a node");
    let labels = node.metadata.labels.expect("labels");
    assert_eq!((labels["zone"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("a", "node-1"));
    let status = node.status.expect("a status");
    let allocatable = status.allocatable.expect("allocatable");
    assert_eq!((allocatable["cpu"].0.as_str(), allocatable["pods"].0.as_str()), ("7", "5"));
    let conditions = status.conditions.expect("conditions");
    let ready = conditions.iter().find(|c| c.type_ == "Ready").expect("Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
    let handlers = status.runtime_handlers.expect("handlers");
    assert!(handlers.iter().any(|h| h.name.as_deref() == Some("wasmtime")));
}

#[tokio::test]
async fn a_deleted_pod_ends_and_leaves_the_api() {
    let c = Cluster::start().await;
    c.run("web", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("web", "Running").await;
    c.delete("web", 30).await;
    c.gone("web").await;
    c.event("web", "Killing", "Stopping container a").await;
}

#[tokio::test]
async fn a_missing_config_map_is_waited_for_and_used_at_once() {
    let c = Cluster::start().await;
    let env = json!([{ "name": "K", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "k" } } }]);
    c.run("app", json!({ "containers": [{ "name": "a", "image": "x", "env": env }] }), json!({})).await;
    let waiting = |s: &PodStatus| {
        let state = s.container_statuses.as_ref().and_then(|c| c[0].state.clone()).and_then(|s| s.waiting);
        state.is_some_and(|w| w.reason.as_deref() == Some("CreateContainerConfigError"))
    };
    c.until("app", "waiting for its configuration", waiting).await;
    c.event("app", "Failed", "configmap \"c\" not found").await;
    c.create(
        KindRef::of::<ConfigMap>(),
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "c", "namespace": "default" }, "data": { "k": "v" } }),
    )
    .await;
    assert_eq!(summary(&*c.phase("app", "Running").await), "Running; a=running x0");
}

#[tokio::test]
async fn an_object_that_is_forced_away_is_cleaned_up() {
    let c = Cluster::start().await;
    c.run("web", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("web", "Running").await;
    c.delete("web", 0).await;
    c.gone("web").await;
    c.event("web", "Killing", "Stopping container a").await;
}

#[tokio::test]
async fn a_new_process_goes_on_by_restart_policy() {
    let mut c = Cluster::start().await;
    for (name, policy) in [("web", "Always"), ("job", "Never")] {
        c.run(name, json!({ "restartPolicy": policy, "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
        c.phase(name, "Running").await;
    }
    c.restart_node(FakeRuntime::new()).await;
    let restarted =
        |s: &PodStatus| s.container_statuses.as_ref().is_some_and(|c| c[0].restart_count == 1 && c[0].ready);
    let web = c.until("web", "running again", restarted).await;
    let last = web.status.clone().and_then(|s| s.container_statuses).expect("statuses")[0].last_state.clone();
    let last = last.and_then(|l| l.terminated).expect("it ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(summary(&*c.phase("job", "Failed").await), "Failed; a=ContainerStatusUnknown(137) x0");
}

#[tokio::test]
async fn what_went_while_the_node_was_away_is_removed() {
    let mut c = Cluster::start().await;
    let web = c.run("web", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("web", "Running").await;
    let left = c.dir.path().join("node/pods").join(web.metadata.uid.expect("a uid"));
    std::fs::create_dir_all(&left).expect("made");
    c.node.shutdown(std::time::Duration::ZERO).await;
    c.delete("web", 0).await;
    c.gone("web").await;
    let runtime = FakeRuntime::new();
    let config = SandboxConfig { name: "web".into(), uid: "long-gone".into(), ..SandboxConfig::default() };
    runtime.run_sandbox(config).await.expect("made");
    c.restart_node(runtime.clone()).await;
    // The node works on its pods only after it has cleaned up.
    c.run("next", json!({ "containers": [{ "name": "a", "image": "x" }] }), json!({})).await;
    c.phase("next", "Running").await;
    assert!(!left.exists());
    let sandboxes = runtime.list_sandboxes().await.expect("listed");
    assert_eq!(sandboxes.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off() {
    let (begin, base) = (tokio::time::Instant::now(), jiff::Timestamp::now());
    // No two looks at the clock are the same, as with a real one: names of events depend on it.
    let looks = AtomicI64::new(0);
    let clock = Arc::new(move || {
        let passed = jiff::SignedDuration::try_from(begin.elapsed()).expect("short");
        base + passed + jiff::SignedDuration::from_nanos(looks.fetch_add(1, Ordering::Relaxed))
    });
    let c = Cluster::with(|config| config.clock = clock).await;
    let spec = json!({ "containers": [{ "name": "a", "image": "x" }] });
    c.run("loop", spec, json!({ "fake.skiff.dev/exit-code": "3" })).await;
    let waits = |s: &PodStatus| {
        let of = s.container_statuses.as_ref().map(|c| c[0].clone()).unwrap_or_default();
        let reason = of.state.and_then(|s| s.waiting).and_then(|w| w.reason);
        of.restart_count >= 3 && reason.as_deref() == Some("CrashLoopBackOff")
    };
    let pod = c.until("loop", "in its third back-off", waits).await;
    assert_eq!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Running"));
    assert!(begin.elapsed().as_secs() >= 20, "10 and 20 seconds of waiting");
    c.event("loop", "BackOff", "Back-off restarting failed container a in pod loop_default(").await;
}

#[tokio::test]
async fn logs_are_served_and_followed() {
    let c = Cluster::start().await;
    let note = json!({ "fake.skiff.dev/print-lines": "3", "fake.skiff.dev/exit-after": "300ms" });
    c.run("talks", json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] }), note).await;
    c.phase("talks", "Running").await;
    // Ends when the container does.
    let (code, text) = c.ask("GET", "/containerLogs/default/talks/a?follow=true").await;
    assert_eq!((code, text.as_str()), (200, "line 0\nline 1\nline 2\n"));
    assert_eq!(c.ask("GET", "/containerLogs/default/talks/a?tailLines=1").await.1, "line 2\n");
    c.phase("talks", "Succeeded").await;
    assert_eq!(c.ask("GET", "/containerLogs/default/talks/a?limitBytes=8").await.1, "line 0\nl");
    let missing = "previous terminated container \"a\" in pod \"talks\" not found";
    assert_eq!(c.ask("GET", "/containerLogs/default/talks/a?previous=true").await, (400, missing.to_owned()));
    let wrong = "container \"b\" in pod \"talks\" is not available";
    assert_eq!(c.ask("GET", "/containerLogs/default/talks/b").await, (400, wrong.to_owned()));
    assert_eq!(c.ask("GET", "/containerLogs/default/none/a").await.0, 404);
    assert_eq!(c.ask("GET", "/healthz").await, (200, "ok".to_owned()));
    assert!(c.ask("GET", "/pods").await.1.contains("\"name\":\"talks\""));
    assert!(c.ask("GET", "/metrics").await.1.contains("kubelet_running_pods 1"));
    assert_eq!(c.ask("POST", "/skiff/v1/images").await.0, 400, "a reference is needed");
    assert!(c.ask("POST", "/skiff/v1/images?reference=localhost/a:1").await.1.contains("localhost/a:1"));
}

#[tokio::test]
async fn volumes_hold_what_the_api_keeps() {
    let c = Cluster::start().await;
    let meta = |name: &str| json!({ "name": name, "namespace": "default" });
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("c"), "data": { "k": "v" } });
    c.create(KindRef::of::<ConfigMap>(), map).await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "stringData": { "pw": "x" } });
    c.create(KindRef::of::<Secret>(), secret).await;
    let projected = json!({ "sources": [
        { "configMap": { "name": "c", "items": [{ "key": "k", "path": "dir/k2" }] } }, { "secret": { "name": "s" } },
        { "downwardAPI": { "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } },
    ] });
    let spec = json!({ "containers": [{ "name": "a", "image": "x" }],
        "volumes": [{ "name": "all", "projected": projected }, { "name": "map", "configMap": { "name": "c" } },
            { "name": "empty", "emptyDir": {} }] });
    let pod = c.run("app", spec, json!({})).await;
    c.phase("app", "Running").await;
    let volumes = c.dir.path().join("node/pods").join(pod.metadata.uid.expect("a uid")).join("volumes");
    let read = |path: &str| std::fs::read_to_string(volumes.join(path)).expect(path);
    assert_eq!(
        [read("projected/all/dir/k2"), read("projected/all/pw"), read("projected/all/name"), read("configmap/map/k")],
        ["v", "x", "app", "v"]
    );
    assert!(volumes.join("empty-dir/empty").is_dir());
    c.delete("app", 1).await;
    c.gone("app").await;
}

#[tokio::test]
async fn a_volume_that_this_node_cannot_make_is_said_so() {
    let c = Cluster::start().await;
    let volume = json!({ "name": "d", "persistentVolumeClaim": { "claimName": "c" } });
    c.run("db", json!({ "containers": [{ "name": "a", "image": "x" }], "volumes": [volume] }), json!({})).await;
    c.event("db", "FailedMount", "persistentVolumeClaim volumes are not supported yet").await;
    assert_eq!(summary(&*c.phase("db", "Pending").await), "Pending; a=ContainerCreating x0");
}

#[tokio::test]
async fn a_pod_too_many_is_refused() {
    let c = Cluster::with(|config| config.pods_max = Some(1)).await;
    let spec = json!({ "containers": [{ "name": "a", "image": "x" }] });
    c.run("one", spec.clone(), json!({})).await;
    c.phase("one", "Running").await;
    c.run("two", spec, json!({})).await;
    let refused = c.phase("two", "Failed").await;
    assert_eq!(refused.status.as_ref().and_then(|s| s.reason.as_deref()), Some("OutOfpods"));
}

#[tokio::test]
async fn init_containers_and_sidecars_run_in_order() {
    let c = Cluster::start().await;
    let side = json!({ "name": "side", "image": "x", "restartPolicy": "Always" });
    let init = json!({ "name": "init", "image": "x", "args": ["--exit-code=0"] });
    let main = json!({ "name": "main", "image": "x", "args": ["--exit-after=30ms", "--exit-code=0"] });
    let spec = json!({ "restartPolicy": "Never", "initContainers": [init, side], "containers": [main] });
    c.run("app", spec, json!({})).await;
    let done = c.phase("app", "Succeeded").await;
    assert_eq!(summary(&done), "Succeeded; init=Completed(0) x0; side=Error(143) x0; main=Completed(0) x0");
}
