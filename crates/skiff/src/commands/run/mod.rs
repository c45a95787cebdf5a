//! `skiff run`: manifests or a module in a throwaway cluster (or a named one), to the end, with logs and a summary.

mod logs;
mod summary;
mod track;
mod workload;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kube::{Client, core::DynamicObject};
use serde_json::json;

use crate::{
    apply::{self, Resources},
    compose, duration,
    global::Global,
    images,
    manifest::{self, Manifest},
    progress::Progress,
};

#[derive(clap::Args)]
pub struct Args {
    /// Manifests to apply: a file, a directory, a URL, or `-` for standard input; can be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|URL")]
    files: Vec<String>,

    /// A module to run as a Job: a `.wasm` or `.wat` file, or the reference of an image
    #[arg(value_name = "IMAGE|FILE.wasm", required_unless_present = "files")]
    image: Option<String>,

    /// Arguments of the module
    #[arg(last = true)]
    args: Vec<String>,

    /// Leave the cluster up when the work is done, until ctrl-c
    #[arg(long)]
    keep: bool,

    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Give up after this long (`90s`, `10m`, `1h30m`); 0 never
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,

    /// Do not print the logs of the pods
    #[arg(long)]
    no_logs: bool,
}

/// How long each phase took, for the summary's last line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    pub cluster: Option<Duration>,
    pub images: Option<Duration>,
    pub apply: Duration,
    pub work: Duration,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let (manifests, modules) = collect(&args).await?;
    let progress = Progress::start("starting");
    let mut phases = Phases::default();

    let begun = Instant::now();
    let (client, cluster) = if global.names_cluster() {
        (global.client().await?, None)
    } else {
        progress.say("starting a cluster");
        let cluster = compose::Cluster::start(compose::Options::throwaway()).await?;
        phases.cluster = Some(begun.elapsed());
        (cluster.client(), Some(cluster))
    };
    let result = work(&args, &client, manifests, modules, &mut phases, &progress).await;
    progress.finish();
    if let Some(cluster) = cluster {
        if args.keep && result.is_ok() {
            println!("kept: {} kubeconfig={}", cluster.url(), cluster.kubeconfig().display());
            tokio::signal::ctrl_c().await.context("failed to wait for ctrl-c")?;
        }
        cluster.stop().await;
    }
    result
}

/// Parses everything before anything is started: the objects, and the files to load under references.
async fn collect(args: &Args) -> Result<(Vec<Manifest>, Vec<(String, PathBuf)>)> {
    let mut manifests = Vec::new();
    for file in &args.files {
        manifests.extend(manifest::read(file).await?);
    }
    let mut modules = Vec::new();
    if let Some(image) = &args.image {
        let path = Path::new(image);
        let is_file = path.extension().is_some_and(|e| e == "wasm" || e == "wat") || path.exists();
        let reference = if is_file {
            let reference = images::default_reference(path)?;
            modules.push((reference.clone(), path.to_owned()));
            reference
        } else {
            image.clone()
        };
        manifests.push(job_of(&reference, &args.args)?);
    } else {
        ensure!(args.args.is_empty(), "arguments after -- are for a module: name one before them");
    }
    for manifest in &manifests {
        modules.extend(manifest.images()?);
    }
    modules.sort();
    modules.dedup();
    for pair in modules.windows(2) {
        ensure!(
            pair[0].0 != pair[1].0,
            "{} is to be loaded from {} and from {}: give them different references",
            pair[0].0,
            pair[0].1.display(),
            pair[1].1.display()
        );
    }
    for (_, path) in &modules {
        ensure!(path.exists(), "{} does not exist", path.display());
    }
    Ok((manifests, modules))
}

/// A Job of one pod that runs a module with arguments, once.
fn job_of(reference: &str, args: &[String]) -> Result<Manifest> {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let stem = last.split([':', '@']).next().unwrap_or(last);
    let name: String = stem.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    ensure!(!name.is_empty(), "{reference:?} is not an image reference");
    let value = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name },
        "spec": { "backoffLimit": 0, "template": { "spec": {
            "restartPolicy": "Never", "runtimeClassName": "wasm",
            "containers": [{ "name": name, "image": reference, "imagePullPolicy": "IfNotPresent", "args": args }],
        } } },
    });
    Ok(Manifest { object: serde_json::from_value(value)?, source: format!("the Job of {reference}"), directory: None })
}

async fn work(
    args: &Args,
    client: &Client,
    manifests: Vec<Manifest>,
    modules: Vec<(String, PathBuf)>,
    phases: &mut Phases,
    progress: &Progress,
) -> Result<ExitCode> {
    if !modules.is_empty() {
        let begun = Instant::now();
        load(client, &modules, progress).await?;
        phases.images = Some(begun.elapsed());
    }
    let begun = Instant::now();
    progress.say("applying");
    let mut resources = Resources::new(client.clone());
    let mut applied: Vec<DynamicObject> = Vec::new();
    for manifest in &manifests {
        applied.push(apply::apply(&mut resources, manifest, &args.namespace).await?);
    }
    phases.apply = begun.elapsed();

    let begun = Instant::now();
    let mut tracker = track::Tracker::new(client.clone(), progress.clone(), &applied, !args.no_logs);
    let ended = tokio::select! {
        result = tracker.until_done(&mut resources) => result.map(|()| None),
        () = timeout(args.timeout) => Ok(Some(format!("not done after {:?} (--timeout)", args.timeout))),
        _ = tokio::signal::ctrl_c() => Ok(Some("interrupted".to_owned())),
    }?;
    phases.work = begun.elapsed();
    let targets = tracker.finish().await;
    progress.finish();
    print!("{}", summary::render(&targets, phases));
    if let Some(why) = ended {
        bail!("{why}: {}", summary::unfinished(&targets));
    }
    let all_good = targets.iter().all(|t| matches!(t.verdict, workload::Verdict::Good(_)));
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn timeout(limit: Duration) {
    if limit.is_zero() { std::future::pending().await } else { tokio::time::sleep(limit).await }
}

async fn load(client: &Client, modules: &[(String, PathBuf)], progress: &Progress) -> Result<()> {
    let nodes = images::nodes(client).await?;
    for (reference, path) in modules {
        progress.say(format!("loading and compiling {}", path.display()));
        let artefact = images::read(path)?;
        images::load(client, &nodes, reference, &artefact)
            .await
            .with_context(|| format!("failed to load {}", path.display()))?;
    }
    Ok(())
}
