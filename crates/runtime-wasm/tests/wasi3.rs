//! WASI 0.3 where the node offers it: the same network, limits and servers that programs of 0.2 meet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, StatusCode,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_runtime::{
    Connection, ContainerConfig, ContainerId, EVICTED, Exit, ImageSource, Resources, Runtime, RuntimeEvent, Sandbox,
    SandboxConfig,
};
use skiff_runtime_wasm::WasmRuntime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NET: &[u8] = include_bytes!("../../../wasm-examples/rust/wasi3-net.wasm");
const HTTP: &[u8] = include_bytes!("../../../wasm-examples/rust/wasi3-http.wasm");

type Body = BoxBody<Bytes, std::convert::Infallible>;

struct Node {
    runtime: Arc<WasmRuntime>,
    directory: tempfile::TempDir,
}

struct Pod<'a> {
    node: &'a Node,
    sandbox: Sandbox,
}

impl Node {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = support::config(&directory);
        config.wasi_0_3 = true;
        let runtime = WasmRuntime::open(config).unwrap();
        for (name, module) in [("localhost/net", NET), ("localhost/http", HTTP)] {
            runtime.load_image(name, ImageSource::Module(Bytes::from_static(module))).await.unwrap();
        }
        Self { runtime, directory }
    }

    async fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Pod<'_> {
        let sandbox = SandboxConfig {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            hostname: name.to_owned(),
            annotations: annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..SandboxConfig::default()
        };
        Pod { node: self, sandbox: self.runtime.run_sandbox(sandbox).await.unwrap() }
    }
}

struct Run<'a> {
    pod: &'a Pod<'a>,
    id: ContainerId,
    log: std::path::PathBuf,
}

