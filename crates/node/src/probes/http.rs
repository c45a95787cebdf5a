//! httpGet of probes and hooks: to a probe any answer from 200 to 399 is a healthy one, to a hook any answer will do.
//!
//! HTTPS certificates are not verified. Redirects within the host are followed, others end there and count as healthy;
//! of the answer's body as much is read as anybody may want to know.

use std::{future::Future, pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;

use super::dial::Target;
use crate::tls::encrypted;

/// As much of an answer as is read.
const ANSWER_BYTES_MAX: usize = 10 * 1024;
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// One place to ask.
struct Ask {
    target: Target,
    https: bool,
    /// With its query, and a slash in front.
    path: String,
    /// Who asks.
    agent: &'static str,
}

impl Ask {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.target, self.path)
    }
}

pub(super) async fn get(target: Target, get: &HTTPGetAction, limit: Duration) -> Result<(), String> {
    match ask(target, get, "kube-probe/1.37", limit).await? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// The status of the answer, after redirects within the host.
pub(super) async fn ask(
    target: Target,
    get: &HTTPGetAction,
    agent: &'static str,
    limit: Duration,
) -> Result<u16, String> {
    let path = get.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let https = get.scheme.as_deref() == Some("HTTPS");
    let mut ask = Ask { target, https, path: format!("{slash}{path}"), agent };
    // The whole of it, redirects and all.
    let deadline = tokio::time::Instant::now() + limit;
    for _ in 0..=REDIRECTS_MAX {
        let failed = |why: &str| format!("Get \"{}\": {why}", ask.url());
        let answer = tokio::time::timeout_at(deadline, once(&ask, get)).await;
        let late = || failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
        let answer = answer.map_err(|_| late())?.map_err(|why| failed(&why))?;
        let code = answer.status().as_u16();
        match code {
            300..400 => match redirect(&ask, &answer) {
                Some(next) => ask = next,
                None => return Ok(code),
            },
            code => return Ok(code),
        }
    }
    Err(format!("Get \"{}\": stopped after {REDIRECTS_MAX} redirects", ask.url()))
}

/// Where an answer leads, if that is on the same host.
fn redirect(ask: &Ask, answer: &Response<()>) -> Option<Ask> {
    let location: Uri = answer.headers().get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let path = location.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let Some(host) = location.host() else {
        return Some(Ask { target: ask.target.clone(), path, ..*ask });
    };
    if host.trim_matches(['[', ']']) != ask.target.host() {
        return None;
    }
    let https = location.scheme_str() == Some("https");
    let port = location.port_u16().unwrap_or(if https { 443 } else { 80 });
    Some(Ask { target: ask.target.with_port(port), https, path, agent: ask.agent })
}

async fn once(ask: &Ask, get: &HTTPGetAction) -> Result<Response<()>, String> {
    let connection = ask.target.dial().await?;
    let connection = if ask.https { encrypted(connection, ask.target.host()).await? } else { connection };
    let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(connection)).await;
    let (mut sender, driver) = handshake.map_err(|e| e.to_string())?;
    let request = request(ask, get)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(|e| reason(&e))?.into_parts();
        read(body).await;
        Ok(Response::from_parts(head, ()))
    };
    alongside(exchange, driver).await
}

/// What is too long is not an error.
async fn read(body: Incoming) {
    let _ = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
}

/// Runs a request while its connection is driven.
async fn alongside<T>(request: impl Future<Output = T>, driver: impl Future) -> T {
    let (mut request, mut driver) = (pin!(request), pin!(driver));
    tokio::select! {
        biased;
        answer = &mut request => answer,
        _ = &mut driver => request.await,
    }
}

fn reason(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
    }
    error.to_string()
}

fn request(ask: &Ask, get: &HTTPGetAction) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = ask.path.parse().map_err(|e| format!("invalid path: {e}"))?;
    let headers = request.headers_mut();
    for header in get.http_headers.iter().flatten() {
        let name: HeaderName = header.name.parse().map_err(|_| format!("invalid header name {:?}", header.name))?;
        let value = HeaderValue::from_str(&header.value);
        let value = value.map_err(|_| format!("invalid value of header {:?}", header.name))?;
        // The first host counts; of others there may be several.
        if name != header::HOST || !headers.contains_key(header::HOST) {
            headers.append(name, value);
        }
    }
    let mut default = |name: HeaderName, value: &str| {
        if !headers.contains_key(&name)
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    };
    default(header::HOST, &ask.target.to_string());
    default(header::USER_AGENT, ask.agent);
    default(header::ACCEPT, "*/*");
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if headers.get(header::ACCEPT).is_some_and(HeaderValue::is_empty) {
        headers.remove(header::ACCEPT);
    }
    Ok(request)
}
