//! A registry that misbehaves on the wire: every pull ends in bounded time, having read a bounded amount, with an error that names
//! the image and what is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use skiff_runtime::Runtime as _;
use support::{
    Node,
    registry::{Blobs, MANIFEST, digest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const HELLO: &[u8] = include_bytes!("../../../wasm-examples/wat/hello.wat");
const CONFIG: (&str, &str) = ("application/vnd.wasm.config.v0+json", "{}");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What one pull may take, told to the node.
const TIME_MAX: Duration = Duration::from_secs(2);
/// What was sent and is not read yet: in the buffers of two sockets and of the client.
const UNDER_WAY: u64 = 16 << 20;

#[derive(Clone)]
enum Answer {
    /// Then the connection is closed.
    Bytes(Vec<u8>),
    /// That, then this for ever.
    Endless(Vec<u8>, &'static [u8]),
    /// A byte at a time.
    Slow(Vec<u8>),
    Silent,
}

type Serve = Arc<dyn Fn(&str, &str) -> Answer + Send + Sync>;

/// Gives its host, and counts what it sent.
async fn registry(serve: Serve) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (sent, count, own) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), host.clone());
    let told = sent.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(socket, serve.clone(), own.clone(), sent.clone()));
        }
    });
    (host, told)
}

async fn answer(mut socket: TcpStream, serve: Serve, host: String, sent: Arc<AtomicU64>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    match serve(&path, &host) {
        Answer::Bytes(bytes) => socket.write_all(&bytes).await.ok()?,
        Answer::Endless(first, again) => {
            socket.write_all(&first).await.ok()?;
            let chunk = again.repeat((64 << 10) / again.len());
            loop {
                socket.write_all(&chunk).await.ok()?;
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
        Answer::Slow(bytes) => {
            for byte in bytes {
                socket.write_all(&[byte]).await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Answer::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
    }
    let _ = socket.shutdown().await;
    Some(())
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Answer {
    Answer::Bytes(http("200 OK", "", body))
}

fn head_only(length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn manifest(layers: serde_json::Value) -> Vec<u8> {
    serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers }).to_string().into_bytes()
}

fn layer(size: u64) -> serde_json::Value {
    serde_json::json!([{ "mediaType": "application/wasm", "digest": digest(b"module"), "size": size }])
}

/// The same answer to every request.
fn always(answer: Answer) -> Serve {
    Arc::new(move |_, _| answer.clone())
}

/// A correct manifest, and that for each layer.
fn blob(size: u64, answer: Answer) -> Serve {
    let manifest = manifest(layer(size));
    Arc::new(move |path, _| if path.contains("/blobs/") { answer.clone() } else { ok(&manifest) })
}

fn rows() -> Vec<(&'static str, Serve, &'static str)> {
    let own = |status: &'static str, header: &'static str| -> Serve {
        Arc::new(move |_, host| Answer::Bytes(http(status, &header.replace("HOST", host), b"")))
    };
    let endless = |length: u64| Answer::Endless(head_only(length), b"{\"a\":[");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"a\":[\r\n".to_vec();
    let deep = "[".repeat(1 << 20).into_bytes();
    let index = |digest: &str| {
        let entry = serde_json::json!([{ "mediaType": MANIFEST, "digest": digest, "size": 1 }]);
        serde_json::json!({ "schemaVersion": 2, "manifests": entry }).to_string().into_bytes()
    };
    let (nested, first) = {
        let mut blobs = Blobs::default();
        let mut last = manifest(layer(6));
        for _ in 0..6 {
            let inner = blobs.add(INDEX, last.clone());
            last = index(inner["digest"].as_str().unwrap());
        }
        (blobs, last)
    };
    let nest: Serve = Arc::new(move |path, _| {
        let name = path.rsplit('/').next().unwrap();
        ok(nested.0.get(name).unwrap_or(&first))
    });
    let wrong_index = index(&digest(b"what was promised"));
    let strange_index = index("sha256:../../../token");
    let (realm_endless, many) = (
        Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"{\"token\":\""),
        manifest(serde_json::Value::Array(vec![
            serde_json::json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(b""), "size": 1 });
            1000
        ])),
    );
    let bearer = "WWW-Authenticate: Bearer realm=\"http://HOST/token\",service=\"x\"\r\n";
    let tokens = |answer: Answer| -> Serve {
        Arc::new(move |path, host| match path.starts_with("/token") {
            true => answer.clone(),
            false => Answer::Bytes(http("401 Unauthorized", &bearer.replace("HOST", host), b"")),
        })
    };
    let headers = "X-Claim: 1234567890123456\r\n";
    vec![
        (
            "a manifest that is cut off",
            always(Answer::Bytes([head_only(1000), b"{}".to_vec()].concat())),
            "manifest latest",
        ),
        ("chunks that are cut off", always(Answer::Bytes(chunked.clone())), "manifest latest"),
        ("a manifest without end", always(Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"{\"a\":[")), "limit"),
        ("a manifest that is said to be huge", always(endless(1 << 40)), "more than 4194304 bytes"),
        ("a manifest of chunks without end", always(Answer::Endless(chunked, b"6\r\n{\"a\":[\r\n")), "limit"),
        ("no JSON", always(ok(b"<html>welcome</html>")), "cannot be read"),
        ("JSON without a bottom", always(ok(&deep)), "cannot be read"),
        ("JSON of another shape", always(ok(b"[1, 2, {\"layers\": 3}]")), "cannot be read"),
        ("indexes in indexes", nest, "lead to no manifest"),
        ("an index that leads to something else", always(ok(&wrong_index)), "has the digest"),
        ("an index that leads nowhere", always(ok(&strange_index)), "is not a digest"),
        ("another digest than it says", own("200 OK", "Docker-Content-Digest: sha256:00\r\n"), "not sha256:00"),
        ("a layer of another content", blob(6, ok(b"other!")), "has the digest"),
        ("a layer that is too short", blob(7, ok(b"module")), "6 bytes arrived"),
        ("a layer that is too long", blob(6, ok(b"module and more")), "more than 6 bytes"),
        ("a layer without end", blob(6, Answer::Endless(head_only(1 << 40), b"module")), "more than 6 bytes"),
        (
            "a layer of chunks without end",
            blob(6, Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x")),
            "more than 6",
        ),
        ("a layer that is said to be huge", blob(1 << 50, Answer::Silent), "the limit is"),
        ("a thousand layers", always(ok(&many)), "1000 layers"),
        ("redirects in a circle", own("302 Found", "Location: http://HOST/again\r\n"), "redirect"),
        ("a redirect to nobody", own("307 Temporary Redirect", "Location: http://127.0.0.1:9/\r\n"), "manifest latest"),
        ("a redirect to a file", own("301 Moved", "Location: file:///etc/passwd\r\n"), "manifest latest"),
        ("401 for ever", own("401 Unauthorized", bearer), "no token"),
        ("tokens that help nobody", tokens(ok(b"{\"token\":\"t\"}")), "not authorized"),
        ("a token without end", tokens(realm_endless), "no token"),
        ("a token of no kind", tokens(ok(b"[]")), "no token"),
        ("401 without a challenge", own("401 Unauthorized", ""), "not authorized"),
        ("a refusal without end", always(Answer::Endless(b"HTTP/1.1 500 No\r\n\r\n".to_vec(), b"sorry ")), "500"),
        (
            "headers without end",
            always(Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), headers.as_bytes())),
            "manifest latest",
        ),
        ("no HTTP", always(Answer::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())), "manifest latest"),
        ("nothing", always(Answer::Bytes(Vec::new())), "manifest latest"),
        ("a byte at a time", always(Answer::Slow(http("200 OK", "", &manifest(layer(6))))), "within 2s"),
        ("silence", always(Answer::Silent), "within 2s"),
    ]
}

async fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    config.registry.time_max = Some(TIME_MAX);
    Node::with(directory, config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misbehaviour_is_an_error_that_says_what_it_is() {
    let node = &node().await;
    let pulls = rows().into_iter().map(|(what, serve, says)| async move {
        let (host, sent) = registry(serve).await;
        let begun = Instant::now();
        let image = format!("{host}/app:latest");
        let error = node.runtime.pull_image(&image, None).await.expect_err(what).to_string();
        let sent = sent.load(Ordering::Relaxed);
        println!("{what}: {error} ({:.1?}, {sent} bytes)", begun.elapsed());
        assert!(error.contains(&image), "{what}: {error}");
        assert!(error.contains(says), "{what}: {error}");
        assert!(error.len() < 1000, "{what}: {error}");
        assert!(sent <= UNDER_WAY, "{what}: {sent} bytes");
        assert!(begun.elapsed() < TIME_MAX + Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
    });
    futures::future::join_all(pulls).await;
}

/// A generator of numbers that is the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }

    /// Something else than was to be sent.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(6) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes.insert(at, b"\r\n{}\"\0"[self.below(6)]),
            3 => drop(bytes.drain(at..(at + self.below(20)).min(bytes.len()))),
            4 => {
                let copy = bytes[at..].to_vec();
                bytes.splice(at..at, copy);
            }
            // A number, most likely a length.
            _ => bytes.iter_mut().skip(at).filter(|byte| byte.is_ascii_digit()).take(1).for_each(|byte| *byte = b'9'),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spoiled_on_its_way_is_refused_or_does_no_harm() {
    let node = &node().await;
    let mut blobs = Blobs::default();
    let root = blobs.manifest(CONFIG, &[("application/wasm", HELLO.to_vec())]);
    let root = root["digest"].as_str().unwrap().to_owned();
    let blobs = Arc::new(blobs);
    let (mut errors, mut fine) = (0, 0);
    for round in 0..20_u64 {
        let pulls = (0..10).map(|index| {
            let (blobs, root) = (blobs.clone(), root.clone());
            let numbers = parking_lot::Mutex::new(Numbers(round * 10 + index));
            let serve: Serve = Arc::new(move |path, _| {
                let name = path.rsplit('/').next().unwrap();
                let mut bytes = match blobs.0.get(if name == "latest" { root.as_str() } else { name }) {
                    Some(bytes) => http("200 OK", "", bytes),
                    None => http("404 Not Found", "", b""),
                };
                let mut numbers = numbers.lock();
                if numbers.below(2) == 0 {
                    numbers.spoil(&mut bytes);
                }
                Answer::Bytes(bytes)
            });
            async move {
                let (host, _) = registry(serve).await;
                let image = format!("{host}/app:latest");
                match node.runtime.pull_image(&image, None).await {
                    Err(error) => Err((image, error.to_string())),
                    Ok(found) => Ok(found.id),
                }
            }
        });
        for outcome in futures::future::join_all(pulls).await {
            match outcome {
                Ok(_) => fine += 1,
                Err((image, error)) => {
                    errors += 1;
                    assert!(error.contains(&image) && error.len() < 1500, "{error}");
                }
            }
        }
    }
    println!("{errors} refused, {fine} fine");
    assert!(errors > 30 && fine > 30, "{errors} refused, {fine} fine");
}
