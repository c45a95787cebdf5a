//! Spin applications as `spin registry push` packs them: several components behind one server, each with its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use skiff_runtime::{LiveSource, Runtime as _, RuntimeEvent};
use support::{Node, registry::Blobs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LAB: &[u8] = include_bytes!("../../../wasm-examples/rust/http-lab.wasm");
const VALUES: &[u8] = include_bytes!("../../../wasm-examples/wat/spin-values.wat");
const CONFIG: (&str, &str) = (
    "application/vnd.oci.image.config.v1+json",
    r#"{"architecture":"wasm","os":"Wasip1","config":{"Labels":{"com.fermyon.spin.lockedAppDigest":"sha256:0"}}}"#,
);
const MANIFEST: &str = "application/vnd.fermyon.spin.application.v1+config";
const MODULE: &str = "application/vnd.wasm.content.layer.v1+wasm";
const FILE: &str = "application/vnd.wasm.content.layer.v1+data";
const ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";

/// The lab twice: a module of its own for each, so that they cannot be taken for one another.
fn lab(n: u8) -> Vec<u8> {
    // A custom section of one byte.
    [LAB, &[0, 3, 1, b'n', n]].concat()
}

fn locked(change: impl FnOnce(&mut Value)) -> Value {
    let digest = |bytes: &[u8]| support::registry::digest(bytes);
    let mut manifest = json!({
        "spin_lock_version": 1,
        "metadata": { "name": "shop" },
        "variables": { "token": {}, "host": { "default": "127.0.0.1" } },
        "triggers": [
            { "id": "a", "trigger_type": "http", "trigger_config": { "component": "site", "route": "/..." } },
            { "id": "b", "trigger_type": "http", "trigger_config": { "component": "api", "route": "/api/:id/..." } },
        ],
        "components": [
            { "id": "site", "source": { "content_type": "application/wasm", "digest": digest(&lab(1)) },
              "env": { "WHO": "site" },
              "files": [{ "inline": "c21hbGw=", "digest": digest(b"small"), "path": "static/small.txt" },
                        { "digest": digest(b"a larger file"), "path": "static/deep/larger.txt" }] },
            { "id": "api", "source": { "content_type": "application/wasm", "digest": digest(&lab(2)) },
              "env": { "WHO": "api" },
              "config": { "auth": "Bearer {{ token }}" },
              "metadata": { "allowed_outbound_hosts": ["http://{{ host }}:8080"] } },
        ],
    });
    change(&mut manifest);
    manifest
}

fn layers(manifest: &Value) -> Vec<(&'static str, Vec<u8>)> {
    vec![(MODULE, lab(1)), (MODULE, lab(2)), (FILE, b"a larger file".to_vec()), (MANIFEST, manifest.to_string().into())]
}

async fn load(node: &Node, name: &str, layers: &[(&str, Vec<u8>)]) -> Result<(), String> {
    let mut blobs = Blobs::default();
    let manifest = blobs.manifest(CONFIG, layers);
    let loaded = node.runtime.load_image(name, blobs.layout(&[manifest])).await;
    loaded.map(drop).map_err(|error| error.to_string())
}

/// What a path of the application answers: the status line and the body.
async fn get(node: &Node, path: &str) -> (String, String) {
    let mut connection = node.runtime.dial(&node.sandbox, 80).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nhost: shop.test\r\nspin-path-info: lie\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let listen = ("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:80");
    [listen].iter().chain(pairs).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_component_answers_its_routes_with_its_own_files_and_environment() {
    let node = Node::new().await;
    load(&node, "localhost/shop", &layers(&locked(|_| {}))).await.unwrap();
    let run = node
        .start("localhost/shop", |config| config.env = variables(&[("SPIN_VARIABLE_TOKEN", "t"), ("P", "q")]))
        .await;
    let ok = |text: &str| ("200".to_owned(), text.to_owned());
    assert_eq!(get(&node, "/env").await, ok("WHO=site\nHOSTNAME=pod-host\nP=q\n"));
    // The path stays whole: a component matches on it itself.
    assert_eq!(get(&node, "/file?/static/small.txt").await, ok("small"));
    assert_eq!(get(&node, "/file?/static/deep/larger.txt").await, ok("a larger file"));
    assert_eq!(get(&node, "/write?/static/small.txt").await, ok("false\n"), "its files are read-only");
    let (status, headers) = get(&node, "/api/7/more/x?headers").await;
    assert_eq!(status, "200");
    for line in [
        "spin-path-info=/more/x\n",
        "spin-path-match-id=7\n",
        "spin-matched-route=/api/:id/...\n",
        "spin-component-route=/api/:id\n",
        "spin-full-url=http://shop.test/api/7/more/x?headers\n",
    ] {
        assert!(headers.contains(line), "{line} in {headers}");
    }
    assert!(!headers.contains("lie"));
    // A fault of one is told in the log, and leaves the others alone.
    assert_eq!(get(&node, "/trap").await.0, "500");
    assert_eq!(get(&node, "/").await, ok("hello\n"));
    assert!(run.log().join("\n").contains("request GET /trap failed"), "{:?}", run.log());
    node.runtime.stop_container(&run.id, std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(run.exit_reason().await, "Completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_reaches_the_hosts_of_its_manifest_and_no_others() {
    let node = Node::new().await;
    let routes = |m: &mut Value| {
        m["triggers"][1]["trigger_config"]["route"] = json!("/fetch");
        m["components"][1]["metadata"]["allowed_outbound_hosts"] = json!(["http://{{ host }}:80"]);
    };
    load(&node, "localhost/shop", &layers(&locked(routes))).await.unwrap();
    let mut events = node.runtime.events();
    let _run = node.start("localhost/shop", |config| config.env = variables(&[("SPIN_VARIABLE_TOKEN", "t")])).await;
    let said = async |url: &str| get(&node, &format!("/fetch?{url}")).await.1;
    assert_eq!(said("http://127.0.0.1:80/").await, "hello\n", "the pod itself");
    assert_eq!(said("http://127.0.0.1:81/").await, "ErrorCode::HttpRequestDenied\n");
    assert_eq!(said("http://localhost/").await, "ErrorCode::HttpRequestDenied\n");
    let told = async {
        loop {
            let event = futures::StreamExt::next(&mut events).await.unwrap();
            if let RuntimeEvent::Warning { message, .. } = event
                && message.contains("http://127.0.0.1:81 is not among the component's allowed_outbound_hosts")
            {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), told).await.expect("the user is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_lacks_is_told_when_it_is_loaded_or_created() {
    let node = Node::new().await;
    let without = |index: usize| {
        let mut all = layers(&locked(|_| {}));
        all.remove(index);
        all
    };
    for (layers, expected) in [
        (without(1), "Spin component \"api\": its image lacks module"),
        (without(2), "Spin component \"site\": its image lacks static/deep/larger.txt"),
        (layers(&locked(|m| m["triggers"][0]["trigger_type"] = json!("redis"))), "of type \"redis\""),
        (vec![(MODULE, lab(1)), (MANIFEST, b"{".to_vec())], "Spin manifest cannot be read"),
    ] {
        let error = load(&node, "localhost/bad", &layers).await.unwrap_err();
        assert!(error.contains(expected), "{expected} in {error}");
    }
    load(&node, "localhost/shop", &layers(&locked(|_| {}))).await.unwrap();
    for (env, expected) in [
        (vec![], "set SPIN_VARIABLE_TOKEN in the container's env"),
        (
            vec![("SPIN_VARIABLE_TOKEN", "t"), ("SPIN_COMPONENTS_TO_RETAIN", "none")],
            "no component \"none\"; it has site, api",
        ),
        (vec![("SPIN_VARIABLE_TOKEN", "t"), ("SPIN_VARIABLE_HOST", "a b")], "allowed_outbound_hosts"),
    ] {
        let error =
            node.create("localhost/shop", |config| config.env = variables(&env)).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{expected} in {error}");
    }
    // Only some of it.
    let env = [("SPIN_VARIABLE_TOKEN", "t"), ("SPIN_COMPONENTS_TO_RETAIN", "api")];
    let _run = node.start("localhost/shop", |config| config.env = variables(&env)).await;
    assert_eq!(get(&node, "/api/1/env").await.0, "200");
    assert_eq!(get(&node, "/env").await, ("404".to_owned(), "404 Not Found\n".to_owned()));
    // The files go with the image.
    let files = node.directory.path().join("root/images/files");
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1);
    node.runtime.remove_image("localhost/shop").await.unwrap();
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(node.directory.path().join("root/images/modules")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_files_is_as_good_as_layers() {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(13);
    header.set_mode(0o644);
    tar.append_data(&mut header, "deep/larger.txt", &b"a larger file"[..]).unwrap();
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let manifest = locked(|_| {});
    let node = Node::new().await;
    let all = [(MODULE, lab(1)), (MODULE, lab(2)), (ARCHIVE, archive), (MANIFEST, manifest.to_string().into())];
    load(&node, "localhost/shop", &all).await.unwrap();
    let _run = node.start("localhost/shop", |config| config.env = variables(&[("SPIN_VARIABLE_TOKEN", "t")])).await;
    assert_eq!(get(&node, "/file?/static/deep/larger.txt").await.1, "a larger file");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_stores_are_those_of_wasi_config_and_keyvalue() {
    let node = Node::new().await;
    node.load("localhost/values", VALUES).await.unwrap();
    let source = LiveSource::new([("greeting".to_owned(), b"hello\n".to_vec())].into());
    let mut run = node
        .start("localhost/values", |config| {
            config.annotations = [("skiff.dev/config".to_owned(), "configmap/words".to_owned())].into();
            config.sources = [("configmap/words".to_owned(), source)].into_iter().collect();
        })
        .await;
    assert_eq!(run.exit().await.code, 0);
    assert_eq!(run.log(), ["hello", "yes", "yes", "kept", "yes", "yes"]);
}
