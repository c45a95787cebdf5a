//! Images with what cosign would put beside them, and a registry that has them.

#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses its part.

use std::collections::HashMap;

use base64::Engine as _;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};

use super::registry::{Blobs, MANIFEST, Registry};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What a signature says, as opposed to other statements about an image.
pub const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

pub enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub fn p256() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap())
    }

    pub fn ed25519() -> Self {
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

    pub fn pem(&self) -> String {
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
pub struct Published {
    pub blobs: Blobs,
    pub tags: HashMap<String, String>,
}

impl Published {
    /// A program that prints its name and ends with 0, by that tag; gives its manifest's digest.
    pub fn image(&mut self, name: &str) -> String {
        let module = format!(
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))
               (memory (export \"memory\") 1) (data (i32.const 0) \"\\10\\00\\00\\00\\06\\00\\00\\00\")
               (data (i32.const 16) \"{name:.5}\\n\")
               (func (export \"_start\") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"
        );
        let module = module.into_bytes();
        let config = ("application/vnd.wasm.config.v0+json", "{}");
        let manifest = self.blobs.manifest(config, &[("application/wasm", module)]);
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        self.tags.insert(name.to_owned(), digest.clone());
        digest
    }

    /// Puts a signature of `signed` where that of `digest` is looked for.
    pub fn sign(&mut self, digest: &str, signed: &str, key: &Key) {
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

    /// As cosign 3 does: a bundle with a statement about `signed`, in the list of what refers to `digest`.
    pub fn sign_bundle(&mut self, digest: &str, signed: &str, predicate: &str, key: &Key) {
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let statement = serde_json::json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "app", "digest": { "sha256": signed.trim_start_matches("sha256:") } }],
            "predicateType": predicate, "predicate": {},
        });
        let (statement, kind) = (statement.to_string(), "application/vnd.in-toto+json");
        let signature = key.sign(format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len()).as_bytes());
        let bundle = serde_json::json!({
            "mediaType": BUNDLE,
            "verificationMaterial": { "publicKey": { "hint": "key" } },
            "dsseEnvelope": {
                "payload": base64(statement.as_bytes()), "payloadType": kind, "signatures": [{ "sig": signature }],
            },
        });
        let manifest =
            self.blobs.manifest(("application/vnd.oci.empty.v1+json", "{}"), &[(BUNDLE, bundle.to_string().into())]);
        let mut entry = manifest.clone();
        entry["artifactType"] = BUNDLE.into();
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        let index = self.blobs.add(INDEX, index.to_string());
        self.tags.insert(digest.replacen(':', "-", 1), index["digest"].as_str().unwrap().to_owned());
    }

    pub async fn serve(self) -> Registry {
        Registry::serve(self.blobs, self.tags, None).await
    }
}
