//! One probe, once: what it asks for, and within which time.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::util::intstr::IntOrString};
use tokio::time::timeout;

use super::{Checked, Subject, dial::Target, grpc, http};
use crate::{execute::PodContext, hooks::FOR_EVER};

/// As much of what a command says as is told.
const ANSWER_BYTES_MAX: usize = 10 * 1024;

pub(super) async fn check(subject: &Subject, limit: Duration) -> Checked {
    match by_kind(subject, limit).await {
        Ok(()) => Checked::Healthy,
        Err(why) => Checked::Unhealthy(why),
    }
}

async fn by_kind(subject: &Subject, limit: Duration) -> Result<(), String> {
    let probe = &subject.probe;
    if let Some(exec) = &probe.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let runtime = subject.ctx.agent.runtime(subject.ctx.runtime_of(&subject.id));
        let late = || format!("command timed out: {:?} timed out after {}s", command.join(" "), limit.as_secs());
        let output = timeout(limit, runtime.exec_sync(&subject.id, command, FOR_EVER)).await.map_err(|_| late())?;
        let output = output.map_err(|e| e.to_string())?;
        if output.code == 0 {
            return Ok(());
        }
        let mut said = [output.stdout, output.stderr].concat();
        said.truncate(ANSWER_BYTES_MAX);
        return Err(String::from_utf8_lossy(&said).into_owned());
    }
    if let Some(tcp) = &probe.tcp_socket {
        let target = of_probe(subject, tcp.host.as_deref(), &tcp.port)?;
        let connected = timeout(limit, target.dial()).await;
        return connected.unwrap_or_else(|_| Err(format!("dial tcp {target}: i/o timeout"))).map(drop);
    }
    if let Some(get) = &probe.http_get {
        let target = of_probe(subject, get.host.as_deref(), &get.port)?;
        return http::get(target, get, limit).await;
    }
    if let Some(grpc) = &probe.grpc {
        let target = of_probe(subject, None, &IntOrString::Int(grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return grpc::check(&target, service, limit).await;
    }
    Err("missing probe handler".to_owned())
}

fn of_probe(subject: &Subject, host: Option<&str>, port: &IntOrString) -> Result<Target, String> {
    target(&subject.ctx, &subject.container, &subject.id, subject.ip.clone(), host, port)
}

/// Where a probe or a hook goes: a host that it names, or the pod.
pub(super) fn target(
    ctx: &PodContext,
    container: &Container,
    id: &str,
    ip: Option<String>,
    host: Option<&str>,
    port: &IntOrString,
) -> Result<Target, String> {
    let port = number(container, port)?;
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return Ok(Target::Host { host: host.to_owned(), port });
    }
    let host = ip.ok_or("the pod has no address on this node")?;
    let index = ctx.runtime_of(id);
    let runtime = ctx.agent.runtime(index).clone();
    Ok(match ctx.sandbox_id(index) {
        Some(sandbox) => Target::Pod { runtime, sandbox, host, port },
        None => Target::Host { host, port },
    })
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
