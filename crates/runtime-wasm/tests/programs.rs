//! Modules and components start by their conventions, and are told apart by what they export.

mod support;

use support::Node;

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() {
    let node = Node::new().await;
    let rows: [(&str, i32, &[&str]); 4] = [
        (include_str!("../../../wasm-examples/wat/hello.wat"), 0, &["Hello from WebAssembly!"]),
        (include_str!("../../../wasm-examples/wat/command.wat"), 0, &["Hello from a component!"]),
        (include_str!("programs/run-fails.wat"), 1, &[]),
        (include_str!("programs/exit-with-code.wat"), 7, &[]),
    ];
    for (text, code, lines) in rows {
        let (exit, log) = node.run(text, |_| {}).await;
        assert_eq!(exit.code, code, "{text}: {exit:?}");
        assert_eq!(log, lines, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_function_of_a_reactor_runs_after_its_set_up() {
    let node = Node::new().await;
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (global $set (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $set (i32.const 5)))
        (func (export "report") (call $exit (global.get $set))))"#;
    let (exit, _) = node.run(text, |config| config.command = vec!["/app.wasm#report".to_owned()]).await;
    assert_eq!(exit.code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_names_its_host() {
    let node = Node::new().await;
    let (_, log) = node.run(include_str!("../../../wasm-examples/wat/env.wat"), |_| {}).await;
    assert_eq!(log, ["HOSTNAME=pod-host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_leaves_a_termination_message() {
    let node = Node::new().await;
    let files = include_str!("../../../wasm-examples/wat/files.wat");
    let path = "/dev/termination-log";
    let (exit, _) = node
        .run(files, |config| {
            config.args = ["write", path, "the last words"].map(str::to_owned).to_vec();
            config.termination_message_path = Some(path.to_owned());
        })
        .await;
    assert_eq!((exit.code, exit.message.as_str()), (0, "the last words"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_the_engines() {
    let node = Node::new().await;
    let version = &skiff_runtime::Runtime::capabilities(&*node.runtime).version;
    let lock = include_str!("../../../Cargo.lock");
    let locked = lock.split("name = \"wasmtime\"\nversion = \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(version, &format!("wasmtime://{locked}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_is_a_byte() {
    let node = Node::new().await;
    for (status, code) in [(125, 125), (126, 126), (255, 255), (-1, 255), (256, 0)] {
        let text = format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32))) (memory (export \"memory\") 0)
               (func (export \"_start\") (call $exit (i32.const {status}))))"
        );
        assert_eq!(node.run(&text, |_| {}).await.0.code, code, "{status}");
    }
}
