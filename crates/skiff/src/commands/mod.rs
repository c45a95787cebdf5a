//! The verbs: one file each, with its arguments and a thin `run`.

pub mod completions;

use std::process::ExitCode;

use anyhow::Result;

use crate::global::Global;

/// One variant per verb; clap makes the help from the doc comments.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    /// # Errors
    /// Whatever the verb met; `main` prints it and exits with 1.
    pub async fn run(self, global: &Global) -> Result<ExitCode> {
        match self {
            Self::Completions(args) => completions::run(args, global),
        }
    }
}