impl Pod<'_> {
    fn ip(&self) -> String {
        self.sandbox.ips[0].to_string()
    }

    async fn start(&self, image: &str, args: &[&str], change: impl FnOnce(&mut ContainerConfig)) -> Run<'_> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let log = self.node.directory.path().join(format!("logs/{name}.log"));
        let mut config = ContainerConfig {
            name,
            image: image.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log_path: log.clone(),
            ..ContainerConfig::default()
        };
        change(&mut config);
        let id = self.node.runtime.create_container(&self.sandbox.id, config).await.unwrap();
        self.node.runtime.start_container(&id).await.unwrap();
        Run { pod: self, id, log }
    }

    /// Runs to its end; what it printed.
    async fn run(&self, args: &[&str]) -> String {
        let run = self.start("localhost/net", args, |_| {}).await;
        run.exit().await;
        run.printed()
    }

    /// A server that listens.
    async fn serve(&self, args: &[&str]) -> Run<'_> {
        let run = self.start("localhost/net", args, |_| {}).await;
        run.says("listening").await;
        run
    }

    async fn client(&self) -> http1::SendRequest<Body> {
        let connection = self.node.runtime.dial(&self.sandbox.id, 8080).await.unwrap();
        let (client, connection) = http1::handshake(TokioIo::new(connection)).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// On a connection of its own.
    async fn fetch(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).header("host", "lab").body(Full::default().boxed()).unwrap();
        let response = self.client().await.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

impl Run<'_> {
    fn printed(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    async fn says(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.printed().contains(what) {
            assert!(Instant::now() < deadline, "{what}: {}", self.printed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Once more than it had when this was called.
    async fn says_again(&self, what: &str) {
        let said = self.printed().matches(what).count();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.printed().matches(what).count() == said {
            assert!(Instant::now() < deadline, "{what}: {}", self.printed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn exit(&self) -> Exit {
        let mut events = self.pod.node.runtime.events();
        let ended = async {
            loop {
                if let Some(exit) = self.pod.node.runtime.container_status(&self.id).await.unwrap().exit {
                    return exit;
                }
                events.next().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends")
    }
}

async fn ask(mut stream: Box<dyn Connection>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_0_3_have_their_pods_network() {
    let node = Node::new().await;
    let (a, b) = (node.pod("a", &[]).await, node.pod("b", &[]).await);
    for pod in [&a, &b] {
        let server = pod.serve(&["serve", "0.0.0.0:80"]).await;
        assert_eq!(server.printed(), "listening on 0.0.0.0:80\n", "it sees what it asked for");
    }
    let at = format!("{}:80", a.ip());
    let said = b.run(&["get", &at]).await;
    assert!(said.starts_with(&format!("a at {at} was asked by {}:", b.ip())), "{said}");
    let own = a.run(&["get", "[::1]:80"]).await;
    assert!(own.starts_with(&format!("a at {at} was asked by {}:", a.ip())), "{own}");
    let dialled = ask(node.runtime.dial(&a.sandbox.id, 80).await.unwrap()).await;
    assert!(dialled.starts_with(&format!("a at {at}")), "{dialled}");
    let taken = a.run(&["serve", "0.0.0.0:80"]).await;
    assert!(taken.contains("AddressInUse"), "{taken}");
    b.serve(&["udp-serve", "0.0.0.0:53"]).await;
    let (to, said) = (format!("{}:53", b.ip()), a.run(&["udp-send", &format!("{}:53", b.ip()), "ping"]).await);
    assert!(said.starts_with(&format!("{to} answered: ping from {}:", a.ip())), "{said}");
    let dashed = format!("{}.ns.pod.cluster.local", a.ip().replace('.', "-"));
    let said = b.run(&["resolve", "b", &dashed, "db.ns.svc.cluster.local", "a b"]).await;
    let [own, other] = [&b, &a].map(Pod::ip);
    let expected = format!(
        "b: {own}\n{dashed}: {other}\ndb.ns.svc.cluster.local: ErrorCode::NameUnresolvable\na b: ErrorCode::InvalidArgument\n"
    );
    assert_eq!(said, expected);
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_0_3_never_reach_the_node_nor_more_sockets_than_they_may() {
    let node = Node::new().await;
    let host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let (pod, other) = (node.pod("a", &[]).await, node.pod("b", &[]).await);
    let mut events = node.runtime.events();
    let targets = [
        (format!("127.0.0.1:{port}"), "ConnectionRefused"),
        (format!("{}:{port}", other.ip()), "ConnectionRefused"),
        (format!("127.0.0.2:{port}"), "AccessDenied"),
        ("169.254.169.254:80".to_owned(), "AccessDenied"),
        ("[::ffff:127.0.0.2]:80".to_owned(), "InvalidArgument"),
        ("224.0.0.1:80".to_owned(), "InvalidArgument"),
    ];
    let mut args = vec!["connect"];
    args.extend(targets.iter().map(|(target, _)| target.as_str()));
    let expected: String = targets.iter().map(|(target, error)| format!("{target}: ErrorCode::{error}\n")).collect();
    assert_eq!(pod.run(&args).await, expected);
    assert!(pod.run(&["hoard"]).await.starts_with("256 sockets, then"));
    // They are free again.
    assert!(pod.run(&["hoard"]).await.starts_with("256 sockets, then"));
    let scanned = pod.run(&["scan", "127.0.0.2"]).await;
    assert_eq!(scanned, "0 ports answered\n");
    let none = node.pod("none", &[("skiff.dev/network", "none")]).await;
    let at = format!("{}:{port}", other.ip());
    assert_eq!(none.run(&["connect", &at]).await, format!("{at}: ErrorCode::AccessDenied\n"));
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        if let Some(RuntimeEvent::Warning { reason, message, .. }) = event.expect("it is told") {
            told.push((reason, message));
        }
    }
    assert_eq!(told[0].0, "NetworkDenied");
    assert!(told[0].1.contains(&format!("127.0.0.2:{port}")), "{told:?}");
    assert_eq!(told[1].0, "SocketLimit");
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_of_0_3_take_of_disk_files_and_log_counts() {
    let node = Node::new().await;
    let pod = node.pod("a", &[]).await;
    let limited = |config: &mut ContainerConfig| {
        config.resources = Resources { ephemeral_bytes_max: Some(1 << 20), ..Resources::default() };
    };
    let run = pod.start("localhost/net", &["fill"], limited).await;
    let exit = run.exit().await;
    assert_eq!((exit.code, exit.reason), (137, EVICTED), "{exit:?} {}", run.printed());
    assert!(exit.message.ends_with("exceeded its local ephemeral storage limit \"1Mi\". "), "{exit:?}");
    assert!(pod.run(&["open"]).await.starts_with("512 opened, then"));
    // As fast as the log may grow in the long run, after its first burst; nothing is lost.
    let bytes = 28 << 20;
    let begun = Instant::now();
    let run = pod.start("localhost/net", &["flood", &bytes.to_string()], |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    assert!(begun.elapsed() > Duration::from_secs(1), "it waited for its log: {:?}", begun.elapsed());
    let run = pod.start("localhost/net", &["wait"], |_| {}).await;
    let exit = run.exit().await;
    assert!(exit.code == 134 && exit.message.contains("waits for 8192 things at once"), "{exit:?} {}", run.printed());
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_0_3_are_served() {
    let node = Node::new().await;
    let pod = node.pod("a", &[("skiff.dev/http-timeout", "1s")]).await;
    let run = pod.start("localhost/http", &[], |_| {}).await;
    let failed = "500 Internal Server Error\n".to_owned();
    let rows = [
        ("/", 200, "hello\n".to_owned()),
        ("/count", 200, "1\n".to_owned()),
        ("/count", 200, "1\n".to_owned()),
        ("/whom", 200, "Method::Get Some(Scheme::Http) lab\n".to_owned()),
        ("/trap", 500, failed),
        ("/error", 502, "502 Bad Gateway\n".to_owned()),
        ("/after", 200, "before\n".to_owned()),
        ("/loop", 504, "504 Gateway Timeout\n".to_owned()),
        ("/wait", 504, "504 Gateway Timeout\n".to_owned()),
        ("/big?3", 200, "x".repeat(3 << 20)),
        ("/fetch?http://127.0.0.1:8080/count", 200, "200 1\n".to_owned()),
        ("/fetch?http://127.0.0.1:1/", 200, "ErrorCode::ConnectionRefused\n".to_owned()),
        ("/fetch?http://169.254.169.254/", 200, "ErrorCode::DestinationIpProhibited\n".to_owned()),
    ];
    for (path, status, body) in rows {
        assert_eq!(pod.fetch(path).await, (status, body), "{path}");
    }
    run.says("after the answer").await;
    run.says("request GET /trap failed: wasm trap: wasm `unreachable`").await;
    run.says("request GET /loop timed out: the limit of 1s is over").await;
    // A response that ends in the middle does not look complete.
    let request = Request::get("/trap-late").header("host", "lab").body(Full::default().boxed()).unwrap();
    let response = pod.client().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
    // Both ways at once, with trailers.
    let stream = TokioIo::new(node.runtime.dial(&pod.sandbox.id, 8080).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "3".parse().unwrap())].into_iter().collect();
    let body = Full::new(Bytes::from(vec![b'y'; 1 << 20])).with_trailers(std::future::ready(Some(Ok(trailers))));
    let request = Request::post("http://lab/echo").body(body.boxed()).unwrap();
    let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "3");
    assert_eq!(answer.to_bytes().len(), 1 << 20);
    // A request that is under way is finished before the server ends.
    let (answer, ()) = tokio::join!(pod.fetch("/wait?200"), async {
        run.says_again("waiting").await;
        node.runtime.stop_container(&run.id, Duration::from_secs(20)).await.unwrap();
    });
    assert_eq!(answer, (200, "waited\n".to_owned()));
    assert_eq!(run.exit().await.code, 0);
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_0_3_answers_again_when_it_may() {
    let node = Node::new().await;
    let pod = node.pod("a", &[("skiff.dev/http-reuse", "3"), ("skiff.dev/http-concurrency", "2")]).await;
    pod.start("localhost/http", &[], |_| {}).await;
    // An instance is another request's when its own has been answered and it has nothing left to do: a moment after the
    // client has read all.
    let mut counts = Vec::new();
    for _ in 0..24 {
        counts.push(pod.fetch("/count").await.1.trim().parse::<u32>().unwrap());
    }
    assert!(counts.iter().all(|count| (1..=3).contains(count)), "none answers more than three: {counts:?}");
    assert!(counts.iter().any(|count| *count > 1), "some answer again: {counts:?}");
    assert_eq!(pod.fetch("/trap").await.0, 500);
    // More than may be served at once are served one after the other.
    let many = futures::future::join_all((0..16).map(|_| pod.fetch("/big?1"))).await;
    assert!(many.iter().all(|(status, body)| *status == 200 && body.len() == 1 << 20));
    node.runtime.shutdown(Duration::ZERO).await;
}
