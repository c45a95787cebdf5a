//! `skiff exec`: another process in a running container.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    conversation,
    global::Global,
    pods,
    server::{finish, from_kube},
    session::Session,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    with: conversation::TalkOptions,

    /// The command and its arguments, after `--`; `@ls /`, `@cat`, `@env`, `@ps`, … are built in
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(exec(args, global).await)
}

async fn exec(args: Args, global: &Global) -> Result<ExitCode> {
    let with = args.with;
    let session = Session::open(global, &with.namespace).await?;
    let pod = pods::one(&session, &with.target).await?;
    let container = pods::container(&pod, with.container.as_deref(), with.quiet)?;
    let wanted = conversation::wanted(container, with.stdin, with.tty);
    let process = pods::api(&session, &pod).exec(pods::name(&pod), args.command, &wanted).await;
    conversation::hold(process.map_err(from_kube)?, wanted.tty).await
}
