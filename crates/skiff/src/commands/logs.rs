//! `skiff logs`: what containers wrote.

use std::{pin::pin, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use futures::{StreamExt, future::try_join_all};
use serde_json::Value;

use crate::{
    duration,
    global::Global,
    output::say_line,
    pods,
    server::{Query, Server, finish},
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// A pod, or what pods belong to, as in `deploy/web` or `job/hello`
    #[arg(value_name = "POD|TYPE/NAME", required_unless_present = "selector")]
    target: Option<String>,

    /// The container; default: the pod's only one, or the first
    #[arg(value_name = "CONTAINER")]
    container_word: Option<String>,

    #[command(flatten)]
    namespace: Namespace,

    /// The container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Of all pods with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "target")]
    selector: Option<String>,

    /// Of all containers
    #[arg(long)]
    all_containers: bool,

    /// Of all pods of a TYPE/NAME
    #[arg(long)]
    all_pods: bool,

    /// Go on with what is written
    #[arg(short, long)]
    follow: bool,

    /// The container's run before this one
    #[arg(short, long)]
    previous: bool,

    /// Only the last lines; -1 for all (default with a selector: 10)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    tail: Option<i64>,

    /// Only what is newer than this (`5s`, `2m`, `3h`)
    #[arg(long, value_parser = duration::parse, conflicts_with = "since_time")]
    since: Option<Duration>,

    /// Only what is newer than this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since_time: Option<jiff::Timestamp>,

    /// The time before each line
    #[arg(long)]
    timestamps: bool,

    /// The pod and container before each line
    #[arg(long)]
    prefix: bool,

    /// At most this many bytes
    #[arg(long, value_name = "N")]
    limit_bytes: Option<u64>,

    /// At most this many logs at once with --follow
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_log_requests: usize,
}

/// One container's log.
struct Log {
    path: String,
    query: Query,
    label: String,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(logs(args, global).await)
}

async fn logs(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let pods = pods_of(&session, &args).await?;
    let mut logs = Vec::new();
    for pod in &pods {
        logs.extend(logs_of(&session, &args, pod)?);
    }
    if args.follow && logs.len() > args.max_log_requests {
        bail!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            logs.len(),
            args.max_log_requests
        );
    }
    if args.follow {
        try_join_all(logs.iter().map(|log| copy(&session.server, log, args.prefix))).await?;
    } else {
        for log in &logs {
            copy(&session.server, log, args.prefix).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn copy(server: &Server, log: &Log, prefix: bool) -> Result<()> {
    let lines = server.lines(&log.path, &log.query, "text/plain, */*").await?;
    let mut lines = pin!(lines);
    while let Some(line) = lines.next().await {
        let line = line?;
        if prefix {
            say_line(&format!("[{}] {line}", log.label));
        } else {
            say_line(&line);
        }
    }
    Ok(())
}

/// The pods that are meant, by name, by owner or by labels.
async fn pods_of(session: &Session, args: &Args) -> Result<Vec<Value>> {
    let Some(target) = &args.target else {
        return pods::list(session, args.selector.as_deref().unwrap_or_default()).await;
    };
    let mut found = pods::find(session, target).await?.pods;
    if !args.all_pods {
        if found.len() > 1 {
            eprintln!("Found {} pods, using pod/{}", found.len(), pods::name(&found[0]));
        }
        found.truncate(1);
    }
    Ok(found)
}

fn logs_of(session: &Session, args: &Args, pod: &Value) -> Result<Vec<Log>> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let all: Vec<&str> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|key| pod["spec"][*key].as_array().into_iter().flatten())
        .filter_map(|c| c["name"].as_str())
        .collect();
    let chosen: Vec<&str> = match args.container.as_deref().or(args.container_word.as_deref()) {
        Some(container) if !all.contains(&container) => {
            bail!("container {container} is not valid for pod {name}: it has {}", all.join(", "))
        }
        Some(container) => vec![container],
        None if args.all_containers => all,
        None => vec![pods::default_container(pod, false)],
    };
    let pods = session.catalog.resolve_one("pods")?;
    let namespace = pod["metadata"]["namespace"].as_str();
    let path = format!("{}/log", session.path_of(&pods, namespace, name));
    let tail = args.tail.or_else(|| args.selector.as_ref().filter(|_| !args.follow).map(|_| 10)).filter(|n| *n >= 0);
    let query = Query::default()
        .with_some("follow", args.follow.then_some(true))
        .with_some("previous", args.previous.then_some(true))
        .with_some("timestamps", args.timestamps.then_some(true))
        .with_some("tailLines", tail)
        .with_some("sinceSeconds", args.since.map(|d| d.as_secs().max(1)))
        .with_some("sinceTime", args.since_time)
        .with_some("limitBytes", args.limit_bytes);
    let log = |container: &str| Log {
        path: path.clone(),
        query: query.clone().with("container", container),
        label: format!("pod/{name}/{container}"),
    };
    Ok(chosen.into_iter().map(log).collect())
}
