//! The verbs: one file each, with its arguments and a thin `run`.

pub mod apply;
pub mod attach;
pub mod bench;
pub mod completions;
pub mod cp;
pub mod create;
pub mod delete;
pub mod describe;
pub mod exec;
pub mod get;
pub mod image;
pub mod logs;
pub mod port_forward;
pub mod run;
pub mod top;
pub mod up;
pub mod wait;

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
    /// Show objects in a table, or as yaml, json, names, paths or columns
    Get(get::Args),
    /// Show all there is to know of objects, with their events
    Describe(describe::Args),
    /// Make objects be as manifests say
    Apply(apply::Args),
    /// Create objects from manifests or from the command line
    Create(create::Args),
    /// Delete objects and wait until they are gone
    Delete(delete::Args),
    /// Print what containers wrote
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Join the streams of a container's own process
    Attach(attach::Args),
    /// Make ports of this machine lead to a pod's
    PortForward(port_forward::Args),
    /// Copy files from and to containers
    Cp(cp::Args),
    /// Show what pods or nodes use
    Top(top::Args),
    /// Wait until objects have a condition or a value, or are gone
    Wait(wait::Args),
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
            Self::Get(args) => get::run(args, global).await,
            Self::Describe(args) => describe::run(args, global).await,
            Self::Apply(args) => apply::run(args, global).await,
            Self::Create(args) => create::run(args, global).await,
            Self::Delete(args) => delete::run(args, global).await,
            Self::Logs(args) => logs::run(args, global).await,
            Self::Exec(args) => exec::run(args, global).await,
            Self::Attach(args) => attach::run(args, global).await,
            Self::PortForward(args) => port_forward::run(args, global).await,
            Self::Cp(args) => cp::run(args, global).await,
            Self::Top(args) => top::run(args, global).await,
            Self::Wait(args) => wait::run(args, global).await,
            Self::Image(args) => image::run(args, global).await,
            Self::Bench(args) => bench::run(args, global).await,
            Self::Completions(args) => completions::run(args, global),
        }
    }
}
