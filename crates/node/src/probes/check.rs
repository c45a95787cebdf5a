//! One probe, once.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Checked, Subject};

/// As much of an answer as is looked at.
const ANSWER_BYTES_MAX: u64 = 10 * 1024;

pub(super) async fn check(subject: &Subject, limit: Duration) -> Checked {
    let checked = timeout(limit, by_kind(subject, limit)).await;
    match checked {
        Ok(Ok(())) => Checked::Healthy,
        Ok(Err(why)) => Checked::Unhealthy(why),
        Err(_) => Checked::Unhealthy(format!("timed out after {}s", limit.as_secs())),
    }
}

async fn by_kind(subject: &Subject, limit: Duration) -> Result<(), String> {
    let probe = &subject.probe;
    if let Some(exec) = &probe.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let runtime = subject.ctx.agent.runtime(subject.ctx.runtime_of(&subject.id));
        let output = runtime.exec_sync(&subject.id, command, limit).await.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return if output.code == 0 { Ok(()) } else { Err(text) };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let (host, port) = target(subject, tcp.host.as_deref(), &tcp.port)?;
        return connect(&host, port).await.map(drop);
    }
    if let Some(http) = &probe.http_get {
        return get(subject, http).await;
    }
    Err("grpc probes are not supported yet".to_owned())
}

fn target(subject: &Subject, host: Option<&str>, port: &IntOrString) -> Result<(String, u16), String> {
    let host = host.filter(|h| !h.is_empty()).map(str::to_owned).or_else(|| subject.ip.clone());
    let host = host.ok_or("the pod has no address on this node")?;
    Ok((host, number(&subject.container, port)?))
}

/// A number, or the name of one of the container's ports.
fn number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|e| format!("dial tcp {host}:{port}: {e}"))
}

/// Any answer from 200 to 399 is a healthy one.
async fn get(subject: &Subject, http: &HTTPGetAction) -> Result<(), String> {
    if http.scheme.as_deref() == Some("HTTPS") {
        return Err("httpGet probes with scheme HTTPS are not supported yet".to_owned());
    }
    let (host, port) = target(subject, http.host.as_deref(), &http.port)?;
    let path = http.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = format!("GET {slash}{path} HTTP/1.1\r\nUser-Agent: kube-probe/1.37\r\nConnection: close\r\n");
    let named = |name: &str| http.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    if !named("host") {
        request += &format!("Host: {host}:{port}\r\n");
    }
    if !named("accept") {
        request += "Accept: */*\r\n";
    }
    for header in http.http_headers.iter().flatten() {
        request += &format!("{}: {}\r\n", header.name, header.value);
    }
    request += "\r\n";
    let url = format!("http://{host}:{port}{slash}{path}");
    let mut stream = connect(&host, port).await.map_err(|e| format!("Get \"{url}\": {e}"))?;
    let failed = |e: std::io::Error| format!("Get \"{url}\": {e}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = vec![];
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(failed)?;
    match status(&answer) {
        Some(200..400) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err(format!("Get \"{url}\": malformed HTTP response")),
    }
}

/// `HTTP/1.1 200 OK`
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|b| *b == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}
