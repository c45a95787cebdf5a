//! exec, attach and port-forward from real clients to a node, against processes that do what a test tells them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess, PostParams, TerminalSize},
    client::Body,
};
use parking_lot::RwLock;
use serde_json::json;
use skiff_apiserver::{
    ApiServer, ApiServerConfig, NodeConnector, NodeError, UserInfo,
    pki::{self, Kubeconfig, Pki},
};
use skiff_node::{Node, NodeConfig, NodeHandle};
use skiff_runtime::fake::FakeRuntime;
use skiff_store::memory::MemoryStore;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Nodes(RwLock<Option<axum::Router>>);

#[async_trait::async_trait]
impl NodeConnector for Nodes {
    async fn call(
        &self,
        node: &str,
        request: http::Request<axum::body::Body>,
    ) -> Result<http::Response<axum::body::Body>, NodeError> {
        let router = self.0.read().clone().ok_or_else(|| NodeError::Unknown { node: node.to_owned() })?;
        Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
    }
}

struct World {
    api: Arc<ApiServer>,
    client: Client,
    runtime: Arc<FakeRuntime>,
    node: NodeHandle,
    dir: TempDir,
    shutdown: CancellationToken,
}

impl World {
    /// With one pod, `p`, that runs.
    async fn start() -> Self {
        let pki = Pki::ephemeral().unwrap();
        let nodes = Arc::new(Nodes::default());
        let config = ApiServerConfig::new(Arc::new(MemoryStore::default()), nodes.clone());
        let tls = pki.tls("skiff-apiserver", &pki::api_server_names(config.service_ip, &[])).unwrap();
        let api = ApiServer::new(config);
        api.bootstrap().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let dir = TempDir::new().unwrap();
        let identity = pki.client("kubernetes-admin", Some("system:masters")).unwrap();
        let admin =
            Kubeconfig { cluster: "skiff", user: "admin", server: &server, ca_pem: pki.ca_pem(), identity: &identity };
        pki::write_kubeconfig(&dir.path().join("kubeconfig"), &admin).unwrap();
        let shutdown = CancellationToken::new();
        let (serving, stop) = (api.clone(), shutdown.clone());
        tokio::spawn(async move { serving.serve(listener, tls, stop).await });
        let client = skiff_client::in_process(api.service(UserInfo::admin()));
        let runtime = FakeRuntime::talking();
        let config = NodeConfig::new("node-1", client.clone(), runtime.clone(), dir.path().join("node"));
        let node = Node::start(config).await.unwrap();
        *nodes.0.write() = Some(node.router());
        node.ready().await;
        let world = Self { api, client, runtime, node, dir, shutdown };
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "node-1", "containers": [
            { "name": "main", "image": "localhost/x", "stdin": true }, { "name": "other", "image": "localhost/x" }] } });
        world.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let running = || async {
            let pod = world.pods().get("p").await.unwrap();
            pod.status.and_then(|s| s.phase).as_deref() == Some("Running")
        };
        world.until("the pod runs", running).await;
        world
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// The same over TLS.
    async fn remote(&self) -> Api<Pod> {
        Api::default_namespaced(self.remote_client().await)
    }

    async fn remote_client(&self) -> Client {
        let file = kube::config::Kubeconfig::read_from(self.dir.path().join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        skiff_client::from_config(config).unwrap()
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "not in time: {what}");
    }

    /// Nothing is left of what clients started.
    async fn quiet(&self) {
        self.until("nothing is left", || async { self.runtime.talks() == 0 }).await;
    }

    async fn stop(self) {
        self.node.shutdown(Duration::ZERO).await;
        self.shutdown.cancel();
        self.api.shut_down().await;
    }

    fn kubectl(&self, program: &PathBuf, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.dir.path().join("kubeconfig"));
        command.arg("--cache-dir").arg(self.dir.path().join("cache")).args(args);
        command.env_remove("KUBECONFIG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn run(&self, program: &PathBuf, args: &[&str], stdin: &[u8]) -> (Option<i32>, Vec<u8>, String) {
        let mut child = self.kubectl(program, args).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // While its output is read, or both would wait.
        let feeding = tokio::spawn(async move {
            let _ = input.write_all(&stdin).await;
        });
        let done = tokio::time::timeout(PATIENCE * 2, child.wait_with_output()).await;
        let done = done.unwrap_or_else(|_| panic!("{program:?} {args:?} does not end")).unwrap();
        let _ = feeding.await;
        (done.status.code(), done.stdout, String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

/// Every kubectl here: the one on PATH, and those of other versions on PATH or beside it (`kubectl.1.27`). Up to 1.29 they speak
/// SPDY, from 1.31 on WebSockets.
fn kubectls() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let beside = dirs.iter().filter_map(|dir| dir.join("kubectl").canonicalize().ok()?.parent().map(PathBuf::from));
    let beside: Vec<PathBuf> = beside.collect();
    dirs.extend(beside);
    let names = ["kubectl", "kubectl.1.27", "kubectl.1.29", "kubectl.1.31", "kubectl.1.33"];
    let found = names.iter().filter_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|file| file.is_file()));
    let found: Vec<PathBuf> = found.collect();
    if found.is_empty() {
        eprintln!("skipped: no kubectl on PATH");
    }
    found
}

