//! Requests to one registry (OCI distribution specification): who asks, what comes back, and no more than was asked for.
//!
//! What must stay true: nothing that a registry sends is read beyond the limit of its kind, and nothing is waited for without
//! end (see [`super::TIME_MAX`]); what is asked for by digest has that digest; a password goes to the registry and to whom it
//! names as its issuer of tokens, and over TLS where the registry has it; every error names what was asked for.

use std::{error::Error as _, time::Duration};

use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE},
    redirect::Policy,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use skiff_runtime::Credentials;
use tokio::sync::Mutex;

use super::challenge::Challenge;
use crate::{artefact::Descriptor, compile::hex, config::IMAGE_BYTES_MAX};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte arriving.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one request.
const REDIRECTS_MAX: usize = 5;
/// The largest manifest, index or list of referrers: what registries have to take.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Of an answer that says what is wrong.
const REASON_BYTES_MAX: u64 = 4 << 10;

/// One repository of a registry, and who asks.
pub struct Session {
    http: reqwest::Client,
    /// `https://HOST/v2/PATH`.
    base: String,
    path: String,
    user: Option<Credentials>,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
enum Token {
    Bearer(String),
    /// The user's name and password.
    Basic,
}

#[derive(Deserialize)]
struct Issued {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry answers, and the digest that it claims.
struct Answer {
    bytes: Vec<u8>,
    digest: Option<String>,
}

impl Session {
    /// # Errors
    /// When this machine cannot speak TLS.
    pub async fn new(plain: bool, host: &str, path: &str, user: Option<Credentials>) -> Result<Self, String> {
        // The client takes the process's provider; the first to set one wins, and every part of this binary uses ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .https_only(!plain)
            .redirect(Policy::limited(REDIRECTS_MAX));
        // Reads the CA certificates; the library panics where there are none.
        let http = match tokio::task::spawn_blocking(move || builder.build()).await {
            Ok(http) => http.map_err(|error| describe(&error))?,
            Err(_) => return Err("TLS cannot be set up: this machine has no CA certificates".to_owned()),
        };
        let scheme = if plain { "http" } else { "https" };
        let user = user.filter(|user| !user.username.is_empty());
        let (base, path) = (format!("{scheme}://{host}/v2/{path}"), path.to_owned());
        Ok(Self { http, base, path, user, token: Mutex::default() })
    }

    /// A manifest or index by tag or digest, and its digest.
    ///
    /// # Errors
    /// Names what was asked for.
    pub async fn manifest(&self, name: &str, accepted: &[&str]) -> Result<(Vec<u8>, String), String> {
        let what = format!("manifest {name}");
        let answer = self.get("manifests", name, &accepted.join(", "), MANIFEST_BYTES_MAX).await;
        let answer = answer.map_err(|error| format!("{what}: {error}"))?;
        let digest = digest(&answer.bytes);
        // What the registry calls it by another algorithm is not asked for.
        let claimed = answer.digest.as_deref().filter(|claimed| claimed.starts_with("sha256:"));
        let wanted = if name.contains(':') { Some(name) } else { claimed };
        match wanted {
            Some(wanted) if wanted != digest => {
                Err(format!("{what}: what the registry sent has the digest {digest}, not {wanted}"))
            }
            _ => Ok((answer.bytes, digest)),
        }
    }

    /// # Errors
    /// Names the layer.
    pub async fn blob(&self, layer: &Descriptor) -> Result<Vec<u8>, String> {
        let what = format!("layer {}", layer.digest);
        if layer.size > IMAGE_BYTES_MAX {
            return Err(format!("{what} has {} bytes; the limit is {IMAGE_BYTES_MAX}", layer.size));
        }
        check_digest(&layer.digest).map_err(|error| format!("{what}: {error}"))?;
        // A manifest that says nothing of the size has a limit still.
        let max = if layer.size == 0 { IMAGE_BYTES_MAX } else { layer.size };
        let answer = self.get("blobs", &layer.digest, "*/*", max).await;
        let bytes = answer.map_err(|error| format!("{what}: {error}"))?.bytes;
        if layer.size != 0 && bytes.len() as u64 != layer.size {
            return Err(format!("{what}: {} bytes arrived where the manifest says {}", bytes.len(), layer.size));
        }
        let found = digest(&bytes);
        if found != layer.digest {
            return Err(format!("{what}: what the registry sent has the digest {found}"));
        }
        Ok(bytes)
    }

