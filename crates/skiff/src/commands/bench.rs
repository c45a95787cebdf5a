//! `skiff bench`: measures a cluster through its API, this one or any other Kubernetes, so that they can be compared.
//!
//! What must stay true: it measures from outside (a client with its own connections; a cluster that it starts is a
//! process of its own); it works in one namespace of its own and removes it, also after a failure or ctrl-c.

mod api;
mod cluster;
mod http;
mod jobs;
mod load;
mod parked;
mod pods;
mod report;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::DeleteParams};
use serde_json::json;

use crate::{duration, global::Global, progress::Progress};
use cluster::Cluster;
use report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Start a cluster of its own and measure that, even when a kubeconfig names one
    #[arg(long)]
    start: bool,

    /// With a cluster of its own: keep its state on disk instead of in memory
    #[arg(long)]
    durable: bool,

    /// Image of a program that ends with exit code 0 [default: a Wasm hello that is loaded into the cluster]
    #[arg(long, value_name = "REF")]
    image: Option<String>,

    /// Image of a program that keeps running [default: a Wasm sleeper that is loaded into the cluster]
    #[arg(long, value_name = "REF")]
    running_image: Option<String>,

    /// RuntimeClass of the pods
    #[arg(long, value_name = "NAME")]
    runtime_class: Option<String>,

    /// What to measure; default: all
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// Objects created one after the other, and per connection in parallel
    #[arg(long, value_name = "N", default_value_t = 500)]
    creates: usize,

    /// Connections of the parallel measurements
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,

    /// Pods in the list that is read
    #[arg(long, value_name = "N", default_value_t = 5000)]
    listed_pods: usize,

    /// Pods started one after the other
    #[arg(long, value_name = "N", default_value_t = 100)]
    pods: usize,

    /// Completions of the Job
    #[arg(long, value_name = "N", default_value_t = 2000)]
    completions: i32,

    /// Parallelism of the Job
    #[arg(long, value_name = "N", default_value_t = 200)]
    parallelism: i32,

    /// Seconds of each of the five rounds of HTTP requests
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    http_seconds: f64,

    /// Compare HTTP with `serve` of this wasmtime [default: the one on PATH, if any]
    #[arg(long, value_name = "FILE")]
    wasmtime: Option<PathBuf>,

    /// Pods that run and do nothing, all at once; measured only when `--only parked` asks for it
    #[arg(long, value_name = "N", default_value_t = 9000)]
    parked: usize,

    /// Give up a single wait after this long (`90s`, `10m`)
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,

    /// `json` prints the figures for programs
    #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Latency and throughput of the API, lists, watch delay
    Api,
    /// Pod create → Running and create → Succeeded
    Pods,
    /// Pods per second of a Job
    Jobs,
    /// Requests per second of an HTTP handler; on the node itself only
    Http,
    /// Thousands of pods that run at once: memory of each, and what one more costs
    Parked,
}

impl Args {
    fn measures(&self, part: Part) -> bool {
        // Parking thousands is more than a cluster that somebody else uses may like.
        (self.only.is_empty() && part != Part::Parked) || self.only.contains(&part)
    }
    fn check(&self) -> Result<()> {
        let at_least_one = [
            ("--creates", self.creates),
            ("--connections", self.connections),
            ("--pods", self.pods),
            ("--listed-pods", self.listed_pods),
            ("--parked", self.parked),
        ];
        for (flag, value) in at_least_one {
            ensure!(value > 0, "{flag} must be at least 1");
        }
        ensure!((0.1..=600.0).contains(&self.http_seconds), "--http-seconds must be from 0.1 to 600");
        ensure!(self.completions > 0 && self.parallelism > 0, "--completions and --parallelism must be at least 1");
        Ok(())
    }
}

/// What every measurement needs.
struct Bench<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    client: Client,
    namespace: String,
    progress: &'a Progress,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    args.check()?;
    let progress = Progress::start("starting");
    let own = args.start || !global.names_cluster();
    let mut report = Report::default();
    let cluster = if own {
        progress.say("starting a cluster");
        Cluster::start(args.durable, &mut report).await?
    } else {
        Cluster::named(global.kubeconfig_path()?, global.context.clone())
    };
    let measured = tokio::select! {
        measured = measure(&args, &cluster, &progress, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let cleaned = clean_up(&cluster, &progress).await;
    progress.finish();
    cluster.stop().await;
    measured?;
    print!("{}", if args.output == "json" { report.json()? } else { report.table() });
    cleaned?;
    Ok(ExitCode::SUCCESS)
}

/// One namespace per process: nothing else can be in it, and it can be removed whatever was measured.
fn namespace() -> String {
    format!("skiff-bench-{}", std::process::id())
}

async fn measure(args: &Args, cluster: &Cluster, progress: &Progress, report: &mut Report) -> Result<()> {
    let client = cluster.client().await?;
    let version = client.apiserver_version().await.context("failed to reach the cluster")?;
    report.cluster(&version.git_version, cluster.is_own());
    let object = json!({ "metadata": { "name": namespace() } });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(&Default::default(), &serde_json::from_value(object)?)
        .await
        .context("failed to make a namespace")?;
    let bench = Bench { args, cluster, client, namespace: namespace(), progress };
    if [Part::Pods, Part::Jobs, Part::Parked].into_iter().any(|part| args.measures(part)) {
        bench.await_service_account().await?;
        let images = pods::Images::prepare(&bench).await?;
        if args.measures(Part::Pods) {
            pods::measure(&bench, &images, report).await?;
        }
        if args.measures(Part::Jobs) {
            jobs::measure(&bench, &images, report).await?;
        }
        if args.measures(Part::Parked) {
            parked::measure(&bench, &images, report).await?;
        }
    }
    // The pods of a cluster elsewhere cannot be reached: asked for by name, that is told.
    if args.only.contains(&Part::Http) || (args.measures(Part::Http) && cluster.is_own()) {
        bench.await_service_account().await?;
        http::measure(&bench, report).await?;
    }
    // Last: its thousands of objects would be in the way of the others.
    if args.measures(Part::Api) {
        api::measure(&bench, report).await?;
    }
    Ok(())
}

impl Bench<'_> {
    /// Pods are refused until their namespace has its default service account.
    async fn await_service_account(&self) -> Result<()> {
        let accounts =
            Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(self.client.clone(), &self.namespace);
        let deadline = tokio::time::Instant::now() + self.args.timeout;
        while accounts.get_opt("default").await?.is_none() {
            ensure!(tokio::time::Instant::now() < deadline, "the namespace got no default service account");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

async fn clean_up(cluster: &Cluster, progress: &Progress) -> Result<()> {
    if cluster.is_own() {
        // Its state goes with it.
        return Ok(());
    }
    progress.say("cleaning up");
    let namespaces: Api<Namespace> = Api::all(cluster.client().await?);
    match namespaces.delete(&namespace(), &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to delete namespace {}", namespace())),
    }
}
