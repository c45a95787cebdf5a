//! The public WASI test-suite (github.com/WebAssembly/wasi-testsuite, its branch of built programs), every program run as a pod.
//!
//! The suite is not in this repository: `SKIFF_WASI_TESTSUITE=DIR` names a checkout of `prod/testsuite-base`; without it this
//! says so and passes. `SKIFF_WASI_PROGRAMS=DIR` likewise names a directory of command programs, modules or components, that
//! take a scratch directory as their argument and end with 0: wasmtime's own `p1_*`, `p2_*` and `p3_*` test programs are such. A program that passes under wasmtime's own command line (`SKIFF_WASMTIME=PATH`, or on PATH) must pass
//! here; without one, every program must.
//!
//! Some programs count their variables: their pods ask for the declared ones only. A program's `root` becomes a volume mounted at `/`; its stdout and stderr are read from the pod's log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_testing::Cluster;

/// Programs under way at once, and how long one may take.
const AT_ONCE: usize = 8;
/// What follows the magic number of a component, not of a module.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program expects: the older form of the suite's files, or a list of operations.
#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    operations: Vec<Operation>,
    /// What it needs beyond files and clocks: sockets, HTTP.
    #[serde(default)]
    proposals: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    root: Option<String>,
    #[serde(default)]
    exit_code: i32,
    stdout: Option<String>,
    stderr: Option<String>,
}

#[derive(Default, Deserialize)]
struct Operation {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    exit_code: i32,
}

impl Spec {
    /// A run and its end; none for what is talked to while it runs.
    fn command(mut self) -> Option<Self> {
        let talks = |operation: &Operation| !matches!(operation.kind.as_str(), "run" | "wait");
        if self.proposals.iter().any(|proposal| proposal == "http") || self.operations.iter().any(talks) {
            return None;
        }
        for operation in std::mem::take(&mut self.operations) {
            self.args.extend(operation.args);
            self.env.extend(operation.env);
            self.exit_code += operation.exit_code;
        }
        Some(self)
    }
}

struct Program {
    name: String,
    module: PathBuf,
    spec: Spec,
    root: Root,
}

/// What is mounted at `/`.
enum Root {
    Nothing,
    /// An empty directory.
    Scratch,
    /// A copy of this one.
    Copy(PathBuf),
}

const PREVIEW_1: &str = "wasm32-wasip1";
const WASI_0_3: &str = "wasm32-wasip3";

