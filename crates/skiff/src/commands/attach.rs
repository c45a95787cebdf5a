//! `skiff attach`: the streams of a container's own process.

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

    /// Print only what the process prints
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(attach(args, global).await)
}

async fn attach(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let pod = pods::one(&session, &args.target).await?;
    let container = pods::container(&pod, args.container.as_deref(), args.quiet)?;
    let wanted = conversation::wanted(container, args.stdin, args.tty);
    if !args.quiet && wanted.stdin && wanted.tty {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let process = pods::api(&session, &pod).attach(pods::name(&pod), &wanted).await;
    conversation::hold(process.map_err(from_kube)?, wanted.tty).await
}
