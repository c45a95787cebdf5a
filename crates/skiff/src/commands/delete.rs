//! `skiff delete`: objects by name, manifest or selector; waits until they are gone.

use std::{pin::pin, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use futures::TryStreamExt;
use http::Method;
use serde_json::{Value, json};

use crate::{
    duration,
    global::Global,
    output::say_line,
    server::{JSON, Query, Server, finish, refusal},
    session::{Chosen, Located, Session},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,

    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,

    /// What happens to what an object owns: deleted after it, deleted before it, or left
    #[arg(long, value_parser = ["background", "foreground", "orphan"], default_value = "background")]
    cascade: String,

    /// Seconds that a pod is given to end; 0 with --force, 1 with --now
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    grace_period: Option<i64>,

    /// Do not wait for the node's word that a pod has ended
    #[arg(long)]
    force: bool,

    /// As --grace-period=1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,

    /// Return only when the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: bool,

    /// How long to wait for each object; 0 for as long as it takes
    #[arg(long, value_parser = duration::parse, default_value = "0")]
    timeout: Duration,

    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,

    /// `server` does all but delete
    #[arg(long, value_parser = ["none", "client", "server"], default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,

    /// `name`: print only names
    #[arg(short, long, value_parser = ["name"])]
    output: Option<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(delete(args, global).await)
}

async fn delete(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.chosen.namespace).await?;
    let targets = session.chosen(&args.chosen).await?;
    let victims = session.located(targets, &args.chosen.selectors, args.all).await?;
    if victims.is_empty() {
        say_line("No resources found");
    }
    let grace = match (args.force, args.now, args.grace_period) {
        (_, true, _) => Some(1),
        (true, _, None | Some(0)) => Some(0),
        (false, _, Some(0)) => Some(1),
        (_, _, seconds) => seconds.filter(|s| *s >= 0),
    };
    if args.force {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    let mut failed = None;
    let mut gone = Vec::new();
    for victim in victims {
        match delete_one(&session.server, &victim, grace, &args).await {
            Ok(uid) => gone.push((victim, uid)),
            Err(e) if args.ignore_not_found && refusal(&e).is_some_and(|r| r.is_not_found()) => {}
            Err(e) if refusal(&e).is_some() => {
                if let Some(earlier) = failed.replace(e) {
                    eprintln!("{earlier}");
                }
            }
            Err(e) => return Err(e),
        }
    }
    if args.wait && args.dry_run == "none" {
        for (victim, uid) in &gone {
            wait_until_gone(&session.server, victim, uid.as_deref(), args.timeout).await?;
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The uid of what was deleted, when the server told it.
async fn delete_one(server: &Server, victim: &Located, grace: Option<i64>, args: &Args) -> Result<Option<String>> {
    let policy = match args.cascade.as_str() {
        "foreground" => "Foreground",
        "orphan" => "Orphan",
        _ => "Background",
    };
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy });
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    let mut query = Query::default();
    if args.dry_run == "server" {
        query = query.with("dryRun", "All");
    }
    let path = victim.resource.object_path(&victim.namespace, &victim.name);
    let answer = if args.dry_run == "client" {
        server.get(&path, &query, JSON).await?
    } else {
        server.write(Method::DELETE, &path, &query, Some((JSON, &options))).await?
    };
    let prefix = victim.resource.prefix();
    if args.output.is_some() {
        say_line(&format!("{prefix}/{}", victim.name));
    } else {
        let how = if args.force { " force deleted" } else { " deleted" };
        let from =
            if victim.resource.namespaced { format!(" from {} namespace", victim.namespace) } else { String::new() };
        let dry = match args.dry_run.as_str() {
            "client" => " (dry run)",
            "server" => " (server dry run)",
            _ => "",
        };
        say_line(&format!("{prefix} {:?}{how}{from}{dry}", victim.name));
    }
    let uid = answer["metadata"]["uid"].as_str().or_else(|| answer["details"]["uid"].as_str());
    Ok(uid.map(str::to_owned))
}

/// Watches one object until it, and not another of its name, is gone.
async fn wait_until_gone(server: &Server, victim: &Located, uid: Option<&str>, limit: Duration) -> Result<()> {
    let waiting = async {
        let path = victim.resource.path(Some(&victim.namespace));
        let query = Query::default().with("fieldSelector", format!("metadata.name={}", victim.name));
        let list = server.get(&path, &query, JSON).await?;
        let same = |object: &Value| uid.is_none_or(|uid| object["metadata"]["uid"] == uid);
        let still_there = list["items"].as_array().into_iter().flatten().any(same);
        if !still_there {
            return Ok(());
        }
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let events = server.watch(&path, &query.clone().with("resourceVersion", revision), JSON).await?;
        let mut events = pin!(events);
        while let Some((kind, object)) = events.try_next().await? {
            if kind == "DELETED" || !same(&object) {
                return Ok(());
            }
        }
        bail!("the server ended the watch of {}/{}", victim.resource.prefix(), victim.name)
    };
    if limit.is_zero() {
        return waiting.await;
    }
    match tokio::time::timeout(limit, waiting).await {
        Ok(result) => result,
        Err(_) => bail!("timed out waiting for the condition on {}/{}", victim.resource.qualified(), victim.name),
    }
}
