//! What a pod's annotations change: WebAssembly features, core dumps, deterministic runs.

#![allow(clippy::unwrap_used)]

mod support;

use skiff_runtime::{ContainerConfig, Error, LiveSource, Mount};
use support::Node;

const TRAP: &str = include_str!("../../../wasm-examples/wat/trap.wat");

fn annotated(pairs: &[(&str, &str)]) -> impl FnOnce(&mut ContainerConfig) + use<> {
    let pairs: Vec<_> = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    move |config| config.annotations.extend(pairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_is_on_for_the_pods_that_ask_for_it() {
    let node = Node::new().await;
    let wide = "(module (func (export \"_start\") (i64.mul_wide_u (i64.const 1) (i64.const 2)) drop drop))";
    node.load("localhost/wide", wide.as_bytes()).await.unwrap();
    let error = node.create("localhost/wide", |_| {}).await.err().unwrap();
    assert!(
        error.to_string().contains("set the pod's annotation skiff.dev/wasm-features to \"wide-arithmetic\""),
        "{error}"
    );
    let mut run = node.start("localhost/wide", annotated(&[("skiff.dev/wasm-features", "wide-arithmetic")])).await;
    assert_eq!(run.exit().await.code, 0);

    node.load("localhost/tail", b"(module (func $f) (func (export \"_start\") (return_call $f)))").await.unwrap();
    let mut run = node.start("localhost/tail", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    let off =
        node.create("localhost/tail", annotated(&[("skiff.dev/wasm-features", "-tail-call")])).await.err().unwrap();
    assert!(off.to_string().contains("\"tail-call\""), "{off}");
    let error = node.create("localhost/tail", annotated(&[("skiff.dev/wasm-features", "warp")])).await.err().unwrap();
    assert!(matches!(&error, Error::Invalid(message) if message.contains("\"warp\"")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_yield_in_every_engine() {
    let node = Node::new().await;
    let text = include_str!("../../../wasm-examples/wat/loop.wat");
    node.load("localhost/loop", text.as_bytes()).await.unwrap();
    let mut run = node.start("localhost/loop", annotated(&[("skiff.dev/wasm-features", "wide-arithmetic")])).await;
    skiff_runtime::Runtime::stop_container(&*node.runtime, &run.id, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(run.exit().await.code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_leaves_a_core_dump_where_it_is_asked_for() {
    let node = Node::new().await;
    let (exit, _) = node.run(TRAP, annotated(&[("skiff.dev/core-dump", "true")])).await;
    let place = exit.message.lines().nth(1).unwrap().strip_prefix("core dump: ").unwrap();
    let path = place.split(" on the node").next().unwrap();
    check(&std::fs::read(path).unwrap());
    assert!(exit.message.contains("innermost"), "the backtrace is told as well: {}", exit.message);

    let volume = tempfile::tempdir().unwrap();
    let mount = Mount {
        host_path: volume.path().to_owned(),
        container_path: "/data".to_owned(),
        read_only: false,
        volume: None,
    };
    let (exit, _) = node
        .run(TRAP, |config| {
            config.mounts.push(mount);
            annotated(&[("skiff.dev/core-dump-path", "/data/cores/trap.core")])(config);
        })
        .await;
    assert!(exit.message.contains("core dump: /data/cores/trap.core ("), "{}", exit.message);
    check(&std::fs::read(volume.path().join("cores/trap.core")).unwrap());

    let (exit, _) =
        node.run("(module (func (export \"_start\")))", annotated(&[("skiff.dev/core-dump", "true")])).await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
}

/// It is a core dump: a module with the sections that the tools look for.
fn check(dump: &[u8]) {
    let sections: Vec<_> = wasmparser::Parser::new(0)
        .parse_all(dump)
        .filter_map(|payload| match payload.unwrap() {
            wasmparser::Payload::CustomSection(section) => Some(section.name().to_owned()),
            _ => None,
        })
        .collect();
    for name in ["core", "coremodules", "coreinstances", "corestack"] {
        assert!(sections.iter().any(|section| section == name), "{name} in {sections:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deterministic_runs_are_the_same_and_do_not_wait() {
    let node = Node::new().await;
    for text in [include_str!("programs/clocks-p1.wat"), include_str!("programs/clocks-p2.wat")] {
        let run = async |seed| {
            let (exit, log) = node.run(text, annotated(&[("skiff.dev/deterministic", seed)])).await;
            assert_eq!(exit.code, 0, "{exit:?}");
            log
        };
        let first = run("1").await;
        assert_eq!(first, run("1").await);
        assert_ne!(first, run("2").await, "another seed is another run");
        // An hour, and the looks at the clock around it.
        let number = |from: usize| {
            let letters = &first[0].as_bytes()[from..from + 16];
            let byte = |pair: &[u8]| ((pair[0] - b'a') << 4) | (pair[1] - b'a');
            u64::from_le_bytes(std::array::from_fn(|index| byte(&letters[index * 2..])))
        };
        let slept = number(64) - number(48);
        assert!((3_600_000_000_000..3_600_001_000_000).contains(&slept), "{slept}");
    }
}

/// Counts to a million before it is of use.
const SLOW: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $ready (mut i32) (i32.const 0))
  (data (i32.const 16) "not ready\n")
  (data (i32.const 32) "was ready\n")
  (func (export "prepare") (local $i i32)
    (loop $next (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 1000000))))
    (i32.store (i32.const 0) (i32.const 32))
    (global.set $ready (i32.const 1)))
  (func (export "fail") unreachable)
  (func (export "forever") (loop (br 0)))
  (func (export "_start")
    (if (i32.eqz (global.get $ready)) (then (i32.store (i32.const 0) (i32.const 16))))
    (i32.store (i32.const 4) (i32.const 10))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn containers_start_from_a_snapshot() {
    let node = Node::new().await;
    let (_, log) = node.run(SLOW, |_| {}).await;
    assert_eq!(log, ["not ready"]);
    for _ in 0..2 {
        let (_, log) = node.run(SLOW, annotated(&[("skiff.dev/snapshot", "prepare")])).await;
        assert_eq!(log, ["was ready"]);
    }
    for (function, expected) in [("fail", "unreachable"), ("absent", "its functions: \"prepare\", \"fail\"")] {
        let error = node.create("localhost/test", annotated(&[("skiff.dev/snapshot", function)])).await.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // What is kept of snapshots goes with the image.
    let compiled = || {
        let entries = std::fs::read_dir(node.directory.path().join("root/compiled")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !["key", "version"].contains(&name.as_str())).collect::<Vec<_>>()
    };
    assert!(compiled().len() > 1);
    skiff_runtime::Runtime::remove_image(&*node.runtime, "localhost/test").await.unwrap();
    assert_eq!(compiled(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_starts_from_a_snapshot() {
    let text = r#"(component
      (core module $m
        (global $code (mut i32) (i32.const 1))
        (memory 1)
        (func (export "prepare") (i32.store (i32.const 8) (i32.const 5)) (global.set $code (i32.const 0)))
        (func (export "run") (result i32)
          (if (i32.ne (i32.load (i32.const 8)) (i32.const 5)) (then (return (i32.const 1))))
          (global.get $code)))
      (core instance $i (instantiate $m))
      (func $prepare (canon lift (core func $i "prepare")))
      (export "prepare" (func $prepare))
      (func $run (result (result)) (canon lift (core func $i "run")))
      (instance $e (export "run" (func $run)))
      (export "wasi:cli/run@0.2.0" (instance $e)))"#;
    let node = Node::new().await;
    assert_eq!(node.run(text, |_| {}).await.0.code, 1);
    assert_eq!(node.run(text, annotated(&[("skiff.dev/snapshot", "prepare")])).await.0.code, 0);
}

/// The example whose start is slow, and is not from its snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_saves_the_time_of_a_slow_start() {
    let node = Node::new().await;
    node.load("localhost/table", include_bytes!("../../../wasm-examples/rust/table.wasm")).await.unwrap();
    let mut fastest = Vec::new();
    for annotations in [&[][..], &[("skiff.dev/snapshot", "prepare")]] {
        let mut times = Vec::new();
        for below in ["1000000", "2000000", "1000000", "2000000"] {
            // With the snapshot the first one makes it, when it is created.
            let run = node.create("localhost/table", |config| {
                config.args = vec![below.to_owned()];
                annotated(annotations)(config);
            });
            let mut run = run.await.unwrap();
            let begun = std::time::Instant::now();
            skiff_runtime::Runtime::start_container(&*node.runtime, &run.id).await.unwrap();
            assert_eq!(run.exit().await.code, 0);
            times.push(begun.elapsed());
            let primes = if below == "1000000" { "78498" } else { "148933" };
            assert_eq!(run.log(), [format!("{primes} primes below {below}")]);
        }
        times.sort_unstable();
        println!("{annotations:?}: start to end {times:.1?}");
        fastest.push(times[0]);
    }
    assert!(fastest[1] * 4 < fastest[0], "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_read_and_keep_values_by_key() {
    let text = include_str!("../../../wasm-examples/wat/stores.wat");
    let node = Node::new().await;
    let source = |key: &str, value: &str| LiveSource::new([(key.to_owned(), value.as_bytes().to_vec())].into());
    for run in 1..=2 {
        let sources = [
            ("secret/s".to_owned(), source("greeting", "hello\n")),
            ("configmap/texts".to_owned(), source("a", "text\n")),
        ];
        let (exit, log) = node
            .run(text, |config| {
                config.sources.extend(sources);
                annotated(&[
                    ("skiff.dev/config", "configmap/texts, secret/s"),
                    ("skiff.dev/keyvalue", "configmap/texts"),
                ])(config);
            })
            .await;
        assert_eq!(
            (exit.code, &log[..]),
            (0, &["hello", &run.to_string(), "text", "denied"].map(str::to_owned)[..]),
            "{exit:?}"
        );
    }
    let error = node.create("localhost/test", annotated(&[("skiff.dev/config", "texts")])).await.err().unwrap();
    assert!(error.to_string().contains("\"configmap/NAME\""), "{error}");
    let error = node.create("localhost/test", annotated(&[("skiff.dev/keyvalue", "../x")])).await.err().unwrap();
    assert!(error.to_string().contains("skiff.dev/keyvalue"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wasi_0_3_runs_where_the_node_has_it() {
    let text = r#"(component
      (import "wasi:random/random@0.3.0" (instance $random (export "get-random-u64" (func (result u64)))))
      (core func $random (canon lower (func $random "get-random-u64")))
      (core module $m
        (import "host" "random" (func $random (result i64)))
        (func (export "run") (result i32) (i64.eqz (call $random))))
      (core instance $i (instantiate $m (with "host" (instance (export "random" (func $random))))))
      (func $run async (result (result)) (canon lift (core func $i "run")))
      (instance $e (export "run" (func $run)))
      (export "wasi:cli/run@0.3.0" (instance $e)))"#;
    let node = Node::new().await;
    node.load("localhost/newer", text.as_bytes()).await.unwrap();
    let error = node.create("localhost/newer", |_| {}).await.err().unwrap();
    assert!(error.to_string().contains("--wasi-0.3"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.wasi_0_3 = true;
    let node = Node::with(directory, config).await;
    assert_eq!(node.run(text, |_| {}).await.0.code, 0);
    let command = include_str!("../../../wasm-examples/wat/command.wat");
    assert_eq!(node.run(command, |_| {}).await.1, ["Hello from a component!"], "0.2 runs there as well");
}

/// A module of more than a megabyte, of which only the end is run.
fn large() -> String {
    let functions: String = (0..20)
        .map(|n| {
            let body: String = (0..60)
                .map(|m| format!("(local.set 0 (i32.add (local.get 0) (i32.const {})))", n * 1000 + m * 7777))
                .collect();
            format!("(func (param i32) (result i32) {body} (local.get 0))")
        })
        .collect();
    format!(
        "(module (memory (export \"memory\") 1) (data \"{}\") {functions} (func (export \"_start\")))",
        "x".repeat(1 << 20)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_module_starts_before_it_is_optimised() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.fast_first_start = true;
    let node = Node::with(directory, config).await;
    let kept = || {
        let entries = std::fs::read_dir(node.directory.path().join("root/compiled")).unwrap().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "cwasm"))
            .map(|e| e.file_name())
            .collect::<Vec<_>>()
    };
    node.load("localhost/large", large().as_bytes()).await.unwrap();
    let first = kept();
    let mut run = node.start("localhost/large", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    let replaced = async {
        while kept().len() != 1 || kept() == first {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), replaced).await.expect("Cranelift's takes its place");
    let mut run = node.start("localhost/large", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    // What Winch cannot compile waits for Cranelift.
    let tail = large().replace("(func (export", "(func $f) (func (export \"f\") (return_call $f)) (func (export");
    node.load("localhost/tail", tail.as_bytes()).await.unwrap();
    let mut run = node.start("localhost/tail", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
}
