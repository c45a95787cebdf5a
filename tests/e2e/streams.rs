//! exec, attach, run -i, port-forward, proxies and `kubectl top`, with the stock kubectl against guests that really run. (The
//! protocols themselves, with every kubectl: `crates/node/tests/streams.rs`.)

use std::process::Stdio;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Child,
};

use crate::{
    tool::{Done, Kubectl, finish, wasm, wat},
    verbs::skiff,
};

fn pod(name: &str, image: &str, args: &[&str], more: Value) -> String {
    let mut container = json!({ "name": "main", "image": format!("localhost/{image}:latest"),
        "imagePullPolicy": "IfNotPresent", "args": args });
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never", "containers": [container] } })
    .to_string()
}

async fn start() -> Option<(Cluster, Kubectl)> {
    let cluster = Cluster::start().await.unwrap();
    let kubectl = Kubectl::of(&cluster)?;
    for name in ["obey", "loop", "sleep"] {
        cluster.load(&format!("localhost/{name}:latest"), wat(&format!("{name}.wat"))).await.unwrap();
    }
    cluster.load("localhost/sockets:latest", wasm("sockets.wasm")).await.unwrap();
    Some((cluster, kubectl))
}

async fn running(k: &Kubectl, name: &str, image: &str, args: &[&str], more: Value) {
    k.ok_with(&["apply", "-f", "-"], &pod(name, image, args, more)).await;
    k.ok(&["wait", "--for=jsonpath={.status.phase}=Running", &format!("pod/{name}"), "--timeout=60s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_a_container_that_runs() {
    let Some((cluster, k)) = start().await else { return };
    running(&k, "a", "obey", &["sleep"], json!({ "env": [{ "name": "COLOR", "value": "blue" }] })).await;
    assert_eq!(k.ok(&["exec", "a", "--", "obey", "args", "--flag", "two words"]).await, "--flag\ntwo words\n");
    assert!(k.ok(&["exec", "a", "--", "obey", "variables"]).await.contains("COLOR=blue"));
    let done = k.run(&["exec", "a", "--", "obey", "both"], "").await;
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(k.ok_with(&["exec", "-i", "a", "--", "obey", "input"], "typed\n").await, "typed\n");
    let failed = k.fails(&["exec", "a", "--", "obey", "quit", "42"], "").await;
    assert!(failed.contains("command terminated with exit code 42"), "{failed}");
    // What one process writes, another one reads: the files are the container's.
    k.ok(&["exec", "a", "--", "obey", "write", "/note", "kept"]).await;
    assert_eq!(k.ok(&["exec", "a", "--", "obey", "read", "/note"]).await, "kept");
    let big = "x".repeat(3 << 20);
    assert_eq!(k.ok_with(&["exec", "-i", "a", "--", "obey", "input"], &big).await.len(), big.len());
    assert_eq!(k.ok(&["logs", "a"]).await, "", "the log is that of the main process");

    // Killed in the middle: the process ends, and the pod goes on.
    let mut child = k.command(&["exec", "a", "--", "obey", "flood"]).spawn().unwrap();
    let mut first = [0; 1024];
    child.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    child.kill().await.unwrap();
    assert_eq!(k.ok(&["exec", "a", "--", "obey", "args", "still here"]).await, "still here\n");
    for (args, expected) in [
        (&["exec", "none", "--", "x"][..], "pods \"none\" not found"),
        (&["exec", "a", "-c", "z", "--", "x"], "container z is not valid for pod a"),
    ] {
        let said = k.fails(args, "").await;
        assert!(said.contains(expected), "{said}");
    }
    k.ok_with(&["apply", "-f", "-"], &pod("done", "obey", &["quit", "0"], json!({}))).await;
    k.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=60s"]).await;
    let said = k.fails(&["exec", "done", "--", "obey", "both"], "").await;
    assert!(said.contains("completed pod") || said.contains("container not found"), "{said}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_attached_and_a_program_run_at_the_prompt() {
    let Some((cluster, k)) = start().await else { return };
    running(&k, "a", "obey", &["input"], json!({ "stdin": true, "stdinOnce": true })).await;
    assert_eq!(k.ok_with(&["attach", "-i", "a"], "to the main process\n").await, "to the main process\n");
    k.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/a", "--timeout=60s"]).await;
    assert_eq!(k.ok(&["logs", "a"]).await, "to the main process\n");

    let overrides = json!({ "spec": { "runtimeClassName": "wasm" } }).to_string();
    let run = ["run", "-i", "--rm", "--restart=Never", "--quiet", "--image=localhost/obey:latest", "b"];
    let run = [&run[..], &["--image-pull-policy=IfNotPresent", "--overrides", &overrides, "--", "input"]].concat();
    let done = k.run(&run, "hello\n").await;
    assert!(done.ok && done.stdout.contains("hello\n"), "{}{}", done.stdout, done.stderr);
    eventually!(k.run(&["get", "pod", "b"], "").await.stderr.contains("not found"), "--rm removed it");
    cluster.stop().await;
}

async fn forward(mut command: tokio::process::Command) -> (Child, String) {
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(skiff_testing::patience(), lines.next_line()).await.unwrap().unwrap();
    let line = line.expect("it says where it listens");
    let address = line.strip_prefix("Forwarding from ").and_then(|l| l.split(' ').next()).unwrap().to_owned();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

async fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_port_is_reached_from_outside() {
    let Some((cluster, k)) = start().await else { return };
    let ports = json!({ "ports": [{ "containerPort": 80 }] });
    running(&k, "web", "sockets", &["serve", "0.0.0.0:80"], ports).await;
    eventually!(k.ok(&["logs", "web"]).await.contains("listening"));
    let skiff_forward = skiff(&cluster, &["port-forward", "pod/web", ":80"]);
    for command in [k.command(&["port-forward", "pod/web", ":80"]), skiff_forward] {
        let (mut child, address) = forward(command).await;
        for _ in 0..10 {
            let answers = futures::future::join_all((0..10).map(|_| ask(&address))).await;
            assert!(answers.iter().all(|a| a.starts_with("HTTP/1.1 200 OK") && a.contains("web at")), "{answers:?}");
        }
        child.kill().await.unwrap();
    }
    for path in ["pods/web:80/proxy/healthz", "pods/web/proxy/healthz", "pods/http:web:80/proxy/healthz"] {
        assert_eq!(k.ok(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]).await, "well\n");
    }
    let said = k.fails(&["get", "--raw", "/api/v1/namespaces/default/pods/web:81/proxy/"], "").await;
    assert!(said.contains("(ServiceUnavailable): error trying to reach service: dial tcp "), "{said}");
    cluster.stop().await;
}

fn figure(text: &str, unit: &str) -> u64 {
    text.strip_suffix(unit).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text:?} is not in {unit}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_and_nodes_use_is_told() {
    let Some((cluster, k)) = start().await else { return };
    running(&k, "busy", "loop", &[], json!({})).await;
    running(&k, "idle", "sleep", &[], json!({})).await;
    eventually!(k.run(&["top", "pod", "busy"], "").await.ok);
    let tools = [true, false];
    for stock in tools {
        let top = async |args: &[&str]| -> Done {
            if stock { k.run(args, "").await } else { finish(skiff(&cluster, args), "").await }
        };
        let done = top(&["top", "pods", "--sort-by=cpu"]).await;
        let rows: Vec<Vec<&str>> = done.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(done.ok && rows[0] == ["NAME", "CPU(cores)", "MEMORY(bytes)"], "{}{}", done.stdout, done.stderr);
        assert_eq!((rows[1][0], rows[2][0]), ("busy", "idle"));
        assert!(figure(rows[1][1], "m") > figure(rows[2][1], "m"), "{rows:?}");
        figure(rows[1][2], "Mi");
        let done = top(&["top", "pods", "-l", "app=busy", "--containers", "--no-headers"]).await;
        let words: Vec<&str> = done.stdout.split_whitespace().collect();
        assert_eq!((words[0], words[1], words.len()), ("busy", "main", 4), "{}", done.stderr);
        let done = top(&["top", "nodes"]).await;
        let rows: Vec<Vec<&str>> = done.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(done.ok && rows.len() == 2 && rows[1].len() == 5 && rows[1][2].ends_with('%'), "{}", done.stdout);
    }
    let raw = k.ok(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/busy"]).await;
    let raw: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!((&raw["kind"], &raw["containers"][0]["name"]), (&json!("PodMetrics"), &json!("main")));
    assert!(k.ok(&["get", "podmetrics"]).await.starts_with("NAME"));
    assert!(k.ok(&["get", "pods"]).await.contains("Running"), "pods are still those of the core group");
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.delete("busy", &Default::default()).await.unwrap();
    eventually!(k.run(&["top", "pod", "busy"], "").await.stderr.contains("not found"));
    let node = k.ok(&["get", "--raw", "/api/v1/nodes/skiff-1/proxy/metrics/resource"]).await;
    assert!(node.contains("node_cpu_usage_seconds_total ") && node.contains("pod=\"idle\""), "{node}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_both_ways() {
    let Some((cluster, k)) = start().await else { return };
    running(&k, "a", "obey", &["sleep"], json!({})).await;
    let here = cluster.dir().join("files");
    std::fs::create_dir_all(here.join("tree/below")).unwrap();
    let big: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(here.join("tree/big"), &big).unwrap();
    std::fs::write(here.join("tree/below/small"), "small\n").unwrap();
    for (tool, stock) in [("kubectl", true), ("skiff", false)] {
        let cp = async |from: &str, to: &str| -> Done {
            let args = ["cp", from, to];
            if stock { k.run(&args, "").await } else { finish(skiff(&cluster, &args), "").await }
        };
        let tree = here.join("tree").to_str().unwrap().to_owned();
        let done = cp(&tree, &format!("a:/{tool}")).await;
        assert!(done.ok, "{tool}: {}", done.stderr);
        assert_eq!(k.ok(&["exec", "a", "--", "@cat", &format!("/{tool}/below/small")]).await, "small\n");
        let back = here.join(tool).to_str().unwrap().to_owned();
        let done = cp(&format!("default/a:/{tool}"), &back).await;
        assert!(done.ok, "{tool}: {}", done.stderr);
        assert!(std::fs::read(here.join(tool).join("big")).unwrap() == big, "{tool}: the file is another");
        assert_eq!(std::fs::read_to_string(here.join(tool).join("below/small")).unwrap(), "small\n");
        let done = cp("a:/nothing", &back).await;
        assert!(stock || !done.ok, "{tool}: {}", done.stdout);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skiff_executes_and_attaches_as_kubectl_does() {
    let Some((cluster, k)) = start().await else { return };
    running(&k, "a", "obey", &["input"], json!({ "stdin": true, "stdinOnce": true })).await;
    let run = async |args: &[&str], stdin: &str| finish(skiff(&cluster, args), stdin).await;
    let done = run(&["exec", "a", "--", "obey", "both"], "").await;
    assert_eq!((done.ok, done.stdout.as_str(), done.stderr.as_str()), (true, "out\n", "err\n"));
    let done = run(&["exec", "-i", "a", "--", "obey", "input"], &"y".repeat(1 << 20)).await;
    assert!(done.ok && done.stdout.len() == 1 << 20, "{}", done.stderr);
    let mut quit = skiff(&cluster, &["exec", "pod/a", "-c", "main", "--", "obey", "quit", "7"]);
    quit.stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(quit.status().await.unwrap().code(), Some(7));
    for (args, expected) in [
        (&["exec", "none", "--", "x"][..], "Error from server (NotFound): pods \"none\" not found"),
        (&["exec", "a", "-c", "z", "--", "x"], "container z is not valid for pod a"),
        (&["port-forward", "a", "x:80"], "is not a port"),
        (&["cp", "a", "b"], "POD:PATH"),
    ] {
        let done = run(args, "").await;
        assert!(!done.ok && done.stderr.contains(expected), "{args:?}: {}", done.stderr);
    }
    // With a terminal: what is typed goes through as it is, and the process has a terminal of that size.
    if std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join("script").is_file())) {
        let line = format!(
            "stty rows 33 cols 77; {} --kubeconfig {} exec -it a -- @top",
            env!("CARGO_BIN_EXE_skiff"),
            cluster.kubeconfig().display()
        );
        let mut script = tokio::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = script.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut seen = vec![0; 64];
        stdout.read_exact(&mut seen).await.unwrap();
        child.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
        let drain = tokio::spawn(async move { stdout.read_to_end(&mut Vec::new()).await });
        let ended = tokio::time::timeout(skiff_testing::patience(), child.wait()).await;
        assert!(ended.is_ok(), "ctrl-c goes to the process, which ends");
        drain.abort();
    }
    // What is typed reaches the container's own process.
    let attach = run(&["attach", "-i", "a"], "typed\n");
    let attached = tokio::time::timeout(skiff_testing::patience(), attach).await.unwrap();
    assert!(attached.stdout.contains("typed"), "{}{}", attached.stdout, attached.stderr);
    cluster.stop().await;
}
