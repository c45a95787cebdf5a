//! HTTP servers of one runtime: what a request may do to its server, and what it may not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_runtime::{Connection, ContainerState, Runtime as _, conformance::eventually};
use support::{Node, Run, memory};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LAB: &[u8] = include_bytes!("../../../wasm-examples/rust/http-lab.wasm");
const TEXT: &[u8] = include_bytes!("../../../wasm-examples/wat/http-handler.wat");

type Body = BoxBody<Bytes, std::convert::Infallible>;

async fn serve<'a>(node: &'a Node, annotations: &[(&str, &str)]) -> Run<'a> {
    serve_with(node, annotations, |_| {}).await
}

async fn serve_with<'a>(
    node: &'a Node,
    annotations: &[(&str, &str)],
    change: impl FnOnce(&mut skiff_runtime::ContainerConfig),
) -> Run<'a> {
    node.load("localhost/lab", LAB).await.unwrap();
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|(name, value)| (format!("skiff.dev/{name}"), (*value).to_owned())).collect();
    let started = node.start("localhost/lab", |config| {
        config.annotations = annotations;
        change(config);
    });
    let run = started.await;
    connect(node, 8080).await;
    run
}

/// To a port that will be listened on.
async fn connect(node: &Node, port: u16) -> Box<dyn Connection> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match node.runtime.dial(&node.sandbox, port).await {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn client(node: &Node) -> http1::SendRequest<Body> {
    let (client, connection) = http1::handshake(TokioIo::new(connect(node, 8080).await)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "lab").body(Full::default().boxed()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// On a connection of its own.
async fn fetch(node: &Node, path: &str) -> (StatusCode, String) {
    let response = client(node).await.send_request(get(path)).await.unwrap();
    (response.status(), text(response).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_text_answers_every_request_of_a_connection() {
    let node = Node::new().await;
    node.load("localhost/text", TEXT).await.unwrap();
    let run = node
        .start("localhost/text", |config| {
            config.env = vec![("WASMTIME_HTTP_PROXY_SOCKET_ADDR".to_owned(), "0.0.0.0:80".to_owned())];
        })
        .await;
    let (mut client, connection) = http1::handshake(TokioIo::new(connect(&node, 80).await)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        client.ready().await.unwrap();
        let response = client.send_request(get("/")).await.unwrap();
        assert_eq!(response.headers()["content-length"], "24", "the whole answer was there at once");
        assert_eq!(text(response).await, "Hello from a component!\n");
    }
    assert_eq!(node.runtime.container_status(&run.id).await.unwrap().state, ContainerState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_an_instance_of_its_own_unless_reuse_is_asked_for() {
    let node = Node::new().await;
    let run = serve(&node, &[]).await;
    assert_eq!(fetch(&node, "/count").await.1, "1\n");
    assert_eq!(fetch(&node, "/count").await.1, "1\n");
    node.runtime.remove_container(&run.id).await.unwrap();
    let _run = serve(&node, &[("http-reuse", "3")]).await;
    let mut counts = Vec::new();
    for path in ["/count", "/count", "/count", "/count", "/trap", "/count"] {
        counts.push(fetch(&node, path).await.1);
    }
    let failed = "500 Internal Server Error\n";
    assert_eq!(counts, ["1\n", "2\n", "3\n", "1\n", failed, "1\n"], "a new one after three, and after a fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_streams_bodies_and_trailers_both_ways() {
    let node = Node::new().await;
    let _run = serve(&node, &[]).await;
    let stream = TokioIo::new(connect(&node, 8080).await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Frame<Bytes>>(1);
    let body = StreamBody::new(futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (Ok::<_, std::convert::Infallible>(frame), receiver))
    }));
    let request = Request::post("http://lab/echo").body(BoxBody::new(body)).unwrap();
    let mut response = client.send_request(request).await.unwrap().into_body();
    for word in ["one ", "two ", "three"] {
        sender.send(Frame::data(word.into())).await.unwrap();
        // It comes back before the next is sent.
        assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "3".parse().unwrap())].into_iter().collect();
    sender.send(Frame::trailers(trailers)).await.unwrap();
    drop(sender);
    let frame = response.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["x-sum"], "3");
    // Many at a time on one connection.
    let many =
        (0..100).map(|_| client.send_request(Request::get("http://lab/").body(Full::default().boxed()).unwrap()));
    for response in join_all(many.collect::<Vec<_>>()).await {
        assert_eq!(text(response.unwrap()).await, "hello\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_request_is_answered_and_told_and_the_server_stays() {
    let node = Node::new().await;
    let run = serve(&node, &[]).await;
    let rows = [("/trap", 500), ("/silent", 500), ("/error", 502), ("/", 200)];
    for (path, expected) in rows {
        assert_eq!(fetch(&node, path).await.0.as_u16(), expected, "{path}");
    }
    let log = run.log().join("\n");
    assert!(log.contains("request GET /trap failed: wasm trap: wasm `unreachable`"), "{log}");
    assert!(log.contains("as asked"), "what the guest itself wrote is there: {log}");
    // A response that ends in the middle does not look complete.
    let response = client(&node).await.send_request(get("/trap-late")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(fetch(&node, "/").await.1, "hello\n");
    // A flood of faults is not a flood of the log.
    for _ in 0..50 {
        fetch(&node, "/silent").await;
    }
    assert!(run.log().iter().filter(|line| line.contains("/silent")).count() <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_ended_at_the_time_out() {
    let node = Node::new().await;
    let run = serve(&node, &[("http-timeout", "1s")]).await;
    let paths = ["/loop", "/storm", "/wait"];
    let begun = Instant::now();
    let others = join_all(paths.map(|path| fetch(&node, path)));
    let (ended, neighbour) = tokio::join!(others, async {
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < Duration::from_millis(800) {
            let begun = Instant::now();
            assert_eq!(fetch(&node, "/").await.1, "hello\n");
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    });
    assert!(ended.iter().all(|(status, _)| *status == 504), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(neighbour < Duration::from_millis(500), "a neighbour waited {neighbour:?}");
    // It may be answered before it is told.
    let told = || run.log().iter().any(|line| line.contains("request GET /loop timed out: the limit of 1s is over"));
    eventually("a line in the log", async {
        while !told() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    eventually("instances that were ended hold nothing", async {
        while node.runtime.container_stats(&run.id).await.unwrap().memory_bytes != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_holds_its_own_request_and_not_for_ever() {
    let node = Node::new().await;
    let run = serve(&node, &[("http-timeout", "2s"), ("http-concurrency", "2")]).await;
    let mut slow = connect(&node, 8080).await;
    slow.write_all(b"GET /big?1000 HTTP/1.1\r\nhost: lab\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    assert_eq!(fetch(&node, "/").await.1, "hello\n");
    let held = node.runtime.container_stats(&run.id).await.unwrap().memory_bytes;
    assert!(held > 0 && held < 16 << 20, "what was not read is not kept: {held}");
    let freed = async {
        while node.runtime.container_stats(&run.id).await.unwrap().memory_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.expect("its instance is freed at the time-out");
    let mut rest = Vec::new();
    // Reset, or cut off: either way it does not end as a response ends.
    let _ = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_places_wait() {
    let node = Node::new().await;
    let _run = serve(&node, &[("http-concurrency", "1")]).await;
    let begun = Instant::now();
    let all = join_all((0..3).map(|_| fetch(&node, "/wait?1"))).await;
    assert!(all.iter().all(|(status, text)| *status == 200 && text == "waited\n"), "{all:?}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "they came one after the other: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_container_is_that_of_its_requests_together() {
    let node = Node::new().await;
    let run = serve_with(&node, &[], |config| config.resources = memory(32 << 20)).await;
    assert_eq!(fetch(&node, "/grow?20000000").await, (StatusCode::OK, "20000000\n".to_owned()));
    assert_eq!(fetch(&node, "/grow?40000000").await.0, 500);
    let log = run.log().join("\n");
    assert!(log.contains("out of memory: the limit of 33554432 bytes is reached"), "{log}");
    assert_eq!(fetch(&node, "/").await.1, "hello\n");
    let stats = node.runtime.container_stats(&run.id).await.unwrap();
    // What may be left is of connections that are being closed.
    assert!(stats.memory_bytes < 256 << 10 && stats.memory_bytes_peak <= 32 << 20, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_headers_and_requests_without_a_host_are_refused() {
    let node = Node::new().await;
    let _run = serve(&node, &[]).await;
    let giant = format!("GET / HTTP/1.1\r\nhost: lab\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: lab\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let rows = [
        (giant.as_str(), "HTTP/1.1 431 "),
        (many.as_str(), "HTTP/1.1 431 "),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
    ];
    for (sent, expected) in rows {
        let mut connection = connect(&node, 8080).await;
        // The server may answer and close before it has read everything.
        let _ = connection.write_all(sent.as_bytes()).await;
        let mut answer = vec![0; expected.len()];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
    // What a handler sends is bounded as well: the host takes 128 KiB of headers from it.
    assert_eq!(fetch(&node, "/headers?1000").await.0, 500);
    assert_eq!(fetch(&node, "/headers?10").await.1, "many\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_it_finishes_what_it_has_begun() {
    let node = Node::new().await;
    let mut run = serve(&node, &[]).await;
    let mut idle = client(&node).await;
    idle.ready().await.unwrap();
    let begun = tokio::spawn({
        let mut client = client(&node).await;
        async move { text(client.send_request(get("/wait?1")).await.unwrap()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.runtime.stop_container(&run.id, Duration::from_secs(30)).await.unwrap();
    assert_eq!(begun.await.unwrap(), "waited\n");
    assert_eq!((run.exit().await.code, run.exit_reason().await), (0, "Completed"));
    assert!(node.runtime.dial(&node.sandbox, 8080).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_grace_is_over_it_is_killed() {
    let node = Node::new().await;
    let run = serve(&node, &[]).await;
    let mut client = client(&node).await;
    let waiting = tokio::spawn(async move { client.send_request(get("/wait")).await });
    let mut other = connect(&node, 8080).await;
    other.write_all(b"GET /loop HTTP/1.1\r\nhost: lab\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    node.runtime.stop_container(&run.id, Duration::from_millis(200)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(node.runtime.container_status(&run.id).await.unwrap().exit.unwrap().code, 137);
    assert!(waiting.await.unwrap().is_err());
    let stats = node.runtime.container_stats(&run.id).await.unwrap();
    assert_eq!(stats.memory_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_processor_time_is_that_of_all_requests_together() {
    let node = Node::new().await;
    let run = serve_with(&node, &[], |config| config.resources.cpu_millis_max = Some(100)).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut connection = connect(&node, 8080).await;
        connection.write_all(b"GET /loop HTTP/1.1\r\nhost: lab\r\n\r\n").await.unwrap();
        open.push(connection);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = node.runtime.container_stats(&run.id).await.unwrap();
    // 100 ms of a second, what it had saved (10 ms), and for each of them an epoch or two.
    let millis = stats.cpu_nanos_total / 1_000_000;
    assert!(millis < 300, "used {millis} ms of a second with a limit of 100");
    node.runtime.remove_container(&run.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_reads_is_not_for_the_guest() {
    let node = Node::new().await;
    let variables = [("WASMTIME_HTTP_PROXY_SOCKET_ADDR", "127.0.0.1:8080"), ("WASMTIME_HTTP_BACKLOG", "7"), ("A", "b")];
    let env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let run = serve_with(&node, &[], |config| config.env = env).await;
    assert_eq!(fetch(&node, "/env").await.1, "HOSTNAME=pod-host\nA=b\n");
    assert_eq!(fetch(&node, "/log?this").await.1, "told\n");
    assert_eq!(run.log(), ["told: this"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_take_no_instance_that_the_node_has_promised_to_a_container() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    // Two containers, and beside them sixteen requests.
    config.instances_max = Some(2);
    let node = Node::with(directory, config).await;
    node.load("localhost/hello", include_bytes!("../../../wasm-examples/wat/hello.wat")).await.unwrap();
    let server = serve(&node, &[("http-reuse", "2")]).await;
    let begun = Instant::now();
    let requests = join_all((0..20).map(|_| fetch(&node, "/wait?1")));
    let (answers, ()) = tokio::join!(requests, async {
        // Each has a memory of more than one MiB.
        while node.runtime.container_stats(&server.id).await.unwrap().memory_bytes < 16 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..3 {
            assert_eq!(node.start("localhost/hello", |_| {}).await.exit().await.code, 0);
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "none of them waited for the requests' end");
    });
    for (status, _) in &answers {
        assert_eq!(*status, StatusCode::OK, "those beyond sixteen wait");
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "they ran in two rounds");
}

/// What makes a server a command as well: it prints one line.
const COMMAND: &str = r#"
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $output-stream (eq $outer-stream)))
    (export "get-stdout" (func (result (own $output-stream))))))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core module $command
    (import "host" "memory" (memory 1))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (data (i32.const 512) "run, not served\n")
    (func (export "run") (result i32)
      (call $write (call $get-stdout) (i32.const 512) (i32.const 16) (i32.const 0))
      (i32.load8_u (i32.const 0))))
  (core instance $command (instantiate $command
    (with "host" (instance
      (export "memory" (memory $memory "memory"))
      (export "get-stdout" (func $get-stdout))
      (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $command "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_also_be_run_serves_and_runs_what_is_execed() {
    let node = Node::new().await;
    let server = std::str::from_utf8(TEXT).unwrap().trim_end();
    let both = format!("{}{COMMAND}", server.strip_suffix(')').unwrap());
    node.load("localhost/both", both.as_bytes()).await.unwrap();
    let run = node.start("localhost/both", |_| {}).await;
    assert_eq!(fetch(&node, "/").await, (StatusCode::OK, "Hello from a component!\n".to_owned()));
    let command = ["both".to_owned(), "anything".to_owned()];
    let output = node.runtime.exec_sync(&run.id, &command, Duration::from_secs(30)).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice()), (0, &b"run, not served\n"[..]));
    assert_eq!(fetch(&node, "/").await.0, StatusCode::OK, "it serves on");

    node.load("localhost/text", TEXT).await.unwrap();
    let other = node.start("localhost/text", |config| config.ports = vec![8081]).await;
    let refused = node.runtime.exec_sync(&other.id, &command, Duration::from_secs(30)).await.unwrap_err().to_string();
    assert!(
        refused.contains("it is an HTTP server and exports no wasi:cli/run; built-in commands are @ls"),
        "{refused}"
    );
}
