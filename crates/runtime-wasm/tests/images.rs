//! Images from files, layouts and registries, kept over restarts.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use skiff_runtime::{Credentials, Error, ImageSource, Runtime as _};
use skiff_runtime_wasm::WasmRuntime;
use support::{
    Node,
    registry::{Blobs, MANIFEST, Registry},
};

const HELLO: &str = include_str!("../../../wasm-examples/wat/hello.wat");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn hello() -> Vec<u8> {
    wat::parse_str(HELLO).unwrap()
}

fn tar_layer(files: &[(&str, &[u8])], gzip: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    if !gzip {
        return bytes;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_of_every_kind_run() {
    let node = Node::new().await;
    let image_config = "application/vnd.oci.image.config.v1+json";
    let config = r#"{"architecture":"wasm","os":"wasip1","config":{"Entrypoint":["/app.wasm"],"Env":["A=1"]}}"#;
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let zipped = "application/vnd.oci.image.layer.v1.tar+gzip";
    type Row<'a> = ((&'a str, &'a str), Vec<(&'a str, Vec<u8>)>);
    let rows: [Row<'_>; 6] = [
        (("application/vnd.wasm.config.v0+json", "{}"), vec![("application/wasm", hello())]),
        (
            ("application/vnd.wasm.config.v1+json", "{}"),
            vec![
                ("application/vnd.wasm.content.layer.v1+wasm", hello()),
                ("application/vnd.wasm.content.layer.v1+data", b"asset".to_vec()),
            ],
        ),
        ((image_config, config), vec![("application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", hello())]),
        ((image_config, config), vec![(tar, tar_layer(&[("other.wasm", b"no"), ("app.wasm", &hello())], false))]),
        ((image_config, config), vec![(zipped, tar_layer(&[("./app.wasm", &hello())], true))]),
        ((image_config, "{}"), vec![(zipped, tar_layer(&[("usr/share/only.wasm", &hello())], true))]),
    ];
    for (index, (config, layers)) in rows.into_iter().enumerate() {
        let mut blobs = Blobs::default();
        let manifest = blobs.manifest(config, &layers);
        let reference = format!("localhost/layout:{index}");
        let image = node.runtime.load_image(&reference, blobs.layout(std::slice::from_ref(&manifest))).await.unwrap();
        assert_eq!(image.id, manifest["digest"].as_str().unwrap());
        let mut run = node.start(&reference, |_| {}).await;
        assert_eq!(run.exit().await.code, 0, "row {index}");
        assert_eq!(run.log(), ["Hello from WebAssembly!"], "row {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_that_cannot_run_say_why() {
    let node = Node::new().await;
    let linux = r#"{"architecture":"amd64","os":"linux"}"#;
    let image_config = "application/vnd.oci.image.config.v1+json";
    let tar = "application/vnd.oci.image.layer.v1.tar";
    type Row<'a> = ((&'a str, &'a str), Vec<(&'a str, Vec<u8>)>, &'a str);
    let rows: [Row<'_>; 6] = [
        (("c", "{}"), vec![("application/wasm", hello()), ("application/wasm", b"\0asm".to_vec())], "2 Wasm layers"),
        (("c", "{}"), vec![("application/x-other", hello())], "application/x-other"),
        ((image_config, linux), vec![(tar, tar_layer(&[("bin/sh", b"\x7fELF")], false))], "an image for linux/amd64"),
        (("c", "{}"), vec![(tar, tar_layer(&[("a.wasm", b"1"), ("b.wasm", b"2")], false))], "a.wasm, b.wasm"),
        (("c", "{}"), vec![("application/wasm", b"\x7fELF".to_vec())], "a Linux executable"),
        (("c", "{}"), vec![(tar, b"\x28\xb5\x2f\xfd".to_vec())], "zstd"),
    ];
    for (config, layers, expected) in rows {
        let mut blobs = Blobs::default();
        let manifest = blobs.manifest(config, &layers);
        let error = node.runtime.load_image("localhost/bad", blobs.layout(&[manifest])).await.unwrap_err();
        assert!(matches!(&error, Error::ImageUnusable { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{expected} in {error}");
    }
    for archive in [&b""[..], b"not a tar archive", &[0; 2048]] {
        let source = ImageSource::OciLayoutTar(Bytes::copy_from_slice(archive));
        let error = node.runtime.load_image("localhost/bad", source).await.unwrap_err();
        assert!(matches!(&error, Error::ImageUnusable { .. }), "{error:?}");
    }
    assert!(node.runtime.list_images().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_compiled_modules_survive_a_restart() {
    let node = Node::new().await;
    let image = node.load("localhost/hello:v1", HELLO.as_bytes()).await.unwrap();
    node.runtime.shutdown(Duration::ZERO).await;
    let Node { runtime, directory, .. } = node;
    drop(runtime);
    let compiled = directory.path().join("root/compiled");
    let artefact = || {
        let entries = std::fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "cwasm")).collect::<Vec<_>>()
    };
    let [path] = &artefact()[..] else { panic!("one compiled module is kept") };
    let before = std::fs::metadata(path).unwrap().modified().unwrap();

    // A file of a container that was killed with its process.
    let left = directory.path().join("root/containers/0/note");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "old").unwrap();
    let config = support::config(&directory);
    let node = Node::with(directory, config).await;
    assert!(!left.exists(), "a new container does not get an old one's files");
    assert_eq!(node.runtime.list_images().await.unwrap(), [image]);
    let mut run = node.start("localhost/hello:v1", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    assert_eq!(std::fs::metadata(path).unwrap().modified().unwrap(), before, "it was not compiled again");
    node.runtime.shutdown(Duration::ZERO).await;

    // Someone else's machine code is never run: it is compiled again.
    let Node { runtime, directory, .. } = node;
    drop(runtime);
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let config = support::config(&directory);
    let node = Node::with(directory, config).await;
    let mut run = node.start("localhost/hello:v1", |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
    assert_ne!(std::fs::read(path).unwrap(), bytes, "the artefact was made anew");
}

fn published() -> (Blobs, HashMap<String, String>, String, String) {
    let mut blobs = Blobs::default();
    let mut manifest = blobs.manifest(("application/vnd.wasm.config.v0+json", "{}"), &[("application/wasm", hello())]);
    let id = manifest["digest"].as_str().unwrap().to_owned();
    manifest["platform"] = serde_json::json!({ "architecture": "wasm", "os": "wasip1" });
    let mut linux = blobs.manifest(("c", "{}"), &[]);
    linux["platform"] = serde_json::json!({ "architecture": "amd64", "os": "linux" });
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [linux, manifest] });
    let index = blobs.add(INDEX, index.to_string())["digest"].as_str().unwrap().to_owned();
    let tags = [("v1".to_owned(), id.clone()), ("multi".to_owned(), index.clone())].into();
    (blobs, tags, id, index)
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_by_tag_digest_and_index() {
    let (blobs, tags, id, index) = published();
    let registry = Registry::serve(blobs, tags, None).await;
    let node = Node::new().await;
    let host = &registry.host;
    for reference in [
        format!("{host}/team/hello:v1"),
        format!("{host}/team/hello:multi"),
        format!("{host}/team/hello@{id}"),
        format!("{host}/team/hello:v1@{index}"),
    ] {
        let image = node.runtime.pull_image(&reference, None).await.unwrap();
        assert_eq!(image.id, id, "{reference}");
        let found = node.runtime.image_status(&reference).await.unwrap().map(|image| image.id);
        assert_eq!(found.as_ref(), Some(&id), "{reference}");
    }
    assert_eq!(registry.asked_for("/blobs/"), 1, "the module came once");
    let [image] = &node.runtime.list_images().await.unwrap()[..] else { panic!("one image") };
    assert_eq!(image.tags.len(), 2, "{image:?}");
    assert!(image.digests.contains(&format!("{host}/team/hello@{index}")), "{image:?}");
    let mut run = node.start(&format!("{host}/team/hello:v1"), |_| {}).await;
    assert_eq!(run.exit().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_the_work() {
    let (blobs, tags, ..) = published();
    let registry = Registry::serve(blobs, tags, None).await;
    let node = Node::new().await;
    let reference = format!("{}/team/hello:v1", registry.host);
    let pulls = (0..10).map(|_| node.runtime.pull_image(&reference, None));
    for pulled in futures::future::join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!(registry.asked_for("/manifests/"), 1);
    assert_eq!(registry.asked_for("/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_wants_its_password() {
    // user:secret
    let (blobs, tags, ..) = published();
    let registry = Registry::serve(blobs, tags, Some("dXNlcjpzZWNyZXQ=")).await;
    let node = Node::new().await;
    let reference = format!("{}/team/hello:v1", registry.host);
    let user = |password: &str| Credentials { username: "user".to_owned(), password: password.to_owned() };
    for credentials in [None, Some(user("wrong"))] {
        let error = node.runtime.pull_image(&reference, credentials).await.unwrap_err();
        assert!(matches!(&error, Error::ImagePull { .. }), "{error:?}");
        assert!(error.to_string().contains("not authorized"), "{error}");
    }
    node.runtime.pull_image(&reference, Some(user("secret"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_does_not_give_is_told() {
    let (mut blobs, mut tags, id, _) = published();
    // A layer whose bytes are not what its digest says.
    let mut damaged = blobs.clone();
    let layer = damaged.add("application/wasm", b"\0asm good".to_vec());
    let config = damaged.add("c", "{}");
    let manifest =
        serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let manifest = damaged.add(MANIFEST, manifest.to_string());
    tags.insert("damaged".to_owned(), manifest["digest"].as_str().unwrap().to_owned());
    damaged.0.insert(layer["digest"].as_str().unwrap().to_owned(), b"\0asm evil".to_vec());
    blobs.0.extend(damaged.0);
    let registry = Registry::serve(blobs, tags, None).await;
    let node = Node::new().await;
    let host = &registry.host;
    let absent = format!("sha256:{}", "0".repeat(64));
    for (reference, expected) in [
        (format!("{host}/team/hello:none"), "no such manifest"),
        (format!("{host}/team/hello@{absent}"), "no such manifest"),
        (format!("{host}/team/hello:damaged"), "digest"),
        ("localhost/hello".to_owned(), "skiff image load"),
        ("127.0.0.1:1/hello".to_owned(), "refused"),
    ] {
        let error = node.runtime.pull_image(&reference, None).await.unwrap_err();
        assert!(matches!(&error, Error::ImagePull { .. }), "{reference}: {error:?}");
        assert!(error.to_string().to_lowercase().contains(expected), "{reference}: {error}");
    }
    // What is named by its digest alone stays when other images go.
    node.runtime.pull_image(&format!("{host}/team/hello@{id}"), None).await.unwrap();
    node.load("localhost/other", HELLO.as_bytes()).await.unwrap();
    node.runtime.remove_image("localhost/other").await.unwrap();
    assert_eq!(node.runtime.list_images().await.unwrap().len(), 1);
    node.runtime.remove_image(&format!("{host}/team/hello@{id}")).await.unwrap();
    assert!(node.runtime.list_images().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = WasmRuntime::open(skiff_runtime_wasm::WasmConfig::new(&file)).err().unwrap();
    assert!(error.to_string().contains(&*file.display().to_string()), "{error}");
}
