//! What `kubectl describe pod` tells of programs that cannot start or were ended: enough to mend them without the node's logs.

use skiff_testing::{Cluster, eventually};

use crate::tool::{Kubectl, wat};

fn pod(name: &str, class: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  runtimeClassName: {class}\n  restartPolicy: Never\n  \
         containers:\n  - {{name: main, image: \"localhost/{name}:latest\", imagePullPolicy: Never{extra}}}\n"
    )
}

/// Programs by name: text, more of the container, and what `describe` must say.
const ROWS: &[(&str, &str, &str, &[&str])] = &[
    (
        "imports",
        r#"(component (import "acme:db/query@1.0.0" (instance (export "run" (func))))
                      (import "wasi:cli/environment@0.2.3" (instance (export "get-environment" (func))))
                      (import "wasi:io/streams@1.0.0" (instance (export "read" (func))))
                      (core module $m (func (export "run") (result i32) (i32.const 0)))
                      (core instance $m (instantiate $m))
                      (func $run (result (result)) (canon lift (core func $m "run")))
                      (instance $i (export "run" (func $run)))
                      (export "wasi:cli/run@0.2.3" (instance $i)))"#,
        "",
        &[
            "unsatisfied imports acme:db/query@1.0.0 (this node has nothing of acme:db)",
            "wasi:io/streams@1.0.0 (this node has version 0.2.12)",
            "this node offers: ",
            "wasi:cli@0.2.12 (environment,",
        ],
    ),
    (
        "module-imports",
        r#"(module (import "env" "f" (func)) (func (export "_start")))"#,
        "",
        &["unsatisfied import \"env\" \"f\""],
    ),
    (
        "world",
        r#"(component (instance $i) (export "acme:lib/api@1.0.0" (instance $i)))"#,
        "",
        &["it exports acme:lib/api@1.0.0", "wasi:cli/run@0.2"],
    ),
    (
        "function",
        r#"(module (func (export "main")))"#,
        "",
        &["it exports no function \"_start\"; its functions: \"main\""],
    ),
    (
        "trap",
        r#"(module $app (func $deep unreachable) (func $work (call $deep)) (func (export "_start") (call $work)))"#,
        "",
        &["unreachable", "a panic, an abort", "backtrace, innermost first", "app!deep", "app!work"],
    ),
    (
        "recursion",
        r#"(module (func $f (export "_start") (call $f) (call $f)))"#,
        "",
        &["stack overflow: it called too deeply"],
    ),
    (
        "bounds",
        r#"(module (memory 1) (func (export "_start") (drop (i32.load (i32.const -8)))))"#,
        "",
        &["beyond the end of its memory"],
    ),
    (
        "memory",
        r#"(module (memory 1) (func (export "_start") (loop (drop (memory.grow (i32.const 16))) (br 0))))"#,
        ", resources: {limits: {memory: 2Mi}}",
        &["OOMKilled", "the limit of 2097152 bytes is reached", "1048576 more asked for", "peak 1114112"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_describe_says_what_is_wrong() {
    let cluster = Cluster::start().await.unwrap();
    let Some(k) = Kubectl::of(&cluster) else { return };
    for (name, text, extra, _) in ROWS {
        let file = cluster.dir().join(format!("{name}.wat"));
        std::fs::write(&file, text).unwrap();
        cluster.load(&format!("localhost/{name}:latest"), &file).await.unwrap();
        k.ok_with(&["apply", "-f", "-"], &pod(name, "wasm", extra)).await;
    }
    for (name, _, _, expected) in ROWS {
        let told = |text: &str| expected.iter().all(|part| text.contains(part));
        let describe = ["describe", "pod", name];
        eventually!(told(&k.ok(&describe).await), "{name}: {expected:?} in\n{}", k.ok(&describe).await);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wasm_is_named_when_it_is_loaded() {
    let cluster = Cluster::start().await.unwrap();
    for (bytes, expected) in [
        (&b"\x7fELF\x02\x01"[..], "a Linux executable (ELF)"),
        (b"#!/bin/sh\necho", "a script"),
        (b"<!DOCTYPE html>", "an HTML page"),
        (b"\0asm\x01\0\0\0\x0a\x06\x01\x04\0\x6a\x0b\0", "at offset"),
    ] {
        let file = cluster.dir().join("bad.wasm");
        std::fs::write(&file, bytes).unwrap();
        let error = cluster.load("localhost/bad:latest", &file).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{expected} in {error:#}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_that_a_pod_asks_for_is_told() {
    let cluster = Cluster::start().await.unwrap();
    let Some(k) = Kubectl::of(&cluster) else { return };
    for (name, class) in [("edge", "wasmedge"), ("own", "wasmtime")] {
        cluster.load(&format!("localhost/{name}:latest"), wat("hello.wat")).await.unwrap();
        k.ok_with(&["apply", "-f", "-"], &pod(name, class, "")).await;
    }
    let events = |name: &'static str| {
        let k = &k;
        async move { k.ok(&["events", "--for", &format!("pod/{name}")]).await }
    };
    let text = "wasmedge is not embedded in this node: wasmtime runs this pod";
    eventually!(events("edge").await.matches(text).count() == 1 && events("edge").await.contains("Warning"));
    eventually!(events("own").await.contains("Started"));
    assert!(!events("own").await.contains("wasmtime runs"), "wasmtime is what was asked for");
    let classes =
        k.ok(&["get", "runtimeclasses", "-o", "jsonpath={range .items[*]}{.metadata.name}={.handler} {end}"]).await;
    for class in [
        "wasmtime=wasmtime",
        "wasmer=wasmer",
        "wasm=wasm",
        "wasmtime-spin-v2=spin",
        "wasmtime-v1=wasmtime-v1",
        "lunatic=lunatic",
    ] {
        assert!(classes.split(' ').any(|other| other == class), "{class} in {classes}");
    }
    cluster.stop().await;
}
