//! Images that a node takes only when they are signed by a key of its policy.

#![allow(clippy::unwrap_used)]

mod support;

use skiff_runtime::{Error, Runtime as _};
use skiff_runtime_wasm::{SignaturePolicy, SignatureRule};
use support::{
    Node,
    signed::{Key, Published, SIGNED},
};

const HELLO: &str = include_str!("../../../wasm-examples/wat/hello.wat");

async fn node(prefix: &str, keys: &[&Key]) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let mut config = support::config(&directory);
    let rule = SignatureRule { prefix: prefix.to_owned(), keys: keys.iter().map(|key| key.pem()).collect() };
    config.signatures = SignaturePolicy::new(vec![rule]).unwrap();
    Node::with(directory, config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_images_signed_by_a_key_of_the_policy_are_pulled() {
    let (one, two, stranger) = (Key::p256(), Key::ed25519(), Key::p256());
    let mut published = Published::default();
    for (name, key) in [("ecdsa", &one), ("ed255", &two), ("other", &stranger)] {
        let digest = published.image(name);
        published.sign(&digest, &digest, key);
    }
    published.image("plain");
    for (name, key, predicate) in
        [("three", &one, SIGNED), ("third", &stranger, SIGNED), ("scans", &one, "https://spdx.dev/Document")]
    {
        let digest = published.image(name);
        published.sign_bundle(&digest, &digest, predicate, key);
    }
    let (carry, bundled) = (published.image("carry"), published.image("bundl"));
    published.sign_bundle(&carry, &bundled, SIGNED, &one);
    // A good signature, of another image.
    let (moved, from) = (published.image("moved"), published.image("from1"));
    published.sign(&moved, &from, &one);
    let registry = published.serve().await;
    let host = &registry.host;
    let node = node(&format!("{host}/team"), &[&one, &two]).await;
    for name in ["ecdsa", "ed255", "three"] {
        let reference = format!("{host}/team/app:{name}");
        node.runtime.pull_image(&reference, None).await.unwrap();
        assert!(node.runtime.image_status(&reference).await.unwrap().is_some());
        let mut run = node.start(&reference, |_| {}).await;
        assert_eq!(run.exit().await.code, 0);
    }
    for (name, expected) in [
        ("other", "it has one signature, which is not by such a key"),
        ("plain", "it is not signed"),
        ("moved", "not of this image"),
        ("third", "it has one signature, which is not by such a key"),
        ("scans", "it has one signature"),
        ("carry", "not of this image"),
        ("plain", "cosign sign --key"),
    ] {
        let error = node.runtime.pull_image(&format!("{host}/team/app:{name}"), None).await.unwrap_err();
        assert!(matches!(&error, Error::ImagePull { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains(&format!("the node's image policy for \"{host}/team\"")),
            "{text}"
        );
    }
    // What is outside the rule needs nothing.
    node.runtime.pull_image(&format!("{host}/elsewhere/app:plain"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_checked_does_not_count_as_here() {
    let key = Key::p256();
    let mut published = Published::default();
    published.image("plain");
    let registry = published.serve().await;
    let free = Node::new().await;
    let reference = format!("{}/team/app:plain", registry.host);
    free.runtime.pull_image(&reference, None).await.unwrap();
    free.runtime.shutdown(std::time::Duration::ZERO).await;
    let Node { runtime, directory, .. } = free;
    drop(runtime);
    // The same node with a policy: the image of before is not run, and not taken by another name's way.
    let mut config = support::config(&directory);
    let rule = SignatureRule { prefix: registry.host.clone(), keys: vec![key.pem()] };
    config.signatures = SignaturePolicy::new(vec![rule]).unwrap();
    let node = Node::with(directory, config).await;
    assert!(node.runtime.image_status(&reference).await.unwrap().is_none());
    assert!(node.create(&reference, |_| {}).await.is_err());
    assert!(node.runtime.pull_image(&reference, None).await.is_err());
    let error = node.load(&format!("{}/team/app:v2", registry.host), HELLO.as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("what is loaded from a file cannot be checked"), "{error}");
    node.load("localhost/hello", HELLO.as_bytes()).await.unwrap();
}
