//! What the host holds for a guest counts as its container's memory: while it holds it the figures show it, at the limit no more
//! is held, and nothing is left when the container is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use skiff_runtime::{ExecRequest, Mount, Runtime as _, StreamsWanted, conformance::eventually};
use support::{Node, Run, memory};
use tokio::io::AsyncReadExt as _;

const HOARD: &[u8] = include_bytes!("../../../wasm-examples/hostile/host-memory.wasm");
const SOCKETS: &[u8] = include_bytes!("../../../wasm-examples/rust/sockets.wasm");
const OBEY: &[u8] = include_bytes!("../../../wasm-examples/wat/obey.wat");
const LIMIT: u64 = 8 << 20;

async fn hoard<'a>(node: &'a Node, image: &str, words: &[&str]) -> Run<'a> {
    let directory = node.directory.path().join("volume");
    std::fs::create_dir_all(&directory).unwrap();
    let start = node.start(image, |config| {
        config.resources = memory(LIMIT);
        config.args = words.iter().map(|&word| word.to_owned()).collect();
        config.mounts =
            vec![Mount { host_path: directory, container_path: "/v".to_owned(), read_only: false, volume: None }];
    });
    start.await
}

async fn memory_of(run: &Run<'_>) -> (u64, u64) {
    let stats = run.node.runtime.container_stats(&run.id).await.unwrap();
    (stats.memory_bytes, stats.memory_bytes_peak)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_makes_the_host_hold_is_bounded_by_its_limit() {
    let node = Node::new().await;
    node.load("localhost/hoard", HOARD).await.unwrap();
    node.load("localhost/sockets", SOCKETS).await.unwrap();
    let begun = std::time::Instant::now();
    // Where programs know an error they get it, and go on.
    for (image, word, error) in [
        ("localhost/hoard", "reads", "not read"),
        ("localhost/hoard", "names", "insufficient-memory"),
        ("localhost/sockets", "hoard", "sockets"),
    ] {
        let mut run = hoard(&node, image, &[word]).await;
        let exit = run.exit().await;
        assert_eq!(exit.code, 0, "{word}: {exit:?}");
        let said = run.log().concat();
        let (left, peak) = memory_of(&run).await;
        println!("{:?} {word}: {said}; at most {peak} bytes", begun.elapsed());
        let count: u64 = said.split([',', ' ']).next().unwrap().parse().unwrap();
        assert!(said.contains(error), "{word}: {said}");
        assert!((10..256).contains(&count), "{word}: {said}");
        assert!(peak <= LIMIT && peak > LIMIT * 3 / 4, "{word}: {peak}");
        assert_eq!(left, 0, "{word}");
    }
    for word in ["fields", "bodies"] {
        let mut run = hoard(&node, "localhost/hoard", &[word]).await;
        let exit = run.exit().await;
        println!("{word}: {}", exit.message);
        assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{word}: {exit:?}");
        assert!(exit.message.contains("8388608"), "{word}: {exit:?}");
        assert_eq!(memory_of(&run).await.0, 0, "{word}");
    }
    let run = hoard(&node, "localhost/hoard", &["reads", "hold"]).await;
    until(&run, "the figures show what it holds", |bytes| bytes > LIMIT * 3 / 4).await;
    node.runtime.stop_container(&run.id, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(memory_of(&run).await.0, 0);
}

/// Until its memory is as wanted.
async fn until(run: &Run<'_>, what: &str, wanted: impl Fn(u64) -> bool) {
    let wait = async {
        while !wanted(memory_of(run).await.0) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    eventually(what, wait).await;
}

/// A client that does not read what an exec'd process prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_counts() {
    let node = Node::new().await;
    node.load("localhost/obey", OBEY).await.unwrap();
    let run = node
        .start("localhost/obey", |config| {
            config.resources = memory(LIMIT);
            config.args = vec!["sleep".to_owned()];
        })
        .await;
    until(&run, "it has its own memory", |bytes| bytes > 0).await;
    let before = memory_of(&run).await.0;
    let wanted = StreamsWanted { stdin: true, stdout: true, ..StreamsWanted::default() };
    let request = ExecRequest { command: vec!["@cat".to_owned()], streams: wanted };
    let mut cat = node.runtime.exec(&run.id, request).await.unwrap();
    let (mut input, mut output) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let feed = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut input, &[b'x'; 1 << 20]).await.unwrap();
    });
    until(&run, "both pipes are full", |bytes| bytes >= before + (128 << 10)).await;
    let mut read = Vec::new();
    output.read_to_end(&mut read).await.unwrap();
    feed.await.unwrap();
    assert_eq!(read.len(), 1 << 20);
    drop((cat, output));
    until(&run, "nothing is left", |bytes| bytes == before).await;
}
