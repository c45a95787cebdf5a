//! Pulls from an OCI registry (distribution specification), anonymous or with a user's name and password.
//!
//! Each pull has a client of its own, so that one pod's credentials never serve another's. Sizes are checked before and while
//! a blob arrives, digests after.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use oci_client::{
    Client,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use skiff_runtime::{Credentials, reference::Reference};
use tokio::io::AsyncWrite;

use crate::{
    artefact::{Descriptor, Document, MANIFEST_TYPES},
    config::{IMAGE_BYTES_MAX, RegistryConfig},
    images::Content,
    signatures::{self, SignaturePolicy},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte arriving.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
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
    New(Content),
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
    let host = config.mirrors.iter().find(|(host, _)| *host == name.host).map_or(&name.host, |(_, mirror)| mirror);
    if host == "localhost" && !config.plain_http.contains(host) {
        return Err(Failure::Pull("it is not on this node: load it with `skiff image load`".to_owned()));
    }
    let client = client(config, host).await.map_err(Failure::Pull)?;
    let auth = match credentials {
        Some(credentials) if !credentials.username.is_empty() => {
            RegistryAuth::Basic(credentials.username, credentials.password)
        }
        _ => RegistryAuth::Anonymous,
    };
    let at = |digest: Option<&str>| match (digest, &name.tag) {
        (Some(digest), _) => oci_client::Reference::with_digest(host.clone(), name.path.clone(), digest.to_owned()),
        (None, Some(tag)) => oci_client::Reference::with_tag(host.clone(), name.path.clone(), tag.clone()),
        // A parsed reference has a tag or a digest.
        (None, None) => oci_client::Reference::with_tag(host.clone(), name.path.clone(), "latest".to_owned()),
    };
    let mut image = at(name.digest.as_deref());
    let mut digests = Vec::new();
    let mut document = None;
    for _ in 0..DEPTH_MAX {
        let (bytes, digest) =
            client.pull_manifest_raw(&image, &auth, &MANIFEST_TYPES).await.map_err(|e| Failure::Pull(describe(&e)))?;
        let parsed = Document::parse(&bytes).map_err(Failure::Unusable)?;
        digests.push(digest);
        match parsed.choose().map_err(Failure::Unusable)? {
            Some(next) => image = at(Some(&next.digest)),
            None => {
                document = Some(parsed);
                break;
            }
        }
    }
    let (Some(document), Some(id)) = (document, digests.pop()) else {
        return Err(Failure::Unusable("its indexes lead to no manifest".to_owned()));
    };
    let mut signed_by = None;
    if let Some(rule) = signatures.rule(name) {
        let chain: Vec<_> = digests.iter().chain([&id]).cloned().collect();
        signed_by = Some(signatures::verify(&client, &auth, &image, &chain, rule).await.map_err(Failure::Pull)?);
    }
    if known(&id) {
        digests.push(id.clone());
        return Ok(Pulled::Known { id, digests, signed_by });
    }
    let failed = parking_lot::Mutex::new(None);
    let content = document.content(id, |layer| async {
        let blob = blob(&client, &image, layer).await;
        blob.inspect_err(|error| *failed.lock() = Some(error.clone()))
    });
    match (content.await, failed.into_inner()) {
        (Ok(mut content), _) => {
            content.digests.extend(digests);
            content.signed_by = signed_by;
            Ok(Pulled::New(content))
        }
        (Err(_), Some(failed)) => Err(Failure::Pull(failed)),
        (Err(reason), None) => Err(Failure::Unusable(reason)),
    }
}

pub async fn blob(client: &Client, image: &oci_client::Reference, layer: Descriptor) -> Result<Vec<u8>, String> {
    if layer.size > IMAGE_BYTES_MAX {
        return Err(format!("layer {} has {} bytes; the limit is {IMAGE_BYTES_MAX}", layer.digest, layer.size));
    }
    let mut bounded = Bounded(Vec::new());
    client
        .pull_blob(image, layer.digest.as_str(), &mut bounded)
        .await
        .map_err(|error| format!("layer {}: {}", layer.digest, describe(&error)))?;
    Ok(bounded.0)
}

async fn client(config: &RegistryConfig, host: &str) -> Result<Client, String> {
    let plain = config.plain_http.iter().any(|other| other == host) || loopback(host);
    let settings = ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        ..ClientConfig::default()
    };
    // The client takes the process's provider; the first to set one wins, and every part of this binary uses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Reads the CA certificates; the library panics where there are none.
    let made = tokio::task::spawn_blocking(move || Client::try_from(settings)).await;
    match made {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err("TLS cannot be set up: this machine has no CA certificates".to_owned()),
    }
}

/// `localhost[:PORT]`, `127.0.0.0/8` and `[::1]` are reached in plain text, as by other container tools.
fn loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// The error and what caused it, once each.
fn describe(error: &oci_client::errors::OciDistributionError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Takes no more than the limit, whatever the registry said the size was.
struct Bounded(Vec<u8>);

impl AsyncWrite for &mut Bounded {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if (self.0.len() + bytes.len()) as u64 > IMAGE_BYTES_MAX {
            let message = format!("more than the limit of {IMAGE_BYTES_MAX} bytes arrived");
            return Poll::Ready(Err(std::io::Error::other(message)));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
