//! Signed images: which must be, by whose keys, and whether one is: cosign's simple signing over a manifest's digest, or the
//! bundle that cosign 3 makes (see [`bundle`]).
//!
//! A rule holds for the repositories that begin with its prefix; of several, the longest. An image of such a repository is
//! pulled only with a signature by one of the rule's keys, and what is here already counts only if it was checked so;
//! what is loaded from a file cannot be checked and is refused. Signatures are looked for at cosign's tag
//! (`sha256-DIGEST.sig`) and among the registry's referrers.

mod bundle;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use skiff_runtime::reference::Reference;

use crate::{
    artefact::Descriptor,
    compile::hex,
    registry::{Session, check_digest},
};

const SIGNATURE_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Signatures of one image that are looked at; further ones are not.
const SIGNATURES_MAX: usize = 32;
/// Manifests of signatures that are looked at, likewise.
const MANIFESTS_MAX: usize = 8;
/// The largest payload that is read.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;
/// What comes before the key itself in its DER form (SubjectPublicKeyInfo).
const P256_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_HEAD: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Which images must be signed. Without rules: none.
#[derive(Clone, Debug, Default)]
pub struct SignaturePolicy {
    rules: Vec<Rule>,
}

/// As it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRule {
    /// `ghcr.io/acme` or `ghcr.io/acme/app`: that repository and those below it; "" is all.
    pub prefix: String,
    /// PEM, `-----BEGIN PUBLIC KEY-----`: ECDSA P-256 or Ed25519. One is enough.
    pub keys: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    prefix: String,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    /// SHA-256 of its DER form, as `openssl pkey -pubin -outform der | sha256sum` gives it.
    id: String,
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    P256,
    Ed25519,
}

impl SignaturePolicy {
    /// # Errors
    /// Which rule or key is wrong.
    pub fn new(rules: Vec<SignatureRule>) -> Result<Self, String> {
        let mut made = Vec::new();
        for SignatureRule { prefix, keys } in rules {
            let wrong = |reason: &str| format!("image policy for {prefix:?}: {reason}");
            if keys.is_empty() {
                return Err(wrong("it has no keys, so nothing could be signed"));
            }
            let keys = keys.iter().map(|pem| Key::parse(pem)).collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
            made.push(Rule { prefix: prefix.trim_end_matches('/').to_owned(), keys });
        }
        Ok(Self { rules: made })
    }

    /// The rule for an image of that name.
    pub fn rule(&self, name: &Reference) -> Option<&Rule> {
        let repository = name.repository();
        let covers = |rule: &&Rule| {
            let rest = repository.strip_prefix(&rule.prefix);
            rule.prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.rules.iter().filter(covers).max_by_key(|rule| rule.prefix.len())
    }

    /// Whether an image that is here may go by that name; `signed_by` is what was found out about it.
    pub fn admits(&self, name: &Reference, signed_by: &[String]) -> bool {
        self.rule(name).is_none_or(|rule| rule.keys.iter().any(|key| signed_by.contains(&key.id)))
    }
}

impl Rule {
    /// For messages.
    pub fn describe(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|key| format!("sha256:{}", &key.id[..16])).collect();
        format!(
            "the node's image policy for {:?} wants a signature by one of the keys {}",
            self.prefix,
            keys.join(", ")
        )
    }

    /// The id of the key that a payload is signed by.
    fn signer(&self, payload: &[u8], signature: &[u8]) -> Option<&str> {
        self.keys.iter().find(|key| key.verifies(payload, signature)).map(|key| key.id.as_str())
    }
}

impl Key {
    fn parse(pem: &str) -> Result<Self, String> {
        let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
        let body = body.ok_or("a key is not PEM with BEGIN PUBLIC KEY")?;
        let der = base64(&body.split_whitespace().collect::<String>()).ok_or("a key's PEM is damaged")?;
        let id = hex(&Sha256::digest(&der));
        if let Some(point) = der.strip_prefix(P256_HEAD).filter(|point| point.len() == 65) {
            return Ok(Self { id, kind: Kind::P256, bytes: point.to_owned() });
        }
        if let Some(key) = der.strip_prefix(ED25519_HEAD).filter(|key| key.len() == 32) {
            return Ok(Self { id, kind: Kind::Ed25519, bytes: key.to_owned() });
        }
        Err("a key is neither ECDSA P-256 nor Ed25519".to_owned())
    }

    fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        match self.kind {
            Kind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(payload, signature).is_ok()
            }
            Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(payload, signature).is_ok(),
        }
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// One signature as a registry has it.
#[derive(Debug, Deserialize)]
struct Layer {
    #[serde(flatten)]
    blob: Descriptor,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Layer {
    fn is_signature(&self) -> bool {
        self.blob.media_type == SIGNATURE_TYPE || bundle::is_bundle(&self.blob.media_type)
    }
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Debug, Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

/// What refers to a manifest, as a registry lists it.
#[derive(Deserialize)]
struct Referrers {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: String,
    artifact_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// What to do about an image that is not signed as it must be.
const ADVICE: &str = "sign it with `cosign sign --key KEY IMAGE@DIGEST`, or have the policy changed (--image-policy)";

/// Looks for a good signature of one of the digests that lead to an image (an index's names those of its manifests).
///
/// # Errors
/// What was found instead, for the user.
pub async fn verify(session: &Session, digests: &[String], rule: &Rule) -> Result<String, String> {
    let mut signatures = 0;
    for digest in digests {
        for manifest in manifests(session, digest).await {
            for layer in manifest.layers.iter().filter(|layer| layer.is_signature()) {
                if signatures >= SIGNATURES_MAX {
                    break;
                }
                signatures += 1;
                if let Some(key) = signer(session, layer, digest, rule).await {
                    return Ok(key);
                }
            }
        }
    }
    let found = match signatures {
        0 => "it is not signed".to_owned(),
        1 => "it has one signature, which is not by such a key or not of this image".to_owned(),
        count => format!("it has {count} signatures, none of which is by such a key and of this image"),
    };
    Err(format!("{}: {found} (looked for the tag {} and for referrers); {ADVICE}", rule.describe(), tag(digests)))
}

/// Where cosign puts the signatures of a digest.
fn tag(digests: &[String]) -> String {
    digests.first().map_or_else(String::new, |digest| digest.replacen(':', "-", 1) + ".sig")
}

async fn manifests(session: &Session, digest: &str) -> Vec<Manifest> {
    let mut places = vec![digest.replacen(':', "-", 1) + ".sig"];
    // Registries of before OCI 1.1 have no such list; cosign keeps one at a tag there, which is asked for as well.
    let referrers = session.referrers(digest).await.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(Referrers { manifests }) = referrers {
        // Some registries give the type of the config, which is empty, in place of the artefact's.
        let signs = |kind: Option<&str>| {
            kind.is_none_or(|kind| kind == ARTIFACT_TYPE || kind == EMPTY_TYPE || bundle::is_bundle(kind))
        };
        let entries = manifests.into_iter().filter(|entry| signs(entry.artifact_type.as_deref()));
        places.extend(entries.map(|entry| entry.digest).filter(|digest| check_digest(digest).is_ok()));
    }
    let mut found = Vec::new();
    for place in places.iter().take(MANIFESTS_MAX) {
        let pulled = session.manifest(place, &[MANIFEST_TYPE]).await;
        found.extend(pulled.ok().and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()));
    }
    found
}

/// The key that a signature is by, if it is good and of this digest.
async fn signer(session: &Session, layer: &Layer, digest: &str, rule: &Rule) -> Option<String> {
    if layer.blob.size > PAYLOAD_BYTES_MAX {
        return None;
    }
    let bytes = session.blob(&layer.blob).await.ok()?;
    if bundle::is_bundle(&layer.blob.media_type) {
        return bundle::signer(rule, &bytes, digest).map(str::to_owned);
    }
    let signature = base64(layer.annotations.get(SIGNATURE_ANNOTATION)?)?;
    let payload: Payload = serde_json::from_slice(&bytes).ok()?;
    let fits = payload.critical.image.digest == digest && payload.critical.kind == "cosign container image signature";
    rule.signer(&bytes, &signature).filter(|_| fits).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    fn policy(prefixes: &[&str]) -> SignaturePolicy {
        let rules =
            prefixes.iter().map(|&prefix| SignatureRule { prefix: prefix.to_owned(), keys: vec![ED.to_owned()] });
        SignaturePolicy::new(rules.collect()).expect("is correct")
    }

    #[test]
    fn the_longest_prefix_decides() {
        let policy = policy(&["ghcr.io/acme/", "ghcr.io/acme/app"]);
        for (image, expected) in [
            ("ghcr.io/acme/app:1", Some("ghcr.io/acme/app")),
            ("ghcr.io/acme/app/x:1", Some("ghcr.io/acme/app")),
            ("ghcr.io/acme/application:1", Some("ghcr.io/acme")),
            ("ghcr.io/acme2/app:1", None),
            ("nginx", None),
        ] {
            let name = Reference::parse(image).expect("a reference");
            assert_eq!(policy.rule(&name).map(|rule| rule.prefix.as_str()), expected, "{image}");
            assert_eq!(policy.admits(&name, &[]), expected.is_none(), "{image}");
        }
        let name = Reference::parse("nginx").expect("a reference");
        assert!(self::policy(&[""]).rule(&name).is_some());
    }

    #[test]
    fn wrong_keys_are_refused() {
        let rsa = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAA==\n-----END PUBLIC KEY-----";
        for (keys, expected) in [(vec![], "no keys"), (vec!["x"], "not PEM"), (vec![rsa], "neither ECDSA")] {
            let keys = keys.into_iter().map(str::to_owned).collect();
            let error = SignaturePolicy::new(vec![SignatureRule { prefix: "a".to_owned(), keys }]).expect_err("wrong");
            assert!(error.contains(expected), "{error}");
        }
    }
}
