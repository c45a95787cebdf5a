//! Pulls from an OCI registry, anonymous or with a user's name and password.
//!
//! Each pull has a session of its own, so that one pod's credentials never serve another's. A registry is not to be trusted:
//! what it sends is bounded in size (see [`session`]), a pull is bounded in time, and digests are checked.

mod challenge;
mod session;

use std::time::Duration;

use skiff_runtime::{Credentials, reference::Reference};

pub use session::{Session, check_digest};

use crate::{
    artefact::{Document, MANIFEST_TYPES},
    config::RegistryConfig,
    images::Content,
    signatures::{self, SignaturePolicy},
};

/// Of one pull, if nothing else is said: slow registries hold a place of the node's for no longer.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 4;

/// What a pull found.
pub enum Pulled {
    /// A manifest whose content the node has already, by its id, and the digests it was reached by.
    Known {
        id: String,
        digests: Vec<String>,
        /// The key that it is signed by, if it had to be.
        signed_by: Option<String>,
    },
    New(Box<Content>),
}

/// Why it did not come.
pub enum Failure {
    /// The registry did not give it.
    Pull(String),
    /// It is there, and is not for this runtime.
    Unusable(String),
}

pub async fn pull(
    config: &RegistryConfig,
    name: &Reference,
    credentials: Option<Credentials>,
    signatures: &SignaturePolicy,
    known: impl Fn(&str) -> bool,
) -> Result<Pulled, Failure> {
    let max = config.time_max.unwrap_or(TIME_MAX);
    let pulled = tokio::time::timeout(max, pull_slowly(config, name, credentials, signatures, known)).await;
    pulled.unwrap_or_else(|_| Err(Failure::Pull(format!("it did not come within {max:?}, which is the limit"))))
}

async fn pull_slowly(
    config: &RegistryConfig,
    name: &Reference,
    credentials: Option<Credentials>,
    signatures: &SignaturePolicy,
    known: impl Fn(&str) -> bool,
) -> Result<Pulled, Failure> {
    let host = config.mirrors.iter().find(|(host, _)| *host == name.host).map_or(&name.host, |(_, mirror)| mirror);
    if host == "localhost" && !config.plain_http.contains(host) {
        return Err(Failure::Pull("it is not on this node: load it with `skiff image load`".to_owned()));
    }
    let plain = config.plain_http.iter().any(|other| other == host) || loopback(host);
    let session = Session::new(plain, host, &name.path, credentials).await.map_err(Failure::Pull)?;
    // A parsed reference has a tag or a digest.
    let mut place = name.digest.clone().or_else(|| name.tag.clone()).unwrap_or_else(|| "latest".to_owned());
    let mut digests = Vec::new();
    let mut document = None;
    for _ in 0..DEPTH_MAX {
        let (bytes, digest) = session.manifest(&place, &MANIFEST_TYPES).await.map_err(Failure::Pull)?;
        let parsed = Document::parse(&bytes).map_err(Failure::Unusable)?;
        digests.push(digest);
        match parsed.choose().map_err(Failure::Unusable)? {
            Some(next) => {
                check_digest(&next.digest).map_err(|error| Failure::Unusable(format!("its index: {error}")))?;
                place = next.digest.clone();
            }
            None => {
                document = Some(parsed);
                break;
            }
        }
    }
    let (Some(document), Some(id)) = (document, digests.pop()) else {
        return Err(Failure::Unusable(format!("its indexes lead to no manifest within {DEPTH_MAX} steps")));
    };
    let mut signed_by = None;
    if let Some(rule) = signatures.rule(name) {
        let chain: Vec<_> = digests.iter().chain([&id]).cloned().collect();
        signed_by = Some(signatures::verify(&session, &chain, rule).await.map_err(Failure::Pull)?);
    }
    if known(&id) {
        digests.push(id.clone());
        return Ok(Pulled::Known { id, digests, signed_by });
    }
    let failed = parking_lot::Mutex::new(None);
    let content = document.content(id, |layer| {
        let (session, failed) = (&session, &failed);
        async move {
            let blob = session.blob(&layer).await;
            blob.inspect_err(|error| *failed.lock() = Some(error.clone()))
        }
    });
    match (content.await, failed.into_inner()) {
        (Ok(mut content), _) => {
            content.digests.extend(digests);
            content.signed_by = signed_by;
            Ok(Pulled::New(Box::new(content)))
        }
        (Err(_), Some(failed)) => Err(Failure::Pull(failed)),
        (Err(reason), None) => Err(Failure::Unusable(reason)),
    }
}

/// `localhost[:PORT]`, `127.0.0.0/8` and `[::1]` are reached in plain text, as by other container tools.
fn loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
