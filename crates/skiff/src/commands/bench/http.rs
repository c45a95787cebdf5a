//! Requests per second of an HTTP handler through its pod's address: a fresh instance for each, and one instance for many;
//! beside `wasmtime serve`, where it is there, with the same handler and the same load, in turn.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::process::{Child, Command};

use super::{Bench, load, report::Report};
use crate::images::{self, Artefact};

const HANDLER: &[u8] = include_bytes!("../../../../../wasm-examples/rust/http-hello.wasm");
const PORT: u16 = 8080;
/// Of each server, in turn; the median counts.
const ROUNDS: usize = 5;
/// Before the first round.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a process of another program may take until it answers: it compiles first.
const START_MAX: Duration = Duration::from_secs(60);

/// One of those that are compared.
struct Contender {
    name: &'static str,
    address: SocketAddr,
    rates: Vec<f64>,
}

pub async fn measure(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    bench.progress.say("starting the HTTP servers");
    let nodes = images::nodes(&bench.client).await.context("the cluster takes no modules")?;
    let reference = "localhost/skiff-bench-http:latest";
    let artefact = Artefact { bytes: Bytes::from_static(HANDLER), format: "module" };
    images::load(&bench.client, &nodes, reference, &artefact).await?;
    let mut contenders = Vec::new();
    for (name, pod, reuse) in
        [("fresh instance per request", "http-fresh", "1"), ("instance reused", "http-reuse", "1000000")]
    {
        let address = serve(bench, pod, reference, reuse).await?;
        contenders.push(Contender { name, address, rates: Vec::new() });
    }
    let other = Other::start(bench.args.wasmtime.clone()).await?;
    if let Some(other) = &other {
        contenders.push(Contender { name: "wasmtime serve", address: other.address, rates: Vec::new() });
    }
    let connections = bench.args.connections;
    for contender in &contenders {
        load::run(contender.address, connections, WARM_UP).await.context(contender.name)?;
    }
    for round in 1..=ROUNDS {
        for contender in &mut contenders {
            bench.progress.say(format!("HTTP, {}, round {round} of {ROUNDS}", contender.name));
            let time = Duration::from_secs_f64(bench.args.http_seconds);
            let done = load::run(contender.address, connections, time).await.context(contender.name)?;
            contender.rates.push(done.requests as f64 / done.elapsed.as_secs_f64());
        }
    }
    for contender in &mut contenders {
        let name = format!("HTTP, {connections} connections, {}", contender.name);
        report.one(name, median(&mut contender.rates), "requests/s");
    }
    if let [fresh, _, other] = &mut contenders[..] {
        let ratio = median(&mut fresh.rates) / median(&mut other.rates);
        report.one("HTTP, fresh instance, compared with wasmtime serve", ratio, "times as many");
    }
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// A pod of the handler, once it answers; where it does.
async fn serve(bench: &Bench<'_>, name: &str, image: &str, reuse: &str) -> Result<SocketAddr> {
    let pods = Api::<Pod>::namespaced(bench.client.clone(), &bench.namespace);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": { "skiff.dev/http-reuse": reuse } },
        "spec": {
            "runtimeClassName": bench.args.runtime_class.as_deref().unwrap_or("wasm"),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "ports": [{ "containerPort": PORT }],
            }],
        },
    }))?;
    pods.create(&PostParams::default(), &pod).await.with_context(|| format!("failed to create pod {name}"))?;
    let deadline = Instant::now() + bench.args.timeout;
    loop {
        let status = pods.get(name).await?.status.unwrap_or_default();
        let ip = status.pod_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        if let (Some(ip), Some("Running")) = (ip, status.phase.as_deref()) {
            let address = SocketAddr::new(ip, PORT);
            return await_answer(address, deadline).await.with_context(|| {
                format!("the pod's address {ip} is not reachable from here: measure on the node itself")
            });
        }
        ensure!(Instant::now() < deadline, "pod {name} did not run in time: see `kubectl describe pod`");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn await_answer(address: SocketAddr, deadline: Instant) -> Result<SocketAddr> {
    loop {
        match load::once(address).await {
            Ok(()) => return Ok(address),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// `wasmtime serve` with the same handler, as it comes.
struct Other {
    address: SocketAddr,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Other {
    async fn start(named: Option<PathBuf>) -> Result<Option<Self>> {
        let found = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|dir| dir.join("wasmtime")).find(|file| file.is_file())
        };
        let Some(program) = named.or_else(found) else { return Ok(None) };
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let file = directory.path().join("handler.wasm");
        std::fs::write(&file, HANDLER)?;
        // Free now; whoever takes it in between makes the measurement fail, not lie.
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(&program);
        // What the standard library of Rust imports is not in the world that it serves by itself.
        command.args(["serve", "-S", "cli"]).arg("--addr").arg(free.to_string()).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("failed to run {}", program.display()))?;
        let answered = await_answer(free, Instant::now() + START_MAX).await;
        if let Some(status) = child.try_wait()? {
            bail!("{} serve ended: {status}", program.display());
        }
        Ok(Some(Self { address: answered?, _child: child, _directory: directory }))
    }
}
