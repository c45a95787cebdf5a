//! Requests that guests send over TLS, to servers of a certificate authority that the node knows by `SSL_CERT_FILE`.
//!
//! No guest reaches loopback, and none does here: the servers stand where the API server stands, behind the address of its
//! Service, which every pod may reach.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, client::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use skiff_runtime::Runtime as _;
use skiff_runtime_wasm::Network;
use support::Node;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const LAB: &[u8] = include_bytes!("../../../wasm-examples/rust/http-lab.wasm");
const NAME: &str = "kubernetes.default.svc";
const CERTIFICATES: &str = "SSL_CERT_FILE";
/// Set in the process in which the story is told.
const CHILD: &str = "SKIFF_TEST_TLS";

/// The variable is read once in a process, and is nobody else's business: a process of its own has it.
#[test]
fn servers_are_who_their_certificates_say() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(story(Path::new(&std::env::var_os(CERTIFICATES).unwrap())));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "servers_are_who_their_certificates_say", "--nocapture"]).env(CHILD, "1");
    let done = child.env(CERTIFICATES, directory.path().join("ca.pem")).env_remove("SSL_CERT_DIR").output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    let passed = done.status.success() && told.contains("1 passed");
    assert!(passed, "{told}\n{}", String::from_utf8_lossy(&done.stderr));
}

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A server with a certificate of this authority, that speaks these protocols and says which was spoken.
    async fn serve(&self, name: &str, expired: bool, protocols: &[&str]) -> SocketAddr {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(async |request: Request<_>| {
                        let text = format!("{:?} {}\n", request.version(), request.uri().path());
                        let _: hyper::body::Incoming = request.into_body();
                        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
                    });
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }
}

/// Answers whatever it is sent with text that is no TLS.
async fn plain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    address
}

/// What the guest is told of that address.
async fn fetch(node: &Node, url: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    let connection = loop {
        match node.runtime.dial(&node.sandbox, 8080).await {
            Ok(connection) => break connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    let (mut client, connection) = http1::handshake(TokioIo::new(connection)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("/fetch?{url}")).header("host", "lab").body(Full::<Bytes>::default()).unwrap();
    let response = client.send_request(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn story(certificates: &Path) {
    let (known, unknown) = (Authority::new(), Authority::new());
    let servers = [
        (known.serve(NAME, false, &["h2", "http/1.1"]).await, "HTTP/2.0 /path\n"),
        (known.serve(NAME, false, &["http/1.1"]).await, "HTTP/1.1 /path\n"),
        (known.serve(NAME, false, &[]).await, "HTTP/1.1 /path\n"),
        (unknown.serve(NAME, false, &["h2"]).await, "ErrorCode::TlsCertificateError\n"),
        (known.serve("other.test", false, &["h2"]).await, "ErrorCode::TlsCertificateError\n"),
        (known.serve(NAME, true, &["h2"]).await, "ErrorCode::TlsCertificateError\n"),
        (known.serve(NAME, false, &["smtp"]).await, "ErrorCode::TlsAlertReceived"),
        (plain().await, "ErrorCode::TlsProtocolError\n"),
    ];
    let network = Network::open().unwrap();
    for (index, (address, _)) in servers.iter().enumerate() {
        network.publish_api(SocketAddr::new([10, 96, 0, 1].into(), 4430 + index as u16), *address);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.network = Some(network);
    let node = Node::with(directory, config).await;
    node.load("localhost/lab", LAB).await.unwrap();
    let _run = node.start("localhost/lab", |_| {}).await;

    let said = fetch(&node, &format!("https://{NAME}:4430/path")).await;
    assert!(said.contains("InternalError") && said.contains(CERTIFICATES), "without certificates: {said}");
    std::fs::write(certificates, &known.1).unwrap();
    for (index, (_, expected)) in servers.iter().enumerate() {
        let said = fetch(&node, &format!("https://{NAME}:{}/path", 4430 + index)).await;
        assert!(said.starts_with(expected), "server {index}: {expected:?}, not {said:?}");
    }
    // By its address it is not who its certificate says, and in plain text there is no server.
    assert_eq!(fetch(&node, "https://10.96.0.1:4430/path").await, "ErrorCode::TlsCertificateError\n");
    let said = fetch(&node, &format!("http://{NAME}:4431/path")).await;
    assert!(said.starts_with("ErrorCode::") && !said.contains("Tls"), "{said}");
    // The policy is asked as for any request: the node's own address stays denied.
    let actual = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(
        fetch(&node, &format!("https://127.0.0.2:{}/", actual.port())).await,
        "ErrorCode::DestinationIpProhibited\n"
    );
}
