//! Guests that mean harm, or are broken, end with a clear message and disturb nobody.

mod support;

use std::time::{Duration, Instant};

use skiff_runtime::{Error, Runtime as _, RuntimeEvent};
use support::{Node, memory};

const HELLO: &str = include_str!("../../../wasm-examples/wat/hello.wat");
const LOOP: &str = include_str!("../../../wasm-examples/wat/loop.wat");

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_told_with_its_backtrace() {
    let node = Node::new().await;
    let (exit, _) = node.run(include_str!("../../../wasm-examples/wat/trap.wat"), |_| {}).await;
    assert_eq!((exit.code, exit.reason), (134, "Error"));
    for part in ["unreachable", "innermost", "middle"] {
        assert!(exit.message.contains(part), "{part} in {:?}", exit.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_as_signals() {
    let node = Node::new().await;
    let rows = [
        ("(func (export \"_start\") (drop (i32.div_s (i32.const 1) (i32.const 0))))", 136, "divide by zero"),
        ("(memory 1) (func (export \"_start\") (drop (i32.load (i32.const -8))))", 139, "out of bounds"),
        ("(func $f (export \"_start\") (call $f) (call $f))", 139, "call stack exhausted"),
        ("(table 1 funcref) (func (export \"_start\") (call_indirect (i32.const 0)))", 134, "uninitialized element"),
        ("(func $s unreachable) (start $s) (func (export \"_start\"))", 134, "unreachable"),
    ];
    for (body, code, text) in rows {
        let (exit, _) = node.run(&format!("(module {body})"), |_| {}).await;
        assert_eq!((exit.code, exit.reason), (code, "Error"), "{body}: {exit:?}");
        assert!(exit.message.contains(text), "{body}: {exit:?}");
        assert!(exit.message.len() <= skiff_runtime::MESSAGE_BYTES_MAX);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_tables_have_one_limit() {
    let node = Node::new().await;
    let rows = [
        // Grows; has too much from the start; has tables that are too large together.
        include_str!("../../../wasm-examples/wat/memory-growth.wat").to_owned(),
        "(module (memory 200) (func (export \"_start\")))".to_owned(),
        format!("(module {} (memory 100) (func (export \"_start\")))", "(table 99999 funcref)".repeat(8)),
    ];
    for text in rows {
        let (exit, _) = node.run(&text, |config| config.resources = memory(8 << 20)).await;
        assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{text}: {exit:?}");
        assert!(exit.message.contains("8388608") && exit.message.contains("peak"), "{exit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collected_memory_is_limited_too() {
    let node = Node::new().await;
    // A list of arrays that are all reachable.
    let text = "(module
        (type $node (struct (field (ref null $node)) (field (ref null $bytes))))
        (type $bytes (array (mut i8)))
        (func (export \"_start\") (local $head (ref null $node))
            (loop $again
                (local.set $head (struct.new $node (local.get $head) (array.new_default $bytes (i32.const 65536))))
                (br $again))))";
    let text = text.replacen("(type $node", "(rec (type $node", 1).replacen("(mut i8)))", "(mut i8))))", 1);
    let (exit, _) = node.run(&text, |config| config.resources = memory(8 << 20)).await;
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_are_limited() {
    let node = Node::new().await;
    // Opens the root directory again and again.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) ".")
        (func (export "_start")
            (loop $again
                (br_if $again (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2)
                    (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)))))))"#;
    let (exit, _) = node.run(text, |_| {}).await;
    assert!(exit.code == 0 || exit.message.contains("resource"), "refused or ended: {exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_write_leaves_others_their_turn() {
    let node = Node::new().await;
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1024)
        (func (export "_start")
            (memory.fill (i32.const 64) (i32.const 120) (i32.const 67000000))
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 67000000))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    node.load("localhost/write", text.as_bytes()).await.unwrap();
    node.load("localhost/hello", HELLO.as_bytes()).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..8 {
        writers.push(node.start("localhost/write", |config| config.log_bytes_max = Some(1 << 20)).await);
    }
    assert_eq!(node.start("localhost/hello", |_| {}).await.exit().await.code, 0);
    let mut running = 0;
    for run in &writers {
        let status = node.runtime.container_status(&run.id).await.unwrap();
        running += usize::from(status.state == skiff_runtime::ContainerState::Running);
        node.runtime.stop_container(&run.id, Duration::ZERO).await.unwrap();
    }
    assert!(running > 0, "the neighbour did not wait for the writers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_does_not_grow_without_end() {
    let node = Node::new().await;
    let text = "(module (table $t 1 funcref) (func (export \"_start\")
        (loop $again (br_if $again (i32.ge_s (table.grow $t (ref.null func) (i32.const 10000)) (i32.const 0))))))";
    let (exit, _) = node.run(text, |_| {}).await;
    assert_eq!(exit.code, 0, "table.grow answers -1 at the end: {exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_containers_together_have_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.memory_bytes_total = Some(4 << 20);
    let node = Node::with(directory, config).await;
    let (exit, _) = node.run(include_str!("../../../wasm-examples/wat/memory-growth.wat"), |_| {}).await;
    assert_eq!(exit.reason, "OOMKilled");
    assert!(exit.message.contains("all containers of the node"), "{exit:?}");
    let (exit, _) = node.run(HELLO, |_| {}).await;
    assert_eq!(exit.code, 0, "what the first had is free again: {exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_leave_the_host_and_the_neighbours_alone() {
    let node = Node::new().await;
    node.load("localhost/loop", LOOP.as_bytes()).await.unwrap();
    node.load("localhost/hello", HELLO.as_bytes()).await.unwrap();
    let mut loops = Vec::new();
    for _ in 0..20 {
        loops.push(node.start("localhost/loop", |_| {}).await);
    }
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(node.start("localhost/hello", |_| {}).await.exit().await.code, 0);
    }
    // Twenty loops in turn would take 200 ms each time; the bound is wide for busy machines.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    for run in &loops {
        node.runtime.stop_container(&run.id, Duration::from_secs(10)).await.unwrap();
        let stats = node.runtime.container_stats(&run.id).await.unwrap();
        assert!(stats.cpu_nanos_total > 0, "its time was measured");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_processor_time_holds() {
    let node = Node::new().await;
    node.load("localhost/loop", LOOP.as_bytes()).await.unwrap();
    let run = node.start("localhost/loop", |config| config.resources.cpu_millis_max = Some(100)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = node.runtime.container_stats(&run.id).await.unwrap();
    node.runtime.stop_container(&run.id, Duration::ZERO).await.unwrap();
    // 100 ms of a second, what it had saved (10 ms), and an epoch or two.
    let millis = stats.cpu_nanos_total / 1_000_000;
    assert!(millis < 200, "used {millis} ms of a second with a limit of 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_start_is_refused_when_it_is_created() {
    let node = Node::new().await;
    let rows: [(&str, &[&str], &str); 7] = [
        ("(module (import \"env\" \"magic\" (func)) (func (export \"_start\")))", &[], "\"env\" \"magic\""),
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)) (func (export \"_start\")))",
            &[],
            "fd_write",
        ),
        ("(module (func (export \"run\")))", &[], "exports no function \"_start\"; its functions: \"run\""),
        ("(module (func (export \"_start\")))", &["x#missing"], "exports no function \"missing\""),
        ("(module (func (export \"_start\") (param i32)))", &[], "takes parameters"),
        ("(component)", &[], "it exports nothing; this node runs those that export wasi:cli/run@0.2"),
        ("(component (import \"acme:db/store@1.0.0\" (instance (export \"get\" (func)))) (core module $m (func (export \"r\") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m)) (func $r (result (result)) (canon lift (core func $i \"r\")))
            (instance $e (export \"run\" (func $r))) (export \"wasi:cli/run@0.2.0\" (instance $e)))", &[], "acme:db/store"),
    ];
    for (text, command, expected) in rows {
        node.load("localhost/test", text.as_bytes()).await.unwrap();
        let created =
            node.create("localhost/test", |config| config.command = command.iter().map(|w| (*w).to_owned()).collect());
        match created.await {
            Err(Error::Invalid(message)) => assert!(message.contains(expected), "{expected} in {message:?}"),
            Err(error) => panic!("{text}: {error:?}"),
            Ok(_) => panic!("{text} was created"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_compile_is_refused_with_the_place() {
    let node = Node::new().await;
    let valid = wat::parse_str("(module (func (export \"_start\") (drop (i32.const 1))))").unwrap();
    // Takes the type of the constant away from under it.
    let position = valid.windows(3).position(|bytes| bytes == [0x41, 0x01, 0x1a]).unwrap();
    let mut wrong = valid.clone();
    wrong[position] = 0x1a;
    match node.load("localhost/wrong", &wrong).await {
        Err(Error::ImageUnusable { reason, .. }) => assert!(reason.contains("offset 35"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(node.runtime.list_images().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_full_of_containers_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.instances_max = Some(2);
    let node = Node::with(directory, config).await;
    node.load("localhost/sleep", include_bytes!("../../../wasm-examples/wat/sleep.wat")).await.unwrap();
    let first = node.start("localhost/sleep", |_| {}).await;
    let _second = node.start("localhost/sleep", |_| {}).await;
    let third = node.create("localhost/sleep", |_| {}).await.unwrap();
    let refused = node.runtime.start_container(&third.id).await;
    assert!(matches!(refused, Err(Error::Exhausted(_))), "{refused:?}");
    node.runtime.remove_container(&first.id).await.unwrap();
    node.runtime.start_container(&third.id).await.expect("there is room again, and it was not started before");
}

/// Every order of start, stop and removal: one exit for each start, and all room is free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn starts_and_stops_at_once_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.instances_max = Some(64);
    let node = Node::with(directory, config).await;
    node.load("localhost/sleep", include_bytes!("../../../wasm-examples/wat/sleep.wat")).await.unwrap();
    node.load("localhost/hello", HELLO.as_bytes()).await.unwrap();
    node.load("localhost/loop", LOOP.as_bytes()).await.unwrap();
    let mut events = node.runtime.events();
    for round in 0..10 {
        let mut tasks = Vec::new();
        for index in 0..60 {
            let image = ["localhost/sleep", "localhost/hello", "localhost/loop"][index % 3];
            let id = node.create(image, |_| {}).await.unwrap().id;
            let runtime = node.runtime.clone();
            let other = (node.runtime.clone(), id.clone());
            tasks.push(tokio::spawn(async move {
                let _ = runtime.start_container(&id).await;
            }));
            tasks.push(tokio::spawn(async move {
                let (runtime, id) = other;
                match (index + round) % 3 {
                    0 => runtime.stop_container(&id, Duration::from_secs(5)).await.unwrap(),
                    1 => runtime.stop_container(&id, Duration::ZERO).await.unwrap(),
                    _ => runtime.remove_container(&id).await.unwrap(),
                }
            }));
        }
        tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(tasks)).await.expect("no stop hangs");
        for status in node.runtime.list_containers(None).await.unwrap() {
            assert_eq!(status.state, skiff_runtime::ContainerState::Exited, "{status:?}");
            node.runtime.remove_container(&status.id).await.unwrap();
        }
    }
    let mut last = Vec::new();
    for _ in 0..64 {
        last.push(node.start("localhost/sleep", |_| {}).await.id);
    }
    let mut balance = std::collections::HashMap::<_, i32>::new();
    while last.iter().any(|id| !balance.contains_key(id)) {
        match tokio::time::timeout(Duration::from_secs(10), futures::StreamExt::next(&mut events)).await {
            Ok(Some(RuntimeEvent::Started { container, .. })) => {
                assert_eq!(balance.insert(container, 1), None, "a container starts once, before its exit");
            }
            Ok(Some(RuntimeEvent::Exited { container, .. })) => *balance.entry(container).or_default() -= 1,
            other => panic!("{other:?}"),
        }
    }
    for (id, left) in balance {
        let running = last.contains(&id);
        // One that was stopped before it started has an exit alone.
        assert!(if running { left == 1 } else { left == 0 || left == -1 }, "{id}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_leaves_is_not_followed() {
    let node = Node::new().await;
    let secret = node.directory.path().join("secret");
    std::fs::write(&secret, "host secret").unwrap();
    // The guest cannot make this link itself; if it could, reading its message must not follow it.
    let mount = node.directory.path().join("volume");
    std::fs::create_dir(&mount).unwrap();
    std::os::unix::fs::symlink(&secret, mount.join("message")).unwrap();
    let (exit, _) = node
        .run("(module (func (export \"_start\")))", |config| {
            config.mounts = vec![skiff_runtime::Mount {
                host_path: mount.clone(),
                container_path: "/v".to_owned(),
                read_only: false,
                volume: None,
            }];
            config.termination_message_path = Some("/v/message".to_owned());
        })
        .await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
    std::fs::remove_file(mount.join("message")).unwrap();
    std::fs::write(mount.join("message"), "all good").unwrap();
    let mut run = node
        .start("localhost/test", |config| {
            config.mounts = vec![skiff_runtime::Mount {
                host_path: mount.clone(),
                container_path: "/v".to_owned(),
                read_only: false,
                volume: None,
            }];
            config.termination_message_path = Some("/v/message".to_owned());
        })
        .await;
    assert_eq!(run.exit().await.message, "all good");
}
