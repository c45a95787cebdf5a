//! Tokens of ServiceAccounts: JSON web tokens (ES256) that this server signs and takes back.
//!
//! A token is good while its account, and the pod or secret that it is bound to, exists with the uid that it names.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde_json::{Value, json};

use crate::{authn::UserInfo, clock, registry, server::ApiServer};

/// Who signs: the `iss` of every token.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The audience of tokens for this server.
pub(crate) const AUDIENCE: &str = ISSUER;

/// A signing key. Cheap to clone.
#[derive(Clone)]
pub struct TokenSigner(Arc<Key>);

struct Key {
    pair: EcdsaKeyPair,
    /// Names the key in a token's head.
    id: String,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({})", self.0.id)
    }
}

impl TokenSigner {
    /// From a PKCS #8 key for ECDSA on P-256.
    pub(crate) fn new(pkcs8: &[u8]) -> Result<Self, String> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|e| e.to_string())?;
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, pair.public_key().as_ref()));
        Ok(Self(Arc::new(Key { pair, id })))
    }

    /// The token of these claims; `None` when the system gives no randomness.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let head = json!({ "alg": "ES256", "kid": self.0.id });
        let text = format!("{}.{}", part(&head), part(claims));
        let signature = self.0.pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key has signed.
    pub(crate) fn open(&self, token: &str) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (head, claims) = text.split_once('.')?;
        if value(head)?["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0.pair.public_key().as_ref());
        key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        value(claims)
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn value(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The account of a token, if it is good now and for one of the audiences.
pub(crate) fn verify(api: &ApiServer, token: &str, audiences: &[String]) -> Option<UserInfo> {
    let claims = api.token_signer.as_ref()?.open(token)?;
    let now = clock::now().as_second();
    let in_time = claims["exp"].as_i64()? > now && claims["nbf"].as_i64()? <= now + CLOCK_SKEW_SECONDS;
    let meant = |audience: &str| claims["aud"].as_array().into_iter().flatten().any(|a| a == audience);
    let for_us = if audiences.is_empty() { meant(AUDIENCE) } else { audiences.iter().any(|a| meant(a)) };
    if claims["iss"] != ISSUER || !in_time || !for_us {
        return None;
    }
    let cluster = &claims["kubernetes.io"];
    let namespace = cluster["namespace"].as_str()?;
    let account = cluster["serviceaccount"]["name"].as_str()?;
    exists(api, "serviceaccounts", namespace, &cluster["serviceaccount"])?;
    for (bound, plural) in [("pod", "pods"), ("secret", "secrets")] {
        if let Some(object) = cluster.get(bound) {
            exists(api, plural, namespace, object)?;
        }
    }
    Some(user(namespace, account))
}

const CLOCK_SKEW_SECONDS: i64 = 60;

pub(crate) fn user(namespace: &str, account: &str) -> UserInfo {
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{account}"),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
    }
}

/// Whether `{name, uid}` is an object that is there.
fn exists(api: &ApiServer, plural: &str, namespace: &str, named: &Value) -> Option<()> {
    let resource = api.registry.find("", "v1", plural)?;
    let entry = api.store.get(&resource.key(Some(namespace), named["name"].as_str()?))?;
    let object = registry::parse(&entry.value).ok()?;
    (object["metadata"]["uid"] == named["uid"]).then_some(())
}
