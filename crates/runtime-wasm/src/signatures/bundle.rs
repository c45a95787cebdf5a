//! Signatures as cosign 3 makes them: a Sigstore bundle with a DSSE envelope, whose payload is an in-toto statement about
//! the image's digest.
//!
//! What must stay true: the envelope's own bytes are what was signed (they are read only after the signature is found
//! good), and a statement of another kind (a bill of materials, a scan) by the same key is no signature of the image.

use serde::Deserialize;

use super::{Rule, base64};

/// Of every version of the bundle.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/";
const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Signatures of one envelope that are looked at.
const SIGNATURES_MAX: usize = 8;

pub fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(MEDIA_TYPE)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<Subject>,
    #[serde(default)]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: std::collections::BTreeMap<String, String>,
}

/// The key that a bundle is signed by, if its signature is good and says that this digest is signed.
pub fn signer<'a>(rule: &'a Rule, bundle: &[u8], digest: &str) -> Option<&'a str> {
    let bundle: Bundle = serde_json::from_slice(bundle).ok()?;
    let envelope = bundle.dsse_envelope?;
    let payload = base64(&envelope.payload)?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let signatures = envelope.signatures.iter().take(SIGNATURES_MAX).filter_map(|signature| base64(&signature.sig));
    let key = signatures.into_iter().find_map(|signature| rule.signer(&signed, &signature))?;
    let statement: Statement = serde_json::from_slice(&payload).ok()?;
    let (algorithm, value) = digest.split_once(':')?;
    let about = statement.subject.iter().any(|subject| subject.digest.get(algorithm).is_some_and(|d| d == value));
    let fits = statement.kind.starts_with(STATEMENT_TYPE) && statement.predicate_type == PREDICATE_TYPE && about;
    fits.then_some(key)
}

/// What an envelope's signature is over (DSSE 1.0).
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_as_the_specification_says() {
        // The example of the DSSE specification.
        let signed = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
