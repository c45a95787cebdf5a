//! `skiff image`: modules and images on every node of the cluster that the kubeconfig names.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{global::Global, images, progress::Progress, table};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Load a `.wasm` or `.wat` file, or an OCI image layout directory
    Load {
        /// What to load
        #[arg(value_name = "FILE|DIR", required = true)]
        paths: Vec<PathBuf>,
        /// The reference that pods name it by; default: localhost/STEM:latest
        #[arg(long, value_name = "REF")]
        name: Option<String>,
    },
    /// Pull an image from its registry
    Pull { reference: String },
    /// List the images of every node
    List {
        /// `json` prints what the nodes answered
        #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
        output: String,
    },
    /// Remove a reference; containers that run go on
    Remove { reference: String },
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let client = global.client().await?;
    let nodes = images::nodes(&client).await?;
    match args.verb {
        Verb::Load { paths, name } => {
            ensure!(name.is_none() || paths.len() == 1, "--name is for one file: load the others by themselves");
            for path in paths {
                let reference = name.clone().map_or_else(|| images::default_reference(&path), Ok)?;
                let artefact = images::read(&path)?;
                let progress = Progress::start(format!("loading and compiling {}", path.display()));
                let image = images::load(&client, &nodes, &reference, &artefact).await;
                progress.finish();
                let image = image.with_context(|| format!("failed to load {}", path.display()))?;
                println!("{reference} {}", image["id"].as_str().unwrap_or(""));
            }
        }
        Verb::Pull { reference } => {
            let progress = Progress::start(format!("pulling {reference}"));
            let image = images::pull(&client, &nodes, &reference).await;
            progress.finish();
            println!("{reference} {}", image?["id"].as_str().unwrap_or(""));
        }
        Verb::List { output } => list(&client, &nodes, &output).await?,
        Verb::Remove { reference } => {
            images::remove(&client, &nodes, &reference).await?;
            println!("removed {reference}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &kube::Client, nodes: &[String], output: &str) -> Result<()> {
    let lists = futures::future::try_join_all(nodes.iter().map(|node| images::list(client, node))).await?;
    if output == "json" {
        let all: serde_json::Map<_, _> = nodes.iter().cloned().zip(lists.into_iter().map(Value::Array)).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let mut rows = Vec::new();
    for (node, list) in nodes.iter().zip(&lists) {
        for image in list {
            let mut names: Vec<&str> =
                image["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() {
                names.push("<none>");
            }
            let id = image["id"].as_str().unwrap_or("").trim_start_matches("sha256:");
            let size = image["sizeBytes"].as_u64().or_else(|| image["size_bytes"].as_u64()).unwrap_or(0);
            for name in names {
                let short = id.get(..12).unwrap_or(id).to_owned();
                rows.push(vec![node.clone(), name.to_owned(), short, format!("{} KiB", size.div_ceil(1024))]);
            }
        }
    }
    print!("{}", table::render(&["NODE", "IMAGE", "ID", "SIZE"], rows.into_iter()));
    Ok(())
}
