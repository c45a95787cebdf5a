//! The options of `skiff up` that change how a node takes and runs modules, through the command line.

use std::{collections::BTreeSet, path::Path};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use skiff_testing::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    command::{Up, run, skiff},
    signed::{Key, Published, SIGNED},
    tool::{wasm, wat},
};

fn pod(name: &str, image: &str, policy: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never",
                  "containers": [{ "name": "main", "image": image, "imagePullPolicy": policy }] },
    }))
    .unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The reason and message of what it waits for.
fn waiting(pod: &Pod) -> (String, String) {
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).and_then(|s| s.first());
    let waiting = status.and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.clone()).unwrap_or_default();
    (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}

/// Runs it to its success and gives its log.
async fn log(pods: &Api<Pod>, name: &str, image: &str, policy: &str) -> String {
    pods.create(&PostParams::default(), &pod(name, image, policy)).await.unwrap();
    eventually!(phase(&pods.get(name).await.unwrap()) == "Succeeded", "{name} succeeds");
    pods.logs(name, &Default::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_policy_lets_only_signed_images_run() {
    let (key, stranger) = (Key::p256(), Key::p256());
    let mut published = Published::default();
    for (name, signer) in [("older", &key), ("wrong", &stranger), ("alter", &key)] {
        let digest = published.image(name);
        published.sign(&digest, &digest, signer);
    }
    let newer = published.image("newer");
    published.sign_bundle(&newer, &newer, SIGNED, &key);
    published.image("plain");
    // What was signed, with another layer's bytes in its place.
    let manifest = published.blobs.0[&published.tags["alter"]].clone();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let bytes = published.blobs.0.get_mut(&layer).unwrap();
    *bytes.last_mut().unwrap() = b'\n';
    let registry = published.serve().await;
    let host = &registry.host;

    let home = tempfile::tempdir().unwrap();
    let (policy, data) = (home.path().join("policy.yaml"), home.path().join("data"));
    let indented = key.pem().replace('\n', "\n    ");
    std::fs::write(&policy, format!("images:\n- prefix: {host}/team\n  keys:\n  - |\n    {indented}\n")).unwrap();
    let options = ["--data-dir", data.to_str().unwrap(), "--image-policy", policy.to_str().unwrap()];
    let up = Up::start(home.path(), &options).await;
    let pods = Api::<Pod>::default_namespaced(up.client().await);
    for name in ["older", "newer"] {
        assert_eq!(log(&pods, name, &format!("{host}/team/app:{name}"), "Always").await, format!("{name}\n"));
    }
    for (name, expected) in [
        ("plain", &["it is not signed", "cosign sign --key"][..]),
        ("wrong", &["one signature, which is not by such a key"]),
        ("alter", &["digest"]),
    ] {
        let image = format!("{host}/team/app:{name}");
        pods.create(&PostParams::default(), &pod(name, &image, "Always")).await.unwrap();
        let events = Api::<Event>::default_namespaced(up.client().await);
        let of_pod = ListParams::default().fields(&format!("involvedObject.name={name},reason=Failed"));
        let told = async || {
            let all = events.list(&of_pod).await.unwrap().items;
            let texts = all.into_iter().filter_map(|event| event.message);
            texts.filter(|text| text.contains(&image)).collect::<String>()
        };
        eventually!(
            {
                let text = told().await;
                expected.iter().all(|part| text.contains(part))
            },
            "{name}: {expected:?} in {}",
            told().await
        );
        eventually!(waiting(&pods.get(name).await.unwrap()).0.contains("ImagePull"), "{name}");
    }
    // From elsewhere nothing needs to be signed; into the rule's names nothing is loaded.
    log(&pods, "elsewhere", &format!("{host}/other/app:plain"), "IfNotPresent").await;
    let name = format!("{host}/team/app:mine");
    let done = run(home.path(), &["image", "load", wat("hello.wat").to_str().unwrap(), "--name", &name]).await;
    assert!(!done.ok && done.stderr.contains("cannot be checked"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_policy_that_cannot_be_read_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("policy.yaml");
    let path = file.to_str().unwrap();
    for (text, expected) in [
        (None, "failed to read"),
        (Some("images: 1"), "is not an image policy"),
        (Some("images: [{prefix: a, key: b}]"), "is not an image policy"),
        (Some("images: [{prefix: ghcr.io/a, keys: []}]"), "\"ghcr.io/a\": it has no keys"),
        (Some("images: [{prefix: ghcr.io/a, keys: [x]}]"), "not PEM"),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => assert!(!file.exists()),
        }
        let done = run(home.path(), &["up", "--ephemeral", "--listen", "127.0.0.1:0", "--image-policy", path]).await;
        assert!(
            !done.ok && done.stderr.contains(expected) && done.stderr.contains(path),
            "{expected}: {}",
            done.stderr
        );
    }
}

/// A module of more than a megabyte that prints what it has computed, as sixteen letters.
fn large() -> String {
    let functions: String = (0..40)
        .map(|n| {
            let steps: String = (0..20)
                .map(|m| {
                    format!(
                        "(local.set 0 (i64.xor (i64.rotl (i64.mul (local.get 0) (i64.const {})) (i64.const {}))
                           (i64.trunc_sat_f64_s (f64.mul (f64.convert_i64_s (local.get 0)) (f64.const 1.{n}{m})))))",
                        0x1E37_79B9 + 2 * (n * 20 + m) + 1,
                        1 + (n + m) % 63
                    )
                })
                .collect();
            format!("(func $f{n} (param i64) (result i64) {steps} (local.get 0))")
        })
        .collect();
    let calls: String = (0..40).map(|n| format!("(local.set $x (call $f{n} (local.get $x)))")).collect();
    format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 32) (data (i32.const 0) \"\\10\\00\\00\\00\\10\\00\\00\\00\")
           (data (i32.const 65536) \"{}\") {functions}
           (func (export \"_start\") (local $x i64) (local $n i32) (local.set $x (i64.const 1)) {calls}
             (loop $next
               (i32.store8 offset=16 (local.get $n)
                 (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $x) (i64.const 15)))))
               (local.set $x (i64.shr_u (local.get $x) (i64.const 4)))
               (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16))))
             (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))",
        "x".repeat(1 << 20)
    )
}

