//! `skiff attach`: the streams of a container's own process.

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
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(attach(args, global).await)
}

async fn attach(args: Args, global: &Global) -> Result<ExitCode> {
    let with = args.with;
    let session = Session::open(global, &with.namespace).await?;
    let pod = pods::one(&session, &with.target).await?;
    let container = pods::container(&pod, with.container.as_deref(), with.quiet)?;
    let wanted = conversation::wanted(container, with.stdin, with.tty);
    if !with.quiet && wanted.stdin && wanted.tty {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let process = pods::api(&session, &pod).attach(pods::name(&pod), &wanted).await;
    conversation::hold(process.map_err(from_kube)?, wanted.tty).await
}
