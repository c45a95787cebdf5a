//! The `skiff` binary as a process: `run`, `up`, its errors, and `kill -9`.

use std::{
    path::Path,
    process::{Command as Plain, Stdio},
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, api::PostParams};
use skiff_testing::eventually;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::tool::{Done, finish, root, wasm};

pub fn skiff(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    command.env_remove("KUBECONFIG").env("HOME", home).env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub async fn run(home: &Path, args: &[&str]) -> Done {
    let mut command = skiff(home);
    command.args(args);
    finish(command, "").await
}

/// A `skiff up` that has said that it is ready.
pub struct Up {
    child: Child,
    pub kubeconfig: String,
}

impl Up {
    pub async fn start(home: &Path, args: &[&str]) -> Self {
        Self::of(skiff(home), args).await
    }

    /// Of a command with an environment of its own.
    pub async fn of(mut command: Command, args: &[&str]) -> Self {
        command.args(["up", "--listen", "127.0.0.1:0"]).args(args).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(skiff_testing::patience(), lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("skiff up ended before it was ready");
        assert!(line.starts_with("ready: https://127.0.0.1:"), "{line}");
        let kubeconfig = line.split("kubeconfig=").nth(1).unwrap().to_owned();
        Self { child, kubeconfig }
    }

    pub async fn client(&self) -> kube::Client {
        skiff::global::client_from(Path::new(&self.kubeconfig), None).await.unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Plain::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_takes_a_manifest_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let manifest = root().join("manifests/hello.yaml");
    let done = run(home.path(), &["run", "-f", manifest.to_str().unwrap()]).await;
    assert!(done.ok, "{}{}", done.stdout, done.stderr);
    let hellos = done.stdout.lines().filter(|l| l.contains(": from a Job")).count();
    assert_eq!(hellos, 20, "{}", done.stdout);
    assert!(done.stdout.contains(" ticker | tick 1"), "{}", done.stdout);
    for part in
        ["WORKLOAD", "job/hello", "complete", "20/20", "deployment/ticker", "available", "3/3", "cluster ready in"]
    {
        assert!(done.stdout.contains(part), "no {part:?} in\n{}", done.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_takes_a_module_and_passes_its_failure_on() {
    let home = tempfile::tempdir().unwrap();
    let module = wasm("exit-code.wasm");
    let module = module.to_str().unwrap();
    assert!(run(home.path(), &["run", module, "--", "0"]).await.ok);
    let done = run(home.path(), &["run", module, "--", "3"]).await;
    assert!(!done.ok && done.stdout.contains("exiting with 3") && done.stdout.contains("failed: BackoffLimitExceeded"));
    let done = run(home.path(), &["run", "nowhere.wasm"]).await;
    assert!(!done.ok && done.stderr.contains("nowhere.wasm does not exist"), "{}", done.stderr);
    let bad = home.path().join("bad.wasm");
    std::fs::write(&bad, "this is no module").unwrap();
    let done = run(home.path(), &["run", bad.to_str().unwrap()]).await;
    assert!(
        !done.ok && done.stderr.contains("bad.wasm") && done.stderr.contains("neither a WebAssembly module"),
        "{}",
        done.stderr
    );
    let yaml = home.path().join("bad.yaml");
    std::fs::write(&yaml, "a: [1,\nb: }").unwrap();
    let done = run(home.path(), &["run", "-f", yaml.to_str().unwrap()]).await;
    assert!(!done.ok && done.stderr.contains("bad.yaml is not valid YAML: line 1 column 4"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let up = Up::start(home.path(), &["--data-dir", data]).await;
    let client = up.client().await;
    let done = run(home.path(), &["image", "load", wasm("ticker.wasm").to_str().unwrap()]).await;
    assert!(done.ok, "{}", done.stderr);
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let pod = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "t" },
        "spec": { "runtimeClassName": "wasm", "containers": [{ "name": "t", "image": "localhost/ticker:latest", "imagePullPolicy": "Never" }] },
    }));
    pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    eventually!(running(&pods.get("t").await.unwrap()));

    // Writers that count what was acknowledged, until the process dies under them.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let maps = Api::<ConfigMap>::default_namespaced(client.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let name = format!("w{writer}-{n}");
                    let map = ConfigMap {
                        metadata: kube::core::ObjectMeta { name: Some(name.clone()), ..Default::default() },
                        ..Default::default()
                    };
                    if maps.create(&PostParams::default(), &map).await.is_err() {
                        break;
                    }
                    acknowledged.push(name);
                }
                acknowledged
            })
        })
        .collect();
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    eventually!(maps.list(&Default::default()).await.unwrap().items.len() > 200);
    up.signal("-9");
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    drop(up);

    let up = Up::start(home.path(), &["--data-dir", data]).await;
    let client = up.client().await;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let there: std::collections::BTreeSet<_> =
        maps.list(&Default::default()).await.unwrap().items.into_iter().filter_map(|m| m.metadata.name).collect();
    for name in &acknowledged {
        assert!(
            there.contains(name),
            "{name} was acknowledged and is lost ({} of {})",
            there.len(),
            acknowledged.len()
        );
    }
    let pods = Api::<Pod>::default_namespaced(client);
    let restarted = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.clone()).unwrap_or_default();
        statuses.iter().any(|c| c.restart_count > 0 && c.state.as_ref().is_some_and(|s| s.running.is_some()))
    };
    eventually!(restarted(&pods.get("t").await.unwrap()), "the pod runs again, restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_says_why_it_cannot_start() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let up = Up::start(home.path(), &["--data-dir", data.to_str().unwrap()]).await;
    let done = run(home.path(), &["up", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]).await;
    assert!(
        !done.ok && done.stderr.contains("in use") && done.stderr.contains(data.to_str().unwrap()),
        "{}",
        done.stderr
    );

    let config = std::fs::read_to_string(&up.kubeconfig).unwrap();
    let port = config.split("https://127.0.0.1:").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let done = run(
        home.path(),
        &["up", "--listen", &listen, "--ephemeral", "--data-dir", home.path().join("x").to_str().unwrap()],
    )
    .await;
    assert!(!done.ok && done.stderr.contains(&listen) && done.stderr.contains("in use"), "{}", done.stderr);

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let done = run(home.path(), &["up", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]).await;
    assert!(!done.ok && done.stderr.contains("not a directory"), "{}", done.stderr);

    let mut up = up;
    up.signal("-TERM");
    let status = tokio::time::timeout(skiff_testing::patience(), up.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "SIGTERM: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_2() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["nonsense"][..], &["up", "--nodes", "many"], &["run"]] {
        let mut command = skiff(home.path());
        let status = command.args(args).status().await.unwrap();
        assert_eq!(status.code(), Some(2), "{args:?}");
    }
    let done = run(home.path(), &["image", "list"]).await;
    assert!(!done.ok && done.stderr.contains("start one with `skiff up`"), "{}", done.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let home = tempfile::tempdir().unwrap();
    let mut up = Plain::new(env!("CARGO_BIN_EXE_skiff"));
    up.args(["up", "--ephemeral", "--listen", "127.0.0.1:0"]).arg("--data-dir").arg(home.path());
    let done = up.env("HOME", home.path()).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(141) && !said.contains("panicked"), "{:?} {said}", done.status);
}
