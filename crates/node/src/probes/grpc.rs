//! grpc probes: `grpc.health.v1.Health/Check` over HTTP/2 without TLS.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::dial::Target;

/// As much of an answer as is read: it has a few bytes.
const ANSWER_BYTES_MAX: usize = 4096;
const UNIMPLEMENTED: u32 = 12;
/// The names of gRPC's status codes.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const SERVING: u64 = 1;

pub(super) async fn check(target: &Target, service: &str, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let late = || {
        format!(
            "timeout: failed to connect service \"{target}\" within {}s: context deadline exceeded",
            limit.as_secs()
        )
    };
    let connection = timeout_at(deadline, target.dial()).await.map_err(|_| late())?;
    let failed = |why: String| format!("error: failed to connect service at \"{target}\": {why}");
    let connection = connection.map_err(failed)?;
    let handshake = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(connection));
    let handshake = timeout_at(deadline, handshake).await.map_err(|_| late())?;
    let (mut sender, driver) = handshake.map_err(|e| failed(e.to_string()))?;
    let request = request(target, service)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string());
        Ok::<_, hyper::Error>((head, body))
    };
    // It ends with this set.
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    let answer = timeout_at(deadline, exchange).await;
    let answer = answer.map_err(|_| format!("timeout: health rpc did not complete within {}s", limit.as_secs()))?;
    let broken = |why: String| format!("error: health rpc probe failed: rpc error: code = Unavailable desc = {why}");
    let (head, body) = answer.map_err(|e| broken(e.to_string()))?;
    let body = body.map_err(broken)?;
    if head.status != http::StatusCode::OK {
        return Err(broken(format!("unexpected HTTP status code received from server: {}", head.status)));
    }
    let trailers = body.trailers().cloned();
    verdict(&head.headers, trailers.as_ref(), &body.to_bytes())
}

fn request(target: &Target, service: &str) -> Result<Request<Full<Bytes>>, String> {
    let message = message(service);
    let length = u32::try_from(message.len()).map_err(|_| "the service's name is too long".to_owned())?;
    let mut body = vec![0];
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&message);
    Request::post(format!("http://{target}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(body.into()))
        .map_err(|e| e.to_string())
}

/// `HealthCheckRequest { service }`: field 1, a string.
fn message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if service.is_empty() {
        return message;
    }
    message.push(0x0a);
    let mut length = service.len();
    while length >= 0x80 {
        message.push(0x80 | u8::try_from(length & 0x7f).unwrap_or_default());
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or_default());
    message.extend_from_slice(service.as_bytes());
    message
}

/// What an answer says; an error's status comes in the headers when there is no message.
fn verdict(headers: &HeaderMap, trailers: Option<&HeaderMap>, body: &[u8]) -> Result<(), String> {
    let text = |name: &str| {
        let value = trailers.and_then(|trailers| trailers.get(name)).or_else(|| headers.get(name))?;
        Some(percent_decoded(value.as_bytes()))
    };
    let code = text("grpc-status").and_then(|code| code.parse::<u32>().ok());
    let description = text("grpc-message").unwrap_or_default();
    match code {
        Some(0) => {}
        Some(UNIMPLEMENTED) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {description}"
            ));
        }
        code => {
            let index = code.and_then(|code| usize::try_from(code).ok()).unwrap_or(2);
            let name = CODES.get(index).unwrap_or(&"Unknown");
            return Err(format!("error: health rpc probe failed: rpc error: code = {name} desc = {description}"));
        }
    }
    match status(body.get(5..).unwrap_or_default()) {
        SERVING => Ok(()),
        status => {
            let name = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Err(format!("service unhealthy (responded with \"{name}\")"))
        }
    }
}

/// `HealthCheckResponse { status }`: field 1, a number; 0 when it is not there.
fn status(message: &[u8]) -> u64 {
    let [0x08, rest @ ..] = message else { return 0 };
    let mut value = 0;
    for (index, byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn percent_decoded(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_grpc_says() {
        let map = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect()
        };
        let ok: HeaderMap = map(&[("grpc-status", "0")]);
        let none = HeaderMap::new();
        type Row<'a> = (&'a str, HeaderMap, Option<&'a HeaderMap>, &'a [u8], Result<(), &'a str>);
        let rows: [Row<'_>; 6] = [
            ("serving", none.clone(), Some(&ok), &[0, 0, 0, 0, 2, 8, 1], Ok(())),
            (
                "not serving",
                none.clone(),
                Some(&ok),
                &[0, 0, 0, 0, 2, 8, 2],
                Err("service unhealthy (responded with \"NOT_SERVING\")"),
            ),
            (
                "an empty message is status 0",
                none.clone(),
                Some(&ok),
                &[0, 0, 0, 0, 0],
                Err("service unhealthy (responded with \"UNKNOWN\")"),
            ),
            (
                "an error comes in the headers",
                map(&[("grpc-status", "5"), ("grpc-message", "unknown%20service")]),
                None,
                &[],
                Err("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
            ),
            (
                "a server of something else",
                map(&[("grpc-status", "12"), ("grpc-message", "no")]),
                None,
                &[],
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no"),
            ),
            (
                "no status at all",
                none,
                None,
                &[],
                Err("error: health rpc probe failed: rpc error: code = Unknown desc = "),
            ),
        ];
        for (sentence, headers, trailers, body, expected) in rows {
            assert_eq!(verdict(&headers, trailers, body), expected.map_err(str::to_owned), "{sentence}");
        }
        assert_eq!(message(&"x".repeat(200))[..3], [0x0a, 0xc8, 0x01]);
    }
}