async fn text(process: &mut AttachedProcess) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let read = async {
        if let Some(mut from) = stdout {
            from.read_to_string(&mut out).await.unwrap();
        }
        if let Some(mut from) = stderr {
            from.read_to_string(&mut err).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    (out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_rs_executes_commands() {
    let world = World::start().await;
    for pods in [world.pods(), world.remote().await] {
        let main = AttachParams::default().container("main");
        let mut process = pods.exec("p", ["echo", "a  b", "c"], &main).await.unwrap();
        let status = process.take_status().unwrap();
        assert_eq!(text(&mut process).await, ("a  b c\n".to_owned(), String::new()));
        assert_eq!(status.await.unwrap().status.as_deref(), Some("Success"));
        let mut process = pods.exec("p", ["err", "no"], &main).await.unwrap();
        assert_eq!(text(&mut process).await, (String::new(), "no\n".to_owned()));

        let mut process = pods.exec("p", ["exit", "3"], &main).await.unwrap();
        let status = process.take_status().unwrap();
        text(&mut process).await;
        let status = status.await.unwrap();
        assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
        assert_eq!(status.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("3"));

        let mut process = pods.exec("p", ["no-such"], &main).await.unwrap();
        let status = process.take_status().unwrap().await.unwrap();
        assert_eq!(status.reason.as_deref(), Some("InternalError"));
        assert!(status.message.unwrap().contains("no such command"));

        let with_stdin = AttachParams::default().container("main").stdin(true).stderr(false);
        let mut process = pods.exec("p", ["cat"], &with_stdin).await.unwrap();
        let mut stdin = process.stdin().unwrap();
        let feeding = tokio::spawn(async move {
            stdin.write_all(&vec![b'y'; 3 << 20]).await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        let (out, _) = text(&mut process).await;
        assert_eq!(out.len(), 3 << 20);
        feeding.await.unwrap();

        let tty = AttachParams::interactive_tty().container("main");
        let mut process = pods.exec("p", ["sizes", "2"], &tty).await.unwrap();
        let mut size = process.terminal_size().unwrap();
        for (width, height) in [(80, 24), (132, 50)] {
            size.try_send(TerminalSize { width, height }).unwrap();
        }
        assert_eq!(text(&mut process).await.0, "80x24\n132x50\n");
    }
    world.quiet().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_what_it_started() {
    let world = World::start().await;
    let pods = world.remote().await;
    let main = AttachParams::default().container("main");
    let process = pods.exec("p", ["hang"], &main).await.unwrap();
    // More than all buffers hold, and nobody reads.
    let flood = pods.exec("p", ["flood", "100000000"], &main).await.unwrap();
    world.until("both run", || async { world.runtime.talks() == 2 }).await;
    drop((process, flood));
    world.quiet().await;
    // What is left when the node stops ends, too.
    let _process = pods.exec("p", ["hang"], &main).await.unwrap();
    world.until("it runs", || async { world.runtime.talks() == 1 }).await;
    let runtime = world.runtime.clone();
    world.stop().await;
    assert_eq!(runtime.talks(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_rs_forwards_ports() {
    let world = World::start().await;
    for pods in [world.pods(), world.remote().await] {
        let mut forwarder = pods.portforward("p", &[7, 9]).await.unwrap();
        let refused = tokio::time::timeout(PATIENCE, forwarder.take_error(9).unwrap()).await.unwrap();
        assert!(refused.unwrap().contains("connection refused"));
        let mut stream = forwarder.take_stream(7).unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
        drop((stream, forwarder));
    }
    world.quiet().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let world = World::start().await;
    let pods = world.remote().await;
    let error = |result: Result<AttachedProcess, kube::Error>| format!("{:?}", result.err().unwrap());
    let main = AttachParams::default().container("main");
    assert!(error(pods.exec("none", ["x"], &main).await).contains("404"));
    let request = |query: &str| http::Request::get(format!("/api/v1/namespaces/default/pods/p/exec?{query}"));
    let ended = json!({ "metadata": { "name": "ended" }, "spec": { "nodeName": "node-1", "restartPolicy": "Never",
        "containers": [{ "name": "main", "image": "localhost/x", "args": ["--exit-code=0"] }] } });
    world.pods().create(&PostParams::default(), &serde_json::from_value(ended).unwrap()).await.unwrap();
    let over = || async {
        let pod = world.pods().get("ended").await.unwrap();
        pod.status.and_then(|s| s.phase).as_deref() == Some("Succeeded")
    };
    world.until("the other pod ends", over).await;
    let said = error(pods.exec("ended", ["x"], &main).await);
    assert!(said.contains("500"), "{said}");
    let upgrade = http::Request::get("/api/v1/namespaces/default/pods/ended/exec?stdout=1&command=x");
    let upgrade = upgrade.header("connection", "Upgrade").header("upgrade", "SPDY/3.1").body(vec![]).unwrap();
    let said = world.client.request_text(upgrade).await.unwrap_err().to_string();
    assert!(said.contains("container not found (\"main\"): InternalError"), "{said}");
    let debug = json!({ "spec": { "ephemeralContainers": [{ "name": "d", "image": "x" }] } });
    let debug = world
        .pods()
        .patch_subresource("ephemeralcontainers", "p", &Default::default(), &kube::api::Patch::Strategic(debug))
        .await;
    assert!(debug.as_ref().is_err_and(|e| e.to_string().contains("run no ephemeral containers")), "{debug:?}");
    for (query, expected) in [
        ("container=main&command=x", "you must specify at least 1 of stdin, stdout, stderr"),
        ("stdout=1&command=x", "a container name must be specified for pod p, choose one of: [main other]"),
        ("stdout=1&command=x&container=z", "container z is not valid for pod p"),
        ("stdout=1&container=main", "you must specify at least one command for the container"),
        ("stdout=1&container=main&command=x", "Upgrade request required"),
    ] {
        let answer = world.client.request_text(request(query).body(vec![]).unwrap()).await;
        assert!(answer.as_ref().is_err_and(|e| e.to_string().contains(expected)), "{query}: {answer:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kubectl_executes_and_attaches() {
    let world = World::start().await;
    for kubectl in kubectls() {
        let run = |args: &'static [&'static str], stdin: &'static [u8]| world.run(&kubectl, args, stdin);
        let (code, out, err) = run(&["exec", "p", "-c", "main", "--", "echo", "a  b"], b"").await;
        assert_eq!(
            (code, String::from_utf8_lossy(&out).as_ref(), err.as_str()),
            (Some(0), "a  b\n", ""),
            "{kubectl:?}"
        );
        let (code, out, err) = run(&["exec", "p", "-c", "main", "--", "err", "no"], b"").await;
        assert_eq!((code, out.len(), err.as_str()), (Some(0), 0, "no\n"), "{kubectl:?}");
        let (code, _, err) = run(&["exec", "p", "-c", "main", "--", "exit", "3"], b"").await;
        assert_eq!((code, err.as_str()), (Some(3), "command terminated with exit code 3\n"), "{kubectl:?}");
        let (code, _, err) = run(&["exec", "p", "-c", "main", "--", "no-such"], b"").await;
        assert!(code == Some(1) && err.contains("no such command"), "{kubectl:?}: {err}");

        let input: &'static [u8] = vec![b'y'; 5 << 20].leak();
        let (code, out, err) = run(&["exec", "-i", "p", "-c", "main", "--", "cat"], input).await;
        assert!(code == Some(0) && out == input, "{kubectl:?}: {code:?} {} {err}", out.len());
        let (code, out, _) = run(&["exec", "p", "-c", "main", "--", "flood", "20000000"], b"").await;
        assert!(code == Some(0) && out.len() == 20_000_000, "{kubectl:?}: {code:?} {}", out.len());
        let (code, out, err) = run(&["attach", "-i", "p", "-c", "main"], b"to the process\n").await;
        assert!(code == Some(0) && out == b"to the process\n", "{kubectl:?}: {err}");
    }
    world.quiet().await;
    world.stop().await;
}

async fn forwarding(world: &World, kubectl: &PathBuf, port: u16) -> (Child, String) {
    let mut child = world.kubectl(kubectl, &["port-forward", "pod/p", &format!(":{port}")]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.strip_prefix("Forwarding from ").and_then(|l| l.split(' ').next()).unwrap().to_owned();
    // It would end by a broken pipe if it could not say more.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kubectl_forwards_ports() {
    /// More than a stream's window.
    const SENT: usize = 200_000;
    let world = World::start().await;
    // A server that goes away in the middle of its answer.
    world.runtime.serve(70, |mut io| {
        Box::pin(async move {
            io.write_all(b"partial").await.unwrap();
        })
    });
    for kubectl in kubectls() {
        let (mut child, address) = forwarding(&world, &kubectl, 7).await;
        let talks = (0..100u8).map(|n| {
            let address = address.clone();
            tokio::spawn(async move {
                let (mut from, mut to) = TcpStream::connect(&address).await.unwrap().into_split();
                let sent = vec![n; SENT];
                let sending = tokio::spawn(async move {
                    to.write_all(&sent).await.unwrap();
                    to.shutdown().await.unwrap();
                });
                let mut received = Vec::new();
                from.read_to_end(&mut received).await.unwrap();
                sending.await.unwrap();
                assert!(received.len() == SENT && received.iter().all(|b| *b == n), "{}", received.len());
            })
        });
        let all = futures::future::join_all(talks);
        let done = tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{kubectl:?} hangs"));
        done.into_iter().for_each(|talk| talk.unwrap());
        world.quiet().await;

        // Killed with a connection open.
        let mut open = TcpStream::connect(&address).await.unwrap();
        open.write_all(b"x").await.unwrap();
        open.read_u8().await.unwrap();
        assert_eq!(world.runtime.talks(), 1);
        child.kill().await.unwrap();
        world.quiet().await;

        let (mut child, address) = forwarding(&world, &kubectl, 70).await;
        for _ in 0..2 {
            let mut left = TcpStream::connect(&address).await.unwrap();
            let _ = left.write_all(&[b'x'; 100_000]).await;
            let mut received = Vec::new();
            // What came before is there; the end may be an abrupt one.
            let _ = tokio::time::timeout(PATIENCE, left.read_to_end(&mut received)).await.expect("an end");
            assert!(b"partial".starts_with(received.as_slice()), "{received:?}");
        }
        child.kill().await.unwrap();
        world.quiet().await;

        let (child, address) = forwarding(&world, &kubectl, 9).await;
        let mut refused = TcpStream::connect(&address).await.unwrap();
        let _ = refused.write_all(b"x").await;
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("error forwarding port 9 to pod p") && said.contains("connection refused"), "{said}");
    }
    world.stop().await;
}

/// A server that says what it was asked for, or becomes an echo for who wants that.
async fn answer<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, who: &'static str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = io.read_u8().await else { return };
        head.push(byte.to_ascii_lowercase());
    }
    let head = String::from_utf8(head).unwrap();
    if head.contains("\r\nupgrade: echo\r\n") {
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let (mut from, mut to) = tokio::io::split(io);
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    } else {
        let body = format!("{who}: {}", head.lines().next().unwrap());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = io.write_all(head.as_bytes()).await;
        let _ = io.shutdown().await;
    }
}

/// With a plain server at 80 and one with a certificate of its own at 443.
async fn with_servers() -> World {
    let world = World::start().await;
    world.runtime.serve(80, |io| Box::pin(answer(io, "plain")));
    let names = pki::api_server_names("10.0.0.1".parse().unwrap(), &[]);
    let tls = TlsAcceptor::from(Arc::new(Pki::ephemeral().unwrap().tls("pod", &names).unwrap()));
    world.runtime.serve(443, move |io| {
        let tls = tls.clone();
        Box::pin(async move {
            if let Ok(io) = tls.accept(io).await {
                answer(io, "secret").await;
            }
        })
    });
    world
}

fn of_pod(path: &str) -> http::request::Builder {
    http::Request::get(format!("/api/v1/namespaces/default/pods/{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_pods_are_reached_through_the_proxy() {
    let world = with_servers().await;
    for client in [world.client.clone(), world.remote_client().await] {
        for (path, expected) in [
            ("p:80/proxy/a?b=c", "plain: get /a?b=c http/1.1"),
            ("http:p:http/proxy/a/", "plain: get /a/ http/1.1"),
            ("p/proxy/", "plain: get / http/1.1"),
            ("https:p:443/proxy/x", "secret: get /x http/1.1"),
            ("https:p:/proxy/x", "secret: get /x http/1.1"),
        ] {
            let body = client.request_text(of_pod(path).body(vec![]).unwrap()).await;
            assert_eq!(body.unwrap(), expected, "{path}");
        }
        let moved = client.send(of_pod("p:80/proxy?b=c").body(Body::empty()).unwrap()).await.unwrap();
        let to = moved.headers().get("location").and_then(|to| to.to_str().ok());
        assert_eq!((moved.status().as_u16(), to), (301, Some("/api/v1/namespaces/default/pods/p:80/proxy/?b=c")));
    }
    // (The other client would try again after a 503.)
    for (path, expected) in [
        ("p:9/proxy/", "error trying to reach service: dial tcp fake:9: connection refused"),
        ("p:web/proxy/", "error trying to reach service: dial tcp: lookup tcp/web: unknown port"),
        ("p:70000/proxy/", "error trying to reach service: dial tcp: address 70000: invalid port"),
        ("ftp:p:21/proxy/", "invalid pod request \"ftp:p:21\""),
        ("none:80/proxy/", "pods \"none\" not found"),
    ] {
        let refused = world.client.request_text(of_pod(path).body(vec![]).unwrap()).await;
        assert!(refused.as_ref().is_err_and(|e| e.to_string().contains(expected)), "{path}: {refused:?}");
    }
    world.quiet().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protocols_change_through_the_proxy() {
    let world = with_servers().await;
    for client in [world.client.clone(), world.remote_client().await] {
        for path in ["p:80/proxy/", "https:p:443/proxy/", "p:80/proxy"] {
            let request = of_pod(path).header("connection", "Upgrade").header("upgrade", "echo");
            let mut answer = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status().as_u16(), 101, "{path}");
            let io = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
            let (mut from, mut to) = tokio::io::split(io);
            let sending = async {
                to.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let mut back = Vec::new();
            let both = async { tokio::join!(sending, from.read_to_end(&mut back)) };
            tokio::time::timeout(PATIENCE, both).await.unwrap().1.unwrap();
            assert_eq!(back.len(), 1 << 20, "{path}");
        }
    }
    world.quiet().await;
    world.stop().await;
}