    /// The index of what refers to a manifest: the registry's, or, where it has none, the one at the tag that stands for it.
    ///
    /// # Errors
    /// Names the manifest.
    pub async fn referrers(&self, of: &str) -> Result<Vec<u8>, String> {
        const INDEX: &str = "application/vnd.oci.image.index.v1+json";
        if let Ok(answer) = self.get("referrers", of, INDEX, MANIFEST_BYTES_MAX).await {
            return Ok(answer.bytes);
        }
        self.manifest(&of.replacen(':', "-", 1), &[INDEX]).await.map(|(bytes, _)| bytes)
    }

    /// Asks, and once more with what the registry wants to know of who asks.
    async fn get(&self, kind: &str, name: &str, accepted: &str, max: u64) -> Result<Answer, String> {
        let url = format!("{}/{kind}/{name}", self.base);
        let ask = || async {
            let request = self.http.get(&url).header(ACCEPT, accepted);
            let token = self.token.lock().await.clone();
            self.authorized(request, token.as_ref()).send().await.map_err(|error| describe(&error))
        };
        let mut response = ask().await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authorize(response.headers()).await?;
            response = ask().await?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err("not authorized: the registry refuses who asks".to_owned()),
            status => return Err(refused(status, &read(response, REASON_BYTES_MAX).await.unwrap_or_default())),
        }
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let digest = digest.map(str::to_owned);
        Ok(Answer { bytes: read(response, max).await?, digest })
    }

    fn authorized(&self, request: RequestBuilder, token: Option<&Token>) -> RequestBuilder {
        match (token, &self.user) {
            (Some(Token::Bearer(token)), _) => request.bearer_auth(token),
            (Some(Token::Basic), Some(user)) => request.basic_auth(&user.username, Some(&user.password)),
            _ => request,
        }
    }

    /// Gets what the registry's challenge asks for.
    async fn authorize(&self, headers: &HeaderMap) -> Result<(), String> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = challenges.filter_map(Challenge::parse).collect();
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        let token = match bearer {
            Some(challenge) => Token::Bearer(self.issued(challenge).await?),
            None if self.user.is_some() && challenges.iter().any(|challenge| challenge.is("basic")) => Token::Basic,
            None => return Err("not authorized: it needs a user and a password (imagePullSecrets)".to_owned()),
        };
        *self.token.lock().await = Some(token);
        Ok(())
    }

    async fn issued(&self, challenge: &Challenge) -> Result<String, String> {
        let failed = |error: String| format!("no token from {:?}: {error}", challenge.get("realm").unwrap_or_default());
        let realm = challenge.get("realm").ok_or_else(|| failed("the registry names no realm".to_owned()))?;
        let scope = format!("repository:{}:pull", self.path);
        let mut query = vec![("scope", scope.as_str())];
        query.extend(challenge.get("service").map(|service| ("service", service)));
        let request = self.http.get(realm).query(&query);
        let request = self.authorized(request, Some(&Token::Basic));
        let response = request.send().await.map_err(|error| failed(describe(&error)))?;
        let status = response.status();
        let max = if status == StatusCode::OK { TOKEN_BYTES_MAX } else { REASON_BYTES_MAX };
        let bytes = read(response, max).await;
        if status != StatusCode::OK {
            return Err(failed(refused(status, &bytes.unwrap_or_default())));
        }
        let issued: Issued = serde_json::from_slice(&bytes.map_err(failed)?)
            .map_err(|error| failed(format!("the answer cannot be read: {error}")))?;
        issued.token.or(issued.access_token).ok_or_else(|| failed("the answer has no token".to_owned()))
    }
}

/// The body, if it is no larger than that.
async fn read(mut response: Response, max: u64) -> Result<Vec<u8>, String> {
    let over = || format!("more than {max} bytes arrive, which is the limit");
    if response.content_length().is_some_and(|length| length > max) {
        return Err(over());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(over());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a registry says of its refusal, shortened.
fn refused(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let said = match serde_json::from_slice::<Body>(body) {
        Ok(Body { errors }) => {
            errors.into_iter().map(|e| format!("{} {}", e.code, e.message)).collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    let said = said.trim();
    if said.is_empty() {
        format!("the registry answers {status}")
    } else {
        format!("the registry answers {status}: {said}")
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// # Errors
/// When nothing can have that digest here, or it is no digest at all.
pub fn check_digest(digest: &str) -> Result<(), String> {
    let digits = digest.strip_prefix("sha256:").unwrap_or_default();
    let hexadecimal = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() == 64 && hexadecimal { Ok(()) } else { Err(format!("{digest:?} is not a digest by SHA-256")) }
}

/// The error and what caused it, once each.
fn describe(error: &reqwest::Error) -> String {
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
