//! `skiff completions SHELL`: a completion script on stdout.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::global::Global;

#[derive(clap::Args)]
pub struct Args {
    /// The shell to complete in, as in `skiff completions bash >~/.local/share/bash-completion/completions/skiff`
    shell: Shell,
}

#[derive(clap::Parser)]
#[command(name = "skiff")]
struct Whole {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: super::Command,
}

pub fn run(args: Args, _global: &Global) -> Result<ExitCode> {
    let mut command = Whole::command();
    debug_assert!(super::Command::has_subcommand("completions"));
    clap_complete::generate(args.shell, &mut command, "skiff", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