fn programs(suite: &Path, version: &str) -> Vec<Program> {
    let mut found = Vec::new();
    for language in if version == WASI_0_3 { &["rust"][..] } else { &["assemblyscript", "c", "rust"] } {
        let directory = suite.join("tests").join(language).join("testsuite").join(version);
        let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        for file in files {
            let module = file.unwrap().path();
            if module.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            let stem = module.file_stem().unwrap().to_string_lossy().to_lowercase().replace('_', "-");
            let spec = std::fs::read(module.with_extension("json")).ok();
            let spec: Spec =
                spec.map(|text| serde_json::from_slice(&text).expect("a spec of the suite")).unwrap_or_default();
            let Some(spec) = spec.command() else { continue };
            let root = spec.root.as_ref().map_or(Root::Nothing, |root| Root::Copy(directory.join(root)));
            found.push(Program { name: format!("{language}-{stem}"), module, spec, root });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Every module of a directory, with the directory's root as its scratch.
fn commands(directory: &Path) -> Vec<Program> {
    let files = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let modules = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    let mut found: Vec<_> = modules
        .map(|module| {
            let name = module.file_stem().unwrap().to_string_lossy().to_lowercase().replace('_', "-");
            let spec = Spec { args: vec!["/".to_owned()], ..Spec::default() };
            Program { name, module, spec, root: Root::Scratch }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A fresh root: programs write into it.
fn root(program: &Program, into: &Path) -> Option<PathBuf> {
    let target = into.join(&program.name);
    match &program.root {
        Root::Nothing => return None,
        Root::Scratch => std::fs::create_dir_all(&target).unwrap(),
        Root::Copy(source) => copy(source, &target),
    }
    Some(target)
}

fn copy(source: &Path, target: &Path) {
    std::fs::create_dir_all(target).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let to = target.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn pod(program: &Program, root: Option<&Path>) -> Pod {
    let spec = &program.spec;
    let env: Vec<Value> = spec.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let label = program.module.file_name().unwrap().to_string_lossy();
    let mut container = json!({
        "name": "main", "image": format!("localhost/{}:latest", program.name), "imagePullPolicy": "Never",
        "command": [label], "args": spec.args, "env": env,
    });
    let mut pod = json!({
        "runtimeClassName": "wasm", "restartPolicy": "Never", "automountServiceAccountToken": false,
        "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
    });
    if let Some(root) = root {
        container["volumeMounts"] = json!([{ "name": "root", "mountPath": "/" }]);
        pod["volumes"] = json!([{ "name": "root", "hostPath": { "path": root } }]);
    }
    pod["containers"] = json!([container]);
    serde_json::from_value(json!({
        "metadata": { "name": program.name, "annotations": { "skiff.dev/environment": "declared" } },
        "spec": pod,
    }))
    .unwrap()
}

/// Runs it as a pod; what is wrong with how it ended.
async fn as_pod(cluster: &Cluster, program: &Program, roots: &Path) -> Result<(), String> {
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let root = root(program, roots);
    pods.create(&PostParams::default(), &pod(program, root.as_deref())).await.map_err(|e| e.to_string())?;
    let over = kube::runtime::wait::await_condition(pods.clone(), &program.name, |pod: Option<&Pod>| {
        let phase = pod.and_then(|p| p.status.as_ref()).and_then(|s| s.phase.as_deref());
        let waiting =
            pod.and_then(|p| p.status.as_ref()).and_then(|s| s.container_statuses.as_ref()?.first()?.state.clone());
        let reason = waiting.and_then(|state| state.waiting?.reason).unwrap_or_default();
        matches!(phase, Some("Succeeded" | "Failed")) || reason.contains("Image") || reason.starts_with("Create")
    });
    let ended = tokio::time::timeout(PATIENCE, over).await;
    let pod = pods.get(&program.name).await.map_err(|e| e.to_string())?;
    let status = pod.status.and_then(|s| s.container_statuses).and_then(|mut s| s.pop()).and_then(|s| s.state);
    let log = async |stream: &str| {
        let path = format!("/api/v1/namespaces/default/pods/{}/log?stream={stream}", program.name);
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        cluster.client().request_text(request).await.unwrap_or_default()
    };
    let (stdout, stderr) = (log("Stdout").await, log("Stderr").await);
    let _ = pods.delete(&program.name, &DeleteParams::default().grace_period(0)).await;
    let Some(end) = status.clone().and_then(|s| s.terminated).filter(|_| ended.is_ok()) else {
        return Err(format!("it did not end: {status:?} {stderr}"));
    };
    let tell = || format!("{} {} {stdout}{stderr}", end.exit_code, end.message.as_deref().unwrap_or_default());
    if end.exit_code != program.spec.exit_code {
        return Err(format!("exit code {}", tell()));
    }
    outputs(&program.spec, &stdout, &stderr)
}

fn outputs(spec: &Spec, stdout: &str, stderr: &str) -> Result<(), String> {
    for (expected, found) in [(&spec.stdout, stdout), (&spec.stderr, stderr)] {
        // A log ends its last line.
        if let Some(expected) = expected
            && expected.trim_end() != found.trim_end()
        {
            return Err(format!("printed {found:?}, not {expected:?}"));
        }
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Runs it under wasmtime's command line, with what a pod may do as well.
async fn as_command(wasmtime: &Path, program: &Program, roots: &Path) -> bool {
    let mut command = tokio::process::Command::new(wasmtime);
    command.arg("run");
    let newer = program.name.starts_with("p3-");
    if newer || program.module.parent().is_some_and(|parent| parent.ends_with(WASI_0_3)) {
        command.args(["-Wcomponent-model-async", "-Sp3"]);
    }
    let component = std::fs::read(&program.module).is_ok_and(|bytes| bytes.get(4..8) == Some(&COMPONENT));
    if component {
        command.arg("-Sinherit-network,allow-ip-name-lookup,http");
    }
    for (name, value) in &program.spec.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    if let Some(root) = root(program, roots) {
        command.arg("--dir").arg(format!("{}::/", root.display()));
    }
    command.arg(&program.module).args(&program.spec.args).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else { return false };
    let output = output.expect("wasmtime runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    output.status.code() == Some(program.spec.exit_code)
        && outputs(&program.spec, &text(&output.stdout), &text(&output.stderr)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_wasi_test_suite_pass_as_pods() {
    match std::env::var_os("SKIFF_WASI_TESTSUITE") {
        Some(suite) => compare(Cluster::start().await.unwrap(), programs(Path::new(&suite), PREVIEW_1)).await,
        None => eprintln!("skipped: SKIFF_WASI_TESTSUITE names no checkout of the WASI test-suite"),
    }
}

/// Those that nobody talks to while they run.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_wasi_0_3_pass_where_the_node_offers_it() {
    let Some(suite) = std::env::var_os("SKIFF_WASI_TESTSUITE") else {
        eprintln!("skipped: SKIFF_WASI_TESTSUITE names no checkout of the WASI test-suite");
        return;
    };
    let cluster = Cluster::with(|options| options.wasi_0_3 = true).await.unwrap();
    compare(cluster, programs(Path::new(&suite), WASI_0_3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_programs_end_as_pods_as_they_end_as_commands() {
    let Some(directory) = std::env::var_os("SKIFF_WASI_PROGRAMS") else {
        eprintln!("skipped: SKIFF_WASI_PROGRAMS names no directory of programs");
        return;
    };
    let (newer, others) = commands(Path::new(&directory)).into_iter().partition(|p| p.name.starts_with("p3-"));
    compare(Cluster::start().await.unwrap(), others).await;
    compare(Cluster::with(|options| options.wasi_0_3 = true).await.unwrap(), newer).await;
}

async fn compare(cluster: Cluster, programs: Vec<Program>) {
    let wasmtime = std::env::var_os("SKIFF_WASMTIME").map(PathBuf::from).or_else(|| on_path("wasmtime"));
    let roots = tempfile::tempdir().unwrap();
    let mut expected: BTreeSet<_> = programs.iter().map(|program| program.name.as_str()).collect();
    if let Some(wasmtime) = &wasmtime {
        let roots = roots.path().join("commands");
        let passed = futures::stream::iter(&programs)
            .map(async |program| as_command(wasmtime, program, &roots).await.then_some(program.name.as_str()))
            .buffered(AT_ONCE);
        expected = passed.filter_map(async |name| name).collect().await;
        eprintln!("{} of {} programs pass under {}", expected.len(), programs.len(), wasmtime.display());
    }
    for program in &programs {
        // One that is refused fails as a pod, which says why.
        let _ = cluster.load(&format!("localhost/{}:latest", program.name), &program.module).await;
    }
    let start = Instant::now();
    let results: Vec<_> = futures::stream::iter(&programs)
        .map(async |program| (program, as_pod(&cluster, program, &roots.path().join("pods")).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let passed = results.iter().filter(|(_, result)| result.is_ok()).count();
    eprintln!("{passed} of {} programs pass as pods, in {:?}", programs.len(), start.elapsed());
    let mut worse = Vec::new();
    for (program, why) in results.iter().filter_map(|(program, result)| Some((program, result.as_ref().err()?))) {
        let there = if expected.contains(program.name.as_str()) { "should pass" } else { "does not pass there either" };
        eprintln!("{}: {there}: {why}", program.name);
        if expected.contains(program.name.as_str()) {
            worse.push(&program.name);
        }
    }
    assert!(worse.is_empty(), "fail as pods: {worse:?}");
    cluster.stop().await;
}
