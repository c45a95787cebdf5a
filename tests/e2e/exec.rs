//! Into a running container and back out: exec, attach, cp, and what the node runs in it by itself (probes and hooks).

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::{Done, Kubectl, finish, wasm, wat};

/// A pod `p` of the program that does what its arguments say.
fn pod(args: &[&str], extra: Value) -> Pod {
    let mut container = json!({
        "name": "main", "image": "localhost/obey:latest", "imagePullPolicy": "IfNotPresent", "args": args,
    });
    for (key, value) in extra.as_object().unwrap() {
        container[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "spec": {
            "runtimeClassName": "wasm", "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    }))
    .unwrap()
}

async fn start() -> Cluster {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/obey:latest", wat("obey.wat")).await.unwrap();
    cluster
}

fn pods(cluster: &Cluster) -> Api<Pod> {
    Api::default_namespaced(cluster.client())
}

async fn create(cluster: &Cluster, pod: &Pod) {
    pods(cluster).create(&PostParams::default(), pod).await.unwrap();
}

async fn runs(cluster: &Cluster, pod: &Pod) {
    create(cluster, pod).await;
    eventually!(phase(cluster).await == "Running");
}

async fn phase(cluster: &Cluster) -> String {
    let pod = pods(cluster).get("p").await.unwrap();
    pod.status.and_then(|s| s.phase).unwrap_or_default()
}

/// Whether an event of this reason is there, with this in its message.
async fn said(cluster: &Cluster, reason: &str, message: &str) -> bool {
    let events = Api::<Event>::default_namespaced(cluster.client()).list(&Default::default()).await.unwrap();
    events
        .items
        .iter()
        .any(|e| e.reason.as_deref() == Some(reason) && e.message.as_deref().unwrap_or("").contains(message))
}

fn data() -> Value {
    json!([{ "name": "data", "mountPath": "/data" }])
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_runs_in_a_container() {
    let cluster = start().await;
    let Some(k) = Kubectl::of(&cluster) else { return };
    let extra = json!({ "env": [{ "name": "COLOUR", "value": "blue" }], "volumeMounts": data() });
    runs(&cluster, &pod(&["sleep"], extra)).await;
    assert_eq!(k.ok(&["exec", "p", "--", "obey", "args", "one", "two words"]).await, "one\ntwo words\n");
    let both = k.run(&["exec", "p", "-c", "main", "--", "obey", "both"], "").await;
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(k.ok_with(&["exec", "-i", "p", "--", "obey", "input"], "typed\n").await, "typed\n");
    let mut failing = k.command(&["exec", "p", "--", "obey", "quit", "7"]);
    assert_eq!(failing.output().await.unwrap().status.code(), Some(7));
    k.ok(&["exec", "p", "--", "obey", "write", "/data/note", "kept"]).await;
    assert_eq!(k.ok(&["exec", "p", "--", "@cat", "/data/note"]).await, "kept");
    assert_eq!(k.ok(&["exec", "p", "--", "@ls", "/data"]).await, "note\n");
    assert!(k.ok(&["exec", "p", "--", "@stat", "/data/note"]).await.contains("Size: 4"));
    assert!(k.ok(&["exec", "p", "--", "@env"]).await.contains("COLOUR=blue\n"));
    assert!(k.ok(&["exec", "p", "--", "@ps"]).await.contains("sleep"));
    assert!(k.ok(&["exec", "p", "--", "@top"]).await.contains("memory"));
    let missing = k.fails(&["exec", "p", "--", "@cat", "/nothing"], "").await;
    assert!(missing.contains("cat: /nothing: No such file or directory"), "{missing}");
    let unknown = k.fails(&["exec", "p", "--", "@nope"], "").await;
    assert!(unknown.contains("not a built-in command"), "{unknown}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_both_ways() {
    let cluster = start().await;
    let Some(k) = Kubectl::of(&cluster) else { return };
    runs(&cluster, &pod(&["sleep"], json!({ "volumeMounts": data() }))).await;
    let local = cluster.dir().join("local");
    std::fs::create_dir_all(local.join("tree/deep")).unwrap();
    std::fs::write(local.join("tree/a"), "content of a").unwrap();
    std::fs::write(local.join("tree/deep/b"), "content of b").unwrap();
    // 50 MB that no pattern makes small.
    let large: Vec<u8> = (0..50_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(local.join("large"), &large).unwrap();
    let path = |name: &str| local.join(name).to_str().unwrap().to_owned();

    k.ok(&["cp", &path("tree"), "p:/data/tree"]).await;
    assert_eq!(k.ok(&["exec", "p", "--", "obey", "read", "/data/tree/deep/b"]).await, "content of b");
    k.ok(&["cp", "p:/data/tree", &path("back")]).await;
    assert_eq!(std::fs::read(local.join("back/a")).unwrap(), b"content of a");
    assert_eq!(std::fs::read(local.join("back/deep/b")).unwrap(), b"content of b");
    // Into a directory that is there, under its own name; and into the private root.
    k.ok(&["cp", &path("tree/a"), "p:/data"]).await;
    assert_eq!(k.ok(&["exec", "p", "--", "@cat", "/data/a"]).await, "content of a");
    k.ok(&["cp", &path("tree/a"), "p:/own"]).await;
    assert_eq!(k.ok(&["exec", "p", "--", "obey", "read", "/own"]).await, "content of a");

    k.ok(&["cp", &path("large"), "p:/data/large"]).await;
    k.ok(&["cp", "p:/data/large", &path("large-back")]).await;
    assert!(std::fs::read(local.join("large-back")).unwrap() == large, "50 MB come back as they went");
    k.ok(&["cp", "--retries=3", "p:/data/tree/a", &path("a-again")]).await;
    assert_eq!(std::fs::read(local.join("a-again")).unwrap(), b"content of a");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_process_is_attached_to() {
    let cluster = start().await;
    let Some(k) = Kubectl::of(&cluster) else { return };
    runs(&cluster, &pod(&["input"], json!({ "stdin": true, "stdinOnce": true }))).await;
    let Done { ok, stdout, stderr } = k.run(&["attach", "-i", "p"], "typed\n").await;
    assert!(ok && stdout == "typed\n", "{stdout}{stderr}");
    eventually!(phase(&cluster).await == "Succeeded");
    assert_eq!(k.ok(&["logs", "p"]).await, "typed\n");

    let run =
        ["run", "once", "-i", "--rm", "--restart=Never", "--image=localhost/obey:latest", "--image-pull-policy=Never"];
    let done = finish(k.command(&[&run[..], &["--quiet", "--", "input"]].concat()), "through run\n").await;
    assert!(done.ok && done.stdout.contains("through run\n"), "{}{}", done.stdout, done.stderr);
    eventually!(k.run(&["get", "pod", "once"], "").await.stderr.contains("NotFound"), "--rm removes it");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_makes_a_pod_ready() {
    let cluster = start().await;
    let probe = json!({ "exec": { "command": ["@cat", "/data/ready"] }, "periodSeconds": 1 });
    let slow = json!({ "exec": { "command": ["obey", "sleep"] }, "periodSeconds": 1, "failureThreshold": 1000 });
    let extra = json!({ "readinessProbe": probe, "livenessProbe": slow, "volumeMounts": data() });
    let mut writes = pod(&["sleep"], extra);
    // It writes the file when it is told to, by another container of the pod.
    let writer = json!({
        "name": "writer", "image": "localhost/obey:latest", "imagePullPolicy": "IfNotPresent", "volumeMounts": data(),
        "args": ["sleep"], "lifecycle": { "preStop": { "exec": { "command": ["obey", "quit", "0"] } } },
    });
    writes.spec.as_mut().unwrap().containers.push(serde_json::from_value(writer).unwrap());
    runs(&cluster, &writes).await;
    eventually!(said(&cluster, "Unhealthy", "Readiness probe failed: ").await);
    eventually!(said(&cluster, "Unhealthy", "timed out").await, "the probe that never ends is said to");
    assert!(!ready(&cluster).await);
    if let Some(k) = Kubectl::of(&cluster) {
        k.ok(&["exec", "p", "-c", "writer", "--", "obey", "write", "/data/ready", "yes"]).await;
        eventually!(ready(&cluster).await);
    }
    cluster.stop().await;
}

async fn ready(cluster: &Cluster) -> bool {
    let status = pods(cluster).get("p").await.unwrap().status.unwrap_or_default();
    status.container_statuses.iter().flatten().any(|c| c.name == "main" && c.ready)
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_before_and_after() {
    let cluster = start().await;
    let dir = cluster.dir().join("host");
    std::fs::create_dir(&dir).unwrap();
    let hook = |name: &str| json!({ "exec": { "command": ["obey", "write", format!("/data/{name}"), "done"] } });
    let lifecycle = json!({ "postStart": hook("started"), "preStop": hook("stopped") });
    let mut hooked = pod(&["sleep"], json!({ "lifecycle": lifecycle, "volumeMounts": data() }));
    let volume = json!([{ "name": "data", "hostPath": { "path": dir } }]);
    hooked.spec.as_mut().unwrap().volumes = Some(serde_json::from_value(volume).unwrap());
    runs(&cluster, &hooked).await;
    assert_eq!(std::fs::read(dir.join("started")).unwrap(), b"done", "a container runs after its postStart");
    assert!(!dir.join("stopped").exists());
    pods(&cluster).delete("p", &Default::default()).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());
    assert_eq!(std::fs::read(dir.join("stopped")).unwrap(), b"done", "a container ends after its preStop");
    cluster.stop().await;
}

/// Why the container waits, and the words for it.
async fn waits(cluster: &Cluster) -> Option<(String, String)> {
    let status = pods(cluster).get("p").await.unwrap().status?;
    let waiting = status.container_statuses?.first()?.state.clone()?.waiting?;
    Some((waiting.reason?, waiting.message.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_hook_is_told() {
    let cluster = start().await;
    let fails = json!({ "exec": { "command": ["obey", "quit", "1"] } });
    create(&cluster, &pod(&["sleep"], json!({ "lifecycle": { "postStart": fails } }))).await;
    eventually!(said(&cluster, "FailedPostStartHook", "PostStartHook failed").await);
    eventually!(phase(&cluster).await == "Failed", "its container was killed");
    pods(&cluster).delete("p", &Default::default()).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());

    // One that is started again says why it waits, as long as nothing newer is known.
    let mut again = pod(&["sleep"], json!({ "lifecycle": { "postStart": fails } }));
    again.spec.as_mut().unwrap().restart_policy = Some("Always".to_owned());
    create(&cluster, &again).await;
    eventually!(waits(&cluster).await.is_some_and(|(reason, message)| reason == "PostStartHookError"
        && message.contains("Exec lifecycle hook ([obey quit 1]) for Container \"main\" in Pod \"p_default(")
        && message.contains("command 'obey quit 1' exited with 1")));
    pods(&cluster).delete("p", &Default::default()).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());

    runs(&cluster, &pod(&["sleep"], json!({ "lifecycle": { "preStop": fails } }))).await;
    pods(&cluster).delete("p", &Default::default()).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());
    assert!(said(&cluster, "FailedPreStopHook", "PreStopHook failed").await);

    // A hook that never ends has the grace period, and then the container goes.
    let sleeps = json!({ "exec": { "command": ["obey", "sleep"] } });
    runs(&cluster, &pod(&["sleep"], json!({ "lifecycle": { "preStop": sleeps } }))).await;
    let start = std::time::Instant::now();
    let grace = kube::api::DeleteParams { grace_period_seconds: Some(1), ..Default::default() };
    pods(&cluster).delete("p", &grace).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());
    assert!(start.elapsed() >= std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    cluster.stop().await;
}

/// A pod of the HTTP server, with what the test adds.
fn server(extra: Value) -> Pod {
    let mut server = pod(&[], extra);
    let container = &mut server.spec.as_mut().unwrap().containers[0];
    container.args = None;
    container.image = Some("localhost/server:latest".to_owned());
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_no_command_but_built_in_ones() {
    let cluster = Cluster::start().await.unwrap();
    let Some(k) = Kubectl::of(&cluster) else { return };
    cluster.load("localhost/server:latest", wasm("http-hello.wasm")).await.unwrap();
    runs(&cluster, &server(json!({}))).await;
    let refused = k.fails(&["exec", "p", "--", "prog"], "").await;
    assert!(refused.contains("HTTP server") && refused.contains("@ls"), "{refused}");
    assert!(k.ok(&["exec", "p", "--", "@ps"]).await.contains("PID"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_ask_a_server() {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/server:latest", wasm("http-hello.wasm")).await.unwrap();
    let get = |port: u16| json!({ "httpGet": { "port": port, "path": "/" } });
    let ports = json!([{ "containerPort": 80 }]);
    runs(&cluster, &server(json!({ "ports": ports, "lifecycle": { "postStart": get(80), "preStop": get(81) } }))).await;
    assert!(!said(&cluster, "FailedPostStartHook", "").await, "it was answered");
    pods(&cluster).delete("p", &Default::default()).await.unwrap();
    eventually!(pods(&cluster).get_opt("p").await.unwrap().is_none());
    eventually!(said(&cluster, "FailedPreStopHook", "").await, "nothing listens there");
    cluster.stop().await;
}
