//! Guests and the network: each pod has an address, its ports are its own, and nothing of the node is reached.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod support;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use skiff_runtime::{
    Connection, ContainerConfig, ContainerId, Error, ImageSource, Runtime, RuntimeEvent, Sandbox, SandboxConfig,
};
use skiff_runtime_wasm::{Network, WasmRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOCKETS: &[u8] = include_bytes!("../../../wasm-examples/rust/sockets.wasm");
const LISTENER: &[u8] = include_bytes!("../../../wasm-examples/rust/listener.wasm");

struct Node {
    runtime: Arc<WasmRuntime>,
    network: Arc<Network>,
    directory: tempfile::TempDir,
}

struct Pod<'a> {
    node: &'a Node,
    sandbox: Sandbox,
}

impl Node {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let network = Network::open().unwrap();
        let mut config = support::config(&directory);
        config.network = Some(network.clone());
        let runtime = WasmRuntime::open(config).unwrap();
        runtime.load_image("localhost/sockets", ImageSource::Module(SOCKETS.into())).await.unwrap();
        Self { runtime, network, directory }
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

impl Pod<'_> {
    fn ip(&self) -> String {
        self.sandbox.ips[0].to_string()
    }

    async fn start(&self, args: &[&str]) -> (ContainerId, std::path::PathBuf) {
        self.start_image("localhost/sockets", &[], args).await
    }

