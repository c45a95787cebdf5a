//! `skiff exec`: another process in a running container.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    conversation,
    global::Global,
    pods,
    server::{finish, from_kube},
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// A pod, or what pods belong to, as in `deploy/web`
    #[arg(value_name = "POD|TYPE/NAME")]
    target: String,

    /// The command and its arguments, after `--`; `@ls /`, `@cat`, `@env`, `@ps`, … are built in
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,

    #[command(flatten)]
    namespace: Namespace,

    /// The container; default: the annotated one, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Pass stdin on
    #[arg(short = 'i', long)]
    stdin: bool,

    /// With a terminal
    #[arg(short = 't', long)]
    tty: bool,

    /// Print only what the command prints
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(exec(args, global).await)
}

async fn exec(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let pod = pods::one(&session, &args.target).await?;
    let container = pods::container(&pod, args.container.as_deref(), args.quiet)?;
    let wanted = conversation::wanted(container, args.stdin, args.tty);
    let process = pods::api(&session, &pod).exec(pods::name(&pod), args.command, &wanted).await;
    conversation::hold(process.map_err(from_kube)?, wanted.tty).await
}
