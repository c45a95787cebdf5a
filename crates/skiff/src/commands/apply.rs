//! `skiff apply`: server-side apply of manifests, with the field manager `skiff`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use http::Method;
use serde_json::Value;

use crate::{
    apply::FIELD_MANAGER,
    global::Global,
    images,
    manifest::Manifest,
    output::{self, Format, say, say_line},
    progress::Progress,
    server::{APPLY, Query, Server, finish},
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// What to apply: a file, a directory, a URL, or `-` for standard input; can be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|URL", required = true)]
    files: Vec<String>,

    #[command(flatten)]
    namespace: Namespace,

    /// Take fields over that another manager owns
    #[arg(long)]
    force_conflicts: bool,

    /// Apply is always done by the server; this is for scripts written for kubectl
    #[arg(long)]
    server_side: bool,

    /// Who owns the fields that are applied
    #[arg(long, value_name = "NAME", default_value = FIELD_MANAGER)]
    field_manager: String,

    /// `client` only reads the manifests, `server` does all but keep the result
    #[arg(long, value_parser = ["none", "client", "server"], default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,

    /// name, json, yaml or jsonpath=TEMPLATE: show the result
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(apply(args, global).await)
}

async fn apply(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let objects = session.read(&args.files).await?;
    if args.dry_run == "none" {
        load_images(&session.server, objects.iter().map(|(m, _)| m)).await?;
    }
    let mut results = Vec::new();
    for (manifest, resource) in &objects {
        let metadata = &manifest.object.metadata;
        let Some(name) = &metadata.name else {
            bail!("{}: apply needs metadata.name; use create for a generated name", manifest.source);
        };
        let mut result = serde_json::to_value(&manifest.object)?;
        if args.dry_run != "client" {
            let path = session.path_of(resource, metadata.namespace.as_deref(), name);
            let mut query = Query::default()
                .with("fieldManager", &args.field_manager)
                .with("force", args.force_conflicts)
                .with("fieldValidation", "Strict");
            if args.dry_run == "server" {
                query = query.with("dryRun", "All");
            }
            result = session.server.write(Method::PATCH, &path, &query, Some((APPLY, &result))).await?;
        }
        if args.output.is_none() {
            let done = match args.dry_run.as_str() {
                "client" => "serverside-applied (dry run)",
                "server" => "serverside-applied (server dry run)",
                _ => "serverside-applied",
            };
            say_line(&format!("{}/{name} {done}", resource.prefix()));
        }
        results.push((result, resource.prefix()));
    }
    if let Some(format) = &args.output {
        show(format, results)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Results of writes, in a format.
pub fn show(format: &Format, results: Vec<(Value, String)>) -> Result<()> {
    let names: Vec<String> = results
        .iter()
        .map(|(object, prefix)| format!("{prefix}/{}", object["metadata"]["name"].as_str().unwrap_or_default()))
        .collect();
    let single = results.len() == 1;
    let mut objects: Vec<Value> = results.into_iter().map(|(object, _)| object).collect();
    objects.iter_mut().for_each(output::without_managed_fields);
    if matches!(format, Format::Name) {
        say(&names.iter().map(|n| format!("{n}\n")).collect::<String>());
        return Ok(());
    }
    match output::show(format, objects, single, |_| String::new())? {
        Some(text) => say(&text),
        None => bail!("-o wide is for get"),
    }
    Ok(())
}

/// The module files that manifests ask for, on every node, before the pods that name them.
async fn load_images(server: &Server, manifests: impl Iterator<Item = &Manifest>) -> Result<()> {
    let mut modules = Vec::new();
    for manifest in manifests {
        modules.extend(manifest.images()?);
    }
    modules.sort();
    modules.dedup();
    if modules.is_empty() {
        return Ok(());
    }
    let nodes = images::nodes(server.client()).await?;
    for (reference, path) in &modules {
        let progress = Progress::start(format!("loading and compiling {}", path.display()));
        let artefact = images::read(path)?;
        let loaded = images::load(server.client(), &nodes, reference, &artefact).await;
        progress.finish();
        loaded?;
    }
    Ok(())
}