    async fn start_image(&self, image: &str, ports: &[u16], args: &[&str]) -> (ContainerId, std::path::PathBuf) {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let name = format!("c{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let log_path = self.node.directory.path().join(format!("logs/{name}.log"));
        let config = ContainerConfig {
            name,
            image: image.to_owned(),
            ports: ports.to_vec(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log_path: log_path.clone(),
            ..ContainerConfig::default()
        };
        let id = self.node.runtime.create_container(&self.sandbox.id, config).await.unwrap();
        self.node.runtime.start_container(&id).await.unwrap();
        (id, log_path)
    }

    /// Runs to its end; what it printed.
    async fn run(&self, args: &[&str]) -> String {
        let mut events = self.node.runtime.events();
        let (id, log) = self.start(args).await;
        let ended = async {
            while let Some(event) = events.next().await {
                if matches!(&event, RuntimeEvent::Exited { container, .. } if *container == id) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends");
        read(&log)
    }

    /// A server that listens.
    async fn serve(&self, args: &[&str]) -> std::path::PathBuf {
        let (_, log) = self.start(args).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !read(&log).contains("listening") {
            assert!(tokio::time::Instant::now() < deadline, "{}", read(&log));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        log
    }
}

fn read(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
}

async fn ask(mut stream: Box<dyn Connection>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_listen_on_one_port_and_see_each_other_by_their_addresses() {
    let node = Node::new().await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        let pod = node.pod(name, &[]).await;
        let log = pod.serve(&["serve", "0.0.0.0:80"]).await;
        assert_eq!(read(&log), "listening on 0.0.0.0:80\n", "it sees what it asked for");
        pods.push(pod);
    }
    let client = node.pod("client", &[]).await;
    for (pod, name) in pods.iter().zip(["a", "b", "c"]) {
        let ip = pod.ip();
        let answer = client.run(&["get", &format!("{ip}:80"), "/"]).await;
        let (said, peer) = answer.trim_end().rsplit_once(':').expect(&answer);
        assert_eq!(said, format!("{name} at {ip}:80 was asked by {}", client.ip()), "{peer}");
        // Its own loopback address is the pod, for it alone.
        let own = pod.run(&["get", "127.0.0.1:80", "/"]).await;
        assert!(own.starts_with(&format!("{name} at {ip}:80 was asked by {ip}:")), "{own}");
        let dialled = ask(node.runtime.dial(&pod.sandbox.id, 80).await.unwrap()).await;
        assert!(dialled.starts_with(&format!("{name} at {ip}:80")), "{dialled}");
    }
    let nobody = node.runtime.dial(&client.sandbox.id, 80).await.map(drop).unwrap_err().to_string();
    assert!(nobody.contains("connection refused"), "{nobody}");
    let ip = pods[0].sandbox.ips[0];
    node.runtime.remove_sandbox(&pods[0].sandbox.id).await.unwrap();
    // What still winds up may hold the address for a moment.
    let mut tries = 0..100;
    while node.pod(&format!("again-{}", tries.next().expect("an address is given again")), &[]).await.sandbox.ips[0]
        != ip
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.run(&["connect", &format!("{ip}:80")]).await, format!("{ip}:80: connection refused\n"));
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_and_ipv6_listeners_work_in_their_pod() {
    let node = Node::new().await;
    let (pod, other) = (node.pod("a", &[]).await, node.pod("b", &[]).await);
    pod.serve(&["serve", "127.0.0.1:8080"]).await;
    let log = pod.serve(&["serve", "[::]:8081"]).await;
    assert_eq!(read(&log), "listening on [::]:8081\n");
    let local = pod.run(&["connect", "127.0.0.1:8080", "[::1]:8081", "127.0.0.1:8082"]).await;
    assert_eq!(local, "127.0.0.1:8080: connected\n[::1]:8081: connected\n127.0.0.1:8082: connection refused\n");
    let (loopback, every) = (format!("{}:8080", pod.ip()), format!("{}:8081", pod.ip()));
    let remote = other.run(&["connect", &loopback, &every]).await;
    assert_eq!(remote, format!("{loopback}: connection refused\n{every}: connected\n"));
    let taken = pod.run(&["serve", "0.0.0.0:8080"]).await;
    assert!(taken.contains("AddrInUse") || taken.to_lowercase().contains("address"), "{taken}");
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_never_reached_and_the_user_is_told() {
    let node = Node::new().await;
    let host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let (pod, other) = (node.pod("a", &[]).await, node.pod("b", &[]).await);
    let mut events = node.runtime.events();
    let targets = [
        (format!("127.0.0.1:{port}"), "connection refused"),
        (format!("{}:{port}", other.ip()), "connection refused"),
        (format!("127.0.0.2:{port}"), "permission denied"),
        ("169.254.169.254:80".to_owned(), "permission denied"),
        ("224.0.0.1:80".to_owned(), "invalid input parameter"),
    ];
    let mut args = vec!["connect"];
    args.extend(targets.iter().map(|(target, _)| target.as_str()));
    let expected: String = targets.iter().map(|(target, error)| format!("{target}: {error}\n")).collect();
    assert_eq!(pod.run(&args).await, expected);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            RuntimeEvent::Warning { reason, message, .. } => told.push((reason, message)),
            RuntimeEvent::Exited { .. } => break,
            _ => {}
        }
    }
    let [(reason, message)] = &told[..] else { panic!("once per container: {told:?}") };
    assert_eq!(*reason, "NetworkDenied");
    assert!(message.contains(&format!("127.0.0.2:{port}")), "{message}");
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_says_what_its_guests_may_reach() {
    let node = Node::new().await;
    let server = node.pod("server", &[]).await;
    server.serve(&["serve", "0.0.0.0:80"]).await;
    let at = format!("{}:80", server.ip());
    // An address for documentation: nobody is there, and nobody is asked.
    let cluster = node.pod("cluster", &[("skiff.dev/network", "cluster")]).await;
    let said = cluster.run(&["connect", &at, "192.0.2.1:80"]).await;
    assert_eq!(said, format!("{at}: connected\n192.0.2.1:80: permission denied\n"));
    let none = node.pod("none", &[("skiff.dev/network", "none")]).await;
    assert_eq!(none.run(&["connect", &at]).await, format!("{at}: permission denied\n"));
    let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    node.network.publish_api("10.96.0.1:443".parse().unwrap(), api.local_addr().unwrap());
    assert_eq!(cluster.run(&["connect", "10.96.0.1:443"]).await, "10.96.0.1:443: connected\n");
    assert_eq!(none.run(&["connect", "10.96.0.1:443"]).await, "10.96.0.1:443: permission denied\n");
    let wrong = SandboxConfig {
        annotations: [("skiff.dev/network".to_owned(), "some".to_owned())].into(),
        ..SandboxConfig::default()
    };
    assert!(matches!(node.runtime.run_sandbox(wrong).await, Err(Error::Invalid(_))));
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_between_pods_and_to_nobody_else() {
    let node = Node::new().await;
    let server = node.pod("server", &[]).await;
    server.serve(&["udp-serve", "0.0.0.0:53"]).await;
    server.serve(&["udp-serve", "127.0.0.1:54"]).await;
    let at = format!("{}:53", server.ip());
    for (name, mode) in [("all", "all"), ("cluster", "cluster"), ("server", "all")] {
        let client = node.pod(name, &[("skiff.dev/network", mode)]).await;
        let answer = client.run(&["udp-send", &at, "ping"]).await;
        let expected = format!("{at} answered: ping from {}:", client.ip());
        assert!(answer.starts_with(&expected), "{answer:?}, not {expected:?}");
    }
    let own = server.run(&["udp-send", "127.0.0.1:54", "ping"]).await;
    assert!(own.contains("answered: ping"), "{own}");
    let denied = node.pod("denied", &[]).await.run(&["udp-send", "169.254.169.254:53", "ping"]).await;
    assert!(denied.contains("PermissionDenied"), "{denied}");
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_pods_are_looked_up() {
    let node = Node::new().await;
    let (pod, other) = (node.pod("a", &[]).await, node.pod("b", &[("skiff.dev/network", "cluster")]).await);
    let dashed = format!("{}.ns.pod.cluster.local", pod.ip().replace('.', "-"));
    let said = other.run(&["resolve", "localhost", "b", &dashed, "db.ns.svc.cluster.local", "example.com"]).await;
    let expected = format!(
        "localhost: 127.0.0.1\nb: {}\n{dashed}: {}\ndb.ns.svc.cluster.local: uncategorized error\n\
         example.com: permission denied\n",
        other.ip(),
        pod.ip()
    );
    assert_eq!(said, expected);
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_so_many_sockets_and_no_more() {
    let node = Node::new().await;
    let pod = node.pod("a", &[]).await;
    let mut events = node.runtime.events();
    let said = pod.run(&["hoard"]).await;
    assert!(said.starts_with("256 sockets, then No file descriptors available"), "{said}");
    let told = async {
        while let Some(event) = events.next().await {
            if let RuntimeEvent::Warning { reason: "SocketLimit", message, .. } = event {
                return message;
            }
        }
        panic!("the events ended")
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.expect("it is told");
    assert!(told.contains("256"), "{told}");
    // They are free again, for this container's next guest and for everybody.
    assert!(pod.run(&["hoard"]).await.starts_with("256 sockets"));
    node.runtime.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_1_program_accepts_on_the_containers_port() {
    let node = Node::new().await;
    node.runtime.load_image("localhost/listener", ImageSource::Module(LISTENER.into())).await.unwrap();
    let (server, client) = (node.pod("server", &[]).await, node.pod("client", &[]).await);
    let (id, log) = server.start_image("localhost/listener", &[80], &[]).await;
    let at = format!("{}:80", server.ip());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while node.runtime.dial(&server.sandbox.id, 80).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "{}", read(&log));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The look above came without a request.
    for path in ["/a", "/b"] {
        assert_eq!(
            client.run(&["get", &at, path]).await,
            format!("you asked: GET {path} HTTP/1.1\n"),
            "{}",
            read(&log)
        );
    }
    assert_eq!(ask(node.runtime.dial(&server.sandbox.id, 80).await.unwrap()).await, "you asked: GET / HTTP/1.1\n");
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    assert!(node.runtime.dial(&server.sandbox.id, 80).await.is_err(), "the port is free again");
    // Without a port it is told so, in its own words.
    let (none, log) = server.start_image("localhost/listener", &[], &[]).await;
    let status = || async { node.runtime.container_status(&none).await.unwrap() };
    while status().await.exit.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(read(&log).contains("no socket was opened"), "{}", read(&log));
    node.runtime.shutdown(Duration::ZERO).await;
}
