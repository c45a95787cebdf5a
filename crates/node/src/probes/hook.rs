//! httpGet of a lifecycle hook: it succeeds when the server answers, whatever it answers.

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use skiff_runtime::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::execute::PodContext;

/// As much of an answer as is read.
const ANSWER_BYTES_MAX: u64 = 10 * 1024;

pub async fn hook(ctx: &PodContext, container: &Container, id: &str, get: &HTTPGetAction) -> Result<(), String> {
    if get.scheme.as_deref() == Some("HTTPS") {
        return Err("httpGet hooks with scheme HTTPS are not supported yet".to_owned());
    }
    let named = |name: &str| container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
    let port = match &get.port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => named(name).map(|p| p.container_port).or_else(|| name.parse().ok()),
    };
    let port =
        port.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| format!("couldn't find port: {:?}", get.port))?;
    let host = get.host.as_deref().filter(|host| !host.is_empty());
    let mut stream: Box<dyn Connection> = match host {
        Some(host) => {
            let connected = TcpStream::connect((host, port)).await;
            Box::new(connected.map_err(|error| format!("dial tcp {host}:{port}: {error}"))?)
        }
        None => {
            let index = ctx.runtime_of(id);
            let sandbox = ctx.sandbox_id(index).ok_or("the pod has no sandbox")?;
            ctx.agent.runtime(index).dial(&sandbox, port).await.map_err(|error| error.to_string())?
        }
    };
    let path = get.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = host.unwrap_or("localhost");
    let mut request = format!("GET {slash}{path} HTTP/1.1\r\nUser-Agent: kube-lifecycle/1.37\r\nConnection: close\r\n");
    if !get.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {host}:{port}\r\n");
    }
    for header in get.http_headers.iter().flatten() {
        request += &format!("{}: {}\r\n", header.name, header.value);
    }
    request += "\r\n";
    let failed = |error: std::io::Error| format!("Get of port {port}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = vec![];
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(failed)?;
    if answer.starts_with(b"HTTP/1.") { Ok(()) } else { Err(format!("Get of port {port}: malformed HTTP response")) }
}
