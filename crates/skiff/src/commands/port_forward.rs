//! `skiff port-forward`: ports of this machine that lead to a pod's.

use std::{net::IpAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures::future::select_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    global::Global,
    output::say_line,
    pods,
    server::finish,
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// A pod, or what pods belong to, as in `deploy/web` or `svc/web`
    #[arg(value_name = "POD|TYPE/NAME")]
    target: String,

    /// Ports: the same on both sides (`8080`), another one here (`8888:80`), or any free one here (`:80`)
    #[arg(value_name = "[LOCAL:]REMOTE", required = true)]
    ports: Vec<String>,

    #[command(flatten)]
    namespace: Namespace,

    /// Addresses to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
}

/// Connections at once, over all ports; further ones wait.
const CONNECTIONS_MAX: usize = 1024;
/// A connection whose client has stopped sending ends when the pod is silent for this long: the protocol cannot tell the pod.
const HALF_CLOSED: Duration = Duration::from_secs(30);

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(forward(args, global).await)
}

async fn forward(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let found = pods::find(&session, &args.target).await?;
    let pod = &found.pods[0];
    if pod["status"]["phase"] != "Running" {
        bail!("unable to forward port because pod is not running. Current status={}", pod["status"]["phase"]);
    }
    let of_service = (found.resource.kind == "Service").then_some(&found.object);
    let (api, name): (_, Arc<str>) = (pods::api(&session, pod), pods::name(pod).into());
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut listening = Vec::new();
    for text in &args.ports {
        let (mut local, remote) = ports(text, of_service, pod)?;
        for address in addresses(&args.address)? {
            let listener = match TcpListener::bind((address, local)).await {
                Ok(listener) => listener,
                // As kubectl: one of the two names of this machine is enough.
                Err(_) if address.is_ipv6() && args.address == ["localhost"] => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("unable to listen on {address} port {local}"));
                }
            };
            let address = listener.local_addr()?;
            local = address.port();
            say_line(&format!("Forwarding from {address} -> {remote}"));
            let forward = Forward { api: api.clone(), pod: name.clone(), local, remote };
            listening.push(Box::pin(accept(listener, forward, connections.clone())));
        }
    }
    select_all(listening).await.0
}

fn addresses(names: &[String]) -> Result<Vec<IpAddr>> {
    let mut out = Vec::new();
    for name in names {
        match name.as_str() {
            "localhost" => out.extend([IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])]),
            name => out.push(name.parse().with_context(|| format!("--address {name:?} is not an IP address"))?),
        }
    }
    Ok(out)
}

/// The port here (0: any) and the one of the pod; of a service, what its port leads to.
fn ports(text: &str, service: Option<&Value>, pod: &Value) -> Result<(u16, u16)> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let wanted = match service {
        None => remote.to_owned(),
        Some(service) => {
            let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
            let number = remote.parse::<u64>().ok();
            let of = |p: &&Value| p["name"] == remote || (number.is_some() && p["port"].as_u64() == number);
            let port = ports.iter().find(of).with_context(|| format!("the service has no port {remote}"))?;
            match &port["targetPort"] {
                Value::String(name) => name.clone(),
                Value::Null => port["port"].to_string(),
                number => number.to_string(),
            }
        }
    };
    let named = || {
        let containers = pod["spec"]["containers"].as_array()?;
        let mut ports = containers.iter().filter_map(|c| c["ports"].as_array()).flatten();
        u16::try_from(ports.find(|p| p["name"] == *wanted)?["containerPort"].as_u64()?).ok()
    };
    let remote = wanted.parse().ok().filter(|port| *port > 0).or_else(named);
    let remote = remote.with_context(|| format!("{text:?}: {wanted:?} is neither a port nor the name of one"))?;
    let local = match local {
        "" => 0,
        local if !text.contains(':') => local.parse().unwrap_or(remote),
        local => local.parse().with_context(|| format!("{text:?}: {local:?} is not a port"))?,
    };
    Ok((local, remote))
}

#[derive(Clone)]
struct Forward {
    api: Api<Pod>,
    pod: Arc<str>,
    local: u16,
    remote: u16,
}

/// Until accepting fails.
async fn accept(listener: TcpListener, forward: Forward, connections: Arc<Semaphore>) -> Result<ExitCode> {
    loop {
        let permit = connections.clone().acquire_owned().await?;
        let (stream, _) = listener.accept().await.context("failed to accept a connection")?;
        say_line(&format!("Handling connection for {}", forward.local));
        let forward = forward.clone();
        tokio::spawn(async move {
            if let Err(error) = forward.connection(stream).await {
                let (local, remote) = (forward.local, forward.remote);
                eprintln!("error: an error occurred forwarding {local} -> {remote}: {error:#}");
            }
            drop(permit);
        });
    }
}

impl Forward {
    async fn connection(&self, local: TcpStream) -> Result<()> {
        let mut forwarder = self.api.portforward(&self.pod, &[self.remote]).await?;
        let refused = forwarder.take_error(self.remote).context("no error channel")?;
        let remote = forwarder.take_stream(self.remote).context("no data channel")?;
        let (mut from_local, mut to_local) = local.into_split();
        let (mut from_remote, mut to_remote) = tokio::io::split(remote);
        let sending = async {
            let _ = tokio::io::copy(&mut from_local, &mut to_remote).await;
        };
        tokio::pin!(sending);
        let mut sends = true;
        let mut chunk = vec![0; 16 << 10];
        loop {
            tokio::select! {
                () = &mut sending, if sends => sends = false,
                read = from_remote.read(&mut chunk) => match read {
                    Ok(count @ 1..) => to_local.write_all(&chunk[..count]).await?,
                    _ => break,
                },
                () = tokio::time::sleep(HALF_CLOSED), if !sends => break,
            }
        }
        let _ = to_local.shutdown().await;
        // Said before the connection was closed, if at all.
        if let Ok(Some(message)) = timeout(Duration::from_millis(100), refused).await {
            bail!(message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_written_in_three_ways_and_may_have_names() {
        let pod = json!({ "spec": { "containers": [{ "ports": [{ "name": "web", "containerPort": 8080 }] }] } });
        let service =
            json!({ "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": "web" }, { "port": 81 }] } });
        for (text, service, expected) in [
            ("5000", None, Some((5000, 5000))),
            ("8888:5000", None, Some((8888, 5000))),
            (":5000", None, Some((0, 5000))),
            ("web", None, Some((8080, 8080))),
            (":80", Some(&service), Some((0, 8080))),
            ("9000:http", Some(&service), Some((9000, 8080))),
            (":81", Some(&service), Some((0, 81))),
            (":82", Some(&service), None),
            (":nothing", None, None),
            ("x:80", None, None),
        ] {
            assert_eq!(ports(text, service, &pod).ok(), expected, "{text}");
        }
    }
}
