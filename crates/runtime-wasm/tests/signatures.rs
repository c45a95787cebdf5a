//! Images that a node takes only when they are signed by a key of its policy.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use base64::Engine as _;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use skiff_runtime::{Error, Runtime as _};
use skiff_runtime_wasm::{SignaturePolicy, SignatureRule};
use support::{
    Node,
    registry::{Blobs, MANIFEST, Registry},
};

const HELLO: &str = include_str!("../../../wasm-examples/wat/hello.wat");

enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn p256() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn sign(&self, payload: &[u8]) -> String {
        let bytes = match self {
            Self::P256(key) => key.sign(&SystemRandom::new(), payload).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(payload).as_ref().to_vec(),
        };
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn pem(&self) -> String {
        let (head, key) = match self {
            Self::P256(key) => ("3059301306072a8648ce3d020106082a8648ce3d030107034200", key.public_key().as_ref()),
            Self::Ed25519(key) => ("302a300506032b6570032100", key.public_key().as_ref()),
        };
        let head = (0..head.len()).step_by(2).map(|at| u8::from_str_radix(&head[at..at + 2], 16).unwrap());
        let der: Vec<u8> = head.chain(key.iter().copied()).collect();
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }
}

/// An image per name, each of another module; what cosign would put beside it is added by `sign`.
#[derive(Default)]
struct Published {
    blobs: Blobs,
    tags: HashMap<String, String>,
}

impl Published {
    fn image(&mut self, name: &str) -> String {
        let module = wat::parse_str(HELLO.replace("Hello", &format!("{name:.5}"))).unwrap();
        let config = ("application/vnd.wasm.config.v0+json", "{}");
        let manifest = self.blobs.manifest(config, &[("application/wasm", module)]);
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        self.tags.insert(name.to_owned(), digest.clone());
        digest
    }

    /// Puts a signature of `signed` where that of `digest` is looked for.
    fn sign(&mut self, digest: &str, signed: &str, key: &Key) {
        let payload = serde_json::json!({
            "critical": {
                "identity": { "docker-reference": "" },
                "image": { "docker-manifest-digest": signed },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string();
        let signature = key.sign(payload.as_bytes());
        let mut layer = self.blobs.add("application/vnd.dev.cosign.simplesigning.v1+json", payload);
        layer["annotations"] = serde_json::json!({ "dev.cosignproject.cosign/signature": signature });
        let config = self.blobs.add("application/vnd.oci.image.config.v1+json", "{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        });
        let manifest = self.blobs.add(MANIFEST, manifest.to_string());
        self.tags.insert(digest.replacen(':', "-", 1) + ".sig", manifest["digest"].as_str().unwrap().to_owned());
    }

    async fn serve(self) -> Registry {
        Registry::serve(self.blobs, self.tags, None).await
    }
}

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
    // A good signature, of another image.
    let (moved, from) = (published.image("moved"), published.image("from1"));
    published.sign(&moved, &from, &one);
    let registry = published.serve().await;
    let host = &registry.host;
    let node = node(&format!("{host}/team"), &[&one, &two]).await;
    for name in ["ecdsa", "ed255"] {
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
