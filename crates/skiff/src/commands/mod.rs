//! The verbs: one file each, with its arguments and a thin `run`.

pub mod bench;
pub mod completions;
pub mod image;
pub mod run;
pub mod up;

use std::process::ExitCode;

use anyhow::Result;

use crate::global::Global;

/// One variant per verb; clap makes the help from the doc comments.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run a whole cluster in the foreground
    Up(up::Args),
    /// Run manifests or a module to the end, in a throwaway cluster unless one is named
    Run(run::Args),
    /// Load, pull, list and remove modules and images on the nodes
    Image(image::Args),
    /// Measure a cluster: API, pods, Jobs; this one or any other Kubernetes
    Bench(bench::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    /// # Errors
    /// Whatever the verb met; `main` prints it and exits with 1.
    pub async fn run(self, global: &Global) -> Result<ExitCode> {
        match self {
            Self::Up(args) => up::run(args, global).await,
            Self::Run(args) => run::run(args, global).await,
            Self::Image(args) => image::run(args, global).await,
            Self::Bench(args) => bench::run(args, global).await,
            Self::Completions(args) => completions::run(args, global),
        }
    }
}
