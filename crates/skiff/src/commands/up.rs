//! `skiff up`: the whole cluster in the foreground, until SIGTERM or ctrl-c.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use skiff_node::Limits;
use skiff_runtime_wasm::{SignaturePolicy, SignatureRule};
use tokio::signal::unix::{SignalKind, signal};

use crate::global::Global;
use crate::{compose, global};

#[derive(clap::Args)]
pub struct Args {
    /// Where the cluster keeps its state [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Keep state in memory only: it is gone at exit
    #[arg(long)]
    ephemeral: bool,

    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,

    /// The store: `redb` (embedded)
    #[arg(long, value_name = "STORE", default_value = "redb")]
    store: String,

    /// Wasm nodes in this process
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,

    /// Simulated nodes, whose pods run without programs; beside Wasm nodes they are tainted with
    /// skiff.dev/simulated=true:NoSchedule
    #[arg(long, value_name = "N", default_value_t = 0)]
    fake_nodes: usize,

    /// Which images must be signed, and by whose keys: YAML with a list `images` of `prefix` and `keys` (PEM)
    #[arg(long, value_name = "FILE")]
    image_policy: Option<PathBuf>,

    /// Remove images that no container uses when this part of the disk is in use, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_high_threshold: u8,

    /// Remove them until this part of the disk is in use, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_low_threshold: u8,

    /// Run components of WASI 0.3 as well, which is experimental and makes every start a little slower
    #[arg(long = "wasi-0.3")]
    wasi_0_3: bool,

    /// Start large modules as soon as a quick compiler is done with them; the optimising one's code is for later starts
    #[arg(long)]
    fast_first_start: bool,
}

/// As `--image-policy` names it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ImagePolicy {
    images: Vec<SignatureRule>,
}

fn signatures(file: Option<&Path>) -> Result<SignaturePolicy> {
    let Some(file) = file else { return Ok(SignaturePolicy::default()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let wrong = || format!("{} is not an image policy", file.display());
    let policy: ImagePolicy = serde_saphyr::from_str(&text).with_context(wrong)?;
    SignaturePolicy::new(policy.images).map_err(anyhow::Error::msg).with_context(wrong)
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    if args.store != "redb" {
        bail!("--store {}: only redb is there so far", args.store);
    }
    let (high, low) = (args.image_gc_high_threshold, args.image_gc_low_threshold);
    if low > high {
        bail!("--image-gc-low-threshold {low} is above --image-gc-high-threshold {high}");
    }
    let mut node_limits = Limits::default();
    (node_limits.image_gc.high_percent, node_limits.image_gc.low_percent) = (high.into(), low.into());
    let data_dir = args.data_dir.map_or_else(global::default_data_dir, Ok)?;
    let options = compose::Options {
        data_dir,
        ephemeral: args.ephemeral,
        listen: args.listen,
        kubeconfig: global.kubeconfig.clone(),
        nodes: args.nodes,
        fake_nodes: args.fake_nodes,
        containers_max: compose::CONTAINERS_MAX_DEFAULT,
        signatures: signatures(args.image_policy.as_deref())?,
        node_limits,
        wasi_0_3: args.wasi_0_3,
        fast_first_start: args.fast_first_start,
    };
    // Registered first: a signal during the start stops it cleanly too.
    let mut term = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    let cluster = tokio::select! {
        cluster = compose::Cluster::start(options) => cluster?,
        _ = term.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    if let Err(error) = remember(cluster.kubeconfig()) {
        tracing::warn!(error = format!("{error:#}"), "other skiff commands need --kubeconfig");
    }
    println!("ready: {} kubeconfig={}", cluster.url(), cluster.kubeconfig().display());
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    cluster.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Makes this the cluster that the other commands talk to.
fn remember(kubeconfig: &std::path::Path) -> Result<()> {
    let pointer = global::last_kubeconfig_pointer()?;
    if let Some(dir) = pointer.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    let absolute = std::path::absolute(kubeconfig)?;
    std::fs::write(&pointer, absolute.to_string_lossy().as_bytes())
        .with_context(|| format!("failed to write {}", pointer.display()))
}