/// The names of what was compiled.
fn compiled(data: &Path) -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(data.join("nodes/skiff-1/runtime/compiled")).unwrap().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().ends_with(".cwasm")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_quick_compiler_made_is_replaced_and_answers_the_same() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let up = Up::start(home.path(), &["--data-dir", data.to_str().unwrap(), "--fast-first-start"]).await;
    let file = home.path().join("large.wat");
    std::fs::write(&file, large()).unwrap();
    let done = run(home.path(), &["image", "load", file.to_str().unwrap()]).await;
    assert!(done.ok, "{}", done.stderr);
    let quick = compiled(&data);
    let pods = Api::<Pod>::default_namespaced(up.client().await);
    let first = log(&pods, "first", "localhost/large:latest", "Never").await;
    assert!(first.len() == 16 && first != "a".repeat(16), "{first}");
    eventually!(compiled(&data).len() == 1 && compiled(&data) != quick, "the optimised code takes the other's place");
    assert_eq!(log(&pods, "second", "localhost/large:latest", "Never").await, first);
}

/// A command of WASI 0.3 that succeeds when it has drawn a number.
const NEWER: &str = r#"(component
  (import "wasi:random/random@0.3.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $m
    (import "host" "random" (func $random (result i64)))
    (func (export "run") (result i32) (i64.eqz (call $random))))
  (core instance $i (instantiate $m (with "host" (instance (export "random" (func $random))))))
  (func $run async (result (result)) (canon lift (core func $i "run")))
  (instance $e (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $e)))"#;

#[tokio::test(flavor = "multi_thread")]
async fn components_of_wasi_0_3_run_where_the_node_is_told_to() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newer.wat");
    std::fs::write(&file, NEWER).unwrap();
    for on in [false, true] {
        let mut options = vec!["--ephemeral"];
        options.extend(on.then_some("--wasi-0.3"));
        let up = Up::start(home.path(), &options).await;
        let pods = Api::<Pod>::default_namespaced(up.client().await);
        for module in [&file, &wat("command.wat")] {
            let done = run(home.path(), &["image", "load", module.to_str().unwrap()]).await;
            assert!(done.ok, "{}", done.stderr);
        }
        if on {
            log(&pods, "newer", "localhost/newer:latest", "Never").await;
        } else {
            pods.create(&PostParams::default(), &pod("newer", "localhost/newer:latest", "Never")).await.unwrap();
            eventually!(
                waiting(&pods.get("newer").await.unwrap()).1.contains("--wasi-0.3"),
                "the message says what to do"
            );
        }
        assert_eq!(log(&pods, "older", "localhost/command:latest", "Never").await, "Hello from a component!\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_asks_the_api_server_over_tls_by_the_certificates_that_the_node_is_given() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut command = skiff(home.path());
    // The cluster's own authority, which is made at the first start.
    command.env("SSL_CERT_FILE", data.join("pki/ca.crt")).env_remove("SSL_CERT_DIR");
    let up = Up::of(command, &["--data-dir", data.to_str().unwrap()]).await;
    let done = run(home.path(), &["image", "load", wasm("http-lab.wasm").to_str().unwrap()]).await;
    assert!(done.ok, "{}", done.stderr);
    let pods = Api::<Pod>::default_namespaced(up.client().await);
    pods.create(&PostParams::default(), &pod("lab", "localhost/http-lab:latest", "Never")).await.unwrap();
    eventually!(phase(&pods.get("lab").await.unwrap()) == "Running");
    let ip = pods.get("lab").await.unwrap().status.unwrap().pod_ip.unwrap();
    let fetch = async |url: &str| {
        let mut stream = TcpStream::connect((ip.as_str(), 8080)).await.unwrap();
        stream.write_all(format!("GET /fetch?{url} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = fetch("https://kubernetes.default.svc/api/v1/namespaces").await;
    assert!(answer.starts_with("HTTP/1.0 403") && answer.contains("system:anonymous"), "{answer}");
    let answer = fetch(&format!("https://{ip}:8080/")).await;
    assert!(answer.contains("ErrorCode::Tls"), "a pod without TLS: {answer}");
}
