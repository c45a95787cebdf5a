//! The example programs, run as pods: what each prints and how it ends. Those that are not committed as modules are built where
//! their toolchain is on this machine; where it is not, the test says so.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::root;

/// Runs a module in a pod to its end; gives its exit code and what it printed.
async fn run(cluster: &Cluster, name: &str, module: &Path, container: Value, volumes: Value) -> (i32, String) {
    let image = format!("localhost/{name}:latest");
    cluster.load(&image, module).await.unwrap();
    let mut main = json!({ "name": "main", "image": image, "imagePullPolicy": "Never" });
    for (key, value) in container.as_object().unwrap() {
        main[key] = value.clone();
    }
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never", "containers": [main], "volumes": volumes },
    }))
    .unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let code = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        Some(statuses.first()?.state.as_ref()?.terminated.as_ref()?.exit_code)
    };
    eventually!(code(&pods.get(name).await.unwrap()).is_some(), "{name} ends");
    let log = pods.logs(name, &Default::default()).await.unwrap();
    (code(&pods.get(name).await.unwrap()).unwrap(), log)
}

async fn texts(cluster: &Cluster) -> Value {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "texts" }, "data": { "a.txt": "one two three\n", "b.txt": "four" },
    }))
    .unwrap();
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map).await.unwrap();
    json!([{ "name": "texts", "configMap": { "name": "texts" } }])
}

fn texts_mount() -> Value {
    json!({ "volumeMounts": [{ "name": "texts", "mountPath": "/texts" }] })
}

/// Every Rust example does what its source says, from the modules in this directory.
async fn rust_examples(dir: &Path) {
    let cluster = Cluster::start().await.unwrap();
    let none = json!([]);
    let at = |name: &str| dir.join(format!("{name}.wasm"));
    let greeting = json!({ "args": ["a", "b"], "env": [{ "name": "POD_NAME", "value": "p" }] });
    assert_eq!(run(&cluster, "hello", &at("hello"), greeting, none.clone()).await, (0, "hello from p: a b\n".into()));
    let exit = json!({ "args": ["7"] });
    assert_eq!(run(&cluster, "exit-code", &at("exit-code"), exit, none.clone()).await, (7, "exiting with 7\n".into()));
    let ticks = json!({ "env": [{ "name": "COUNT", "value": "2" }, { "name": "INTERVAL_MS", "value": "1" }] });
    assert_eq!(run(&cluster, "ticker", &at("ticker"), ticks, none).await, (0, "tick 1\ntick 2\n".into()));
    let count = run(&cluster, "word-count", &at("word-count"), texts_mount(), texts(&cluster).await).await;
    assert_eq!(count, (0, "       3 a.txt\n       1 b.txt\n       4 total\n".into()));
    let data = json!([{ "name": "data", "emptyDir": {} }]);
    let mount = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    assert_eq!(run(&cluster, "counter", &at("counter"), mount, data).await, (0, "1\n".into()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_rust_modules_behave() {
    rust_examples(&root().join("wasm-examples/rust")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sources_build_to_modules_that_behave() {
    let script = root().join("wasm-examples/rust/build.sh");
    if !Command::new(&script).arg("--check").status().unwrap().success() {
        eprintln!("skipped: no Rust targets wasm32-wasip1 and wasm32-wasip2");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("target");
    let built = Command::new(&script).env("OUT", out.path()).env("CARGO_TARGET_DIR", target).status().unwrap();
    assert!(built.success());
    rust_examples(out.path()).await;
}

/// Runs a build command; `None`, after saying so, when its toolchain (the `probe`) is not here.
fn built(probe: &[&str], build: &mut Command, out: PathBuf) -> Option<PathBuf> {
    let there = Command::new(probe[0]).args(&probe[1..]).output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("skipped: {} does not work here", probe.join(" "));
        return None;
    }
    let output = build.output().unwrap();
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(out)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_c_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("primes.wasm");
    let source = root().join("wasm-examples/c/primes.c");
    let mut build = Command::new("python3");
    build.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", "-o"]).arg(&out).arg(source);
    let Some(module) = built(&["python3", "-m", "ziglang", "version"], &mut build, out) else { return };
    let cluster = Cluster::start().await.unwrap();
    let args = json!({ "args": ["1000"] });
    assert_eq!(run(&cluster, "primes", &module, args, json!([])).await, (0, "168 primes below 1000\n".into()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("checksum.wasm");
    let mut build = Command::new("go");
    build.env("GOOS", "wasip1").env("GOARCH", "wasm").args(["build", "-ldflags=-s", "-o"]).arg(&out).arg("main.go");
    build.current_dir(root().join("wasm-examples/go"));
    let Some(module) = built(&["go", "version"], &mut build, out) else { return };
    let cluster = Cluster::start().await.unwrap();
    let (code, log) = run(&cluster, "checksum", &module, texts_mount(), texts(&cluster).await).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.ends_with("  b.txt\n") && log.lines().count() == 2, "{log}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_and_python_components_run() {
    let dir = tempfile::tempdir().unwrap();
    let js = dir.path().join("js.wasm");
    let mut build = Command::new("jco");
    build.args(["componentize", "greet.js", "--wit", "greet.wit", "--world-name", "greet", "--out"]);
    build.arg(&js).current_dir(root().join("wasm-examples/js"));
    let js = built(&["jco", "--version"], &mut build, js);
    let python = dir.path().join("python.wasm");
    let mut build = Command::new("componentize-py");
    build.args(["--wit-path", "wit", "--world", "greet", "componentize", "app", "-o"]).arg(&python);
    build.current_dir(root().join("wasm-examples/python"));
    let python = built(&["componentize-py", "--version"], &mut build, python);
    if js.is_none() && python.is_none() {
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    for (name, module, says) in [("js", js, "hello from JavaScript"), ("python", python, "hello from Python")] {
        if let Some(module) = module {
            let (code, log) = run(&cluster, name, &module, json!({}), json!([])).await;
            assert!(code == 0 && log.contains(says), "{name}: {code} {log}");
        }
    }
    cluster.stop().await;
}
