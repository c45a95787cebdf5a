//! `skiff describe`: what there is to know of an object, and its events.

mod node;
mod page;
mod pod;
mod workload;

use std::process::ExitCode;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::table::since;

use crate::{
    catalog::Target,
    global::Global,
    output::{say, without_managed_fields},
    server::{JSON, Query, Server, finish},
    session::{Chosen, Session},
};
use page::{Page, pairs, shown, tree};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,

    /// Leave the events out
    #[arg(long)]
    no_events: bool,

    /// Upstream's spelling of the same
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    show_events: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(describe(args, global).await)
}

async fn describe(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.chosen.namespace).await?;
    let targets = session.chosen(&args.chosen).await?;
    let now = Timestamp::now();
    let mut pages = Vec::new();
    for target in &targets {
        for object in objects(&session, &args, target).await? {
            let events = if args.no_events || !args.show_events {
                None
            } else {
                Some(events_of(&session.server, &object).await?)
            };
            pages.push(describe_one(&session, &object, events, now).await?);
        }
    }
    if pages.is_empty() {
        bail!("no resources found");
    }
    say(&pages.join("\n\n"));
    Ok(ExitCode::SUCCESS)
}

/// By name, by the beginning of a name, or all that the selectors leave.
async fn objects(session: &Session, args: &Args, target: &Target) -> Result<Vec<Value>> {
    let typed = |mut object: Value| {
        if let Some(map) = object.as_object_mut() {
            map.entry("apiVersion").or_insert_with(|| target.resource.api_version().into());
            map.entry("kind").or_insert_with(|| target.resource.kind.clone().into());
        }
        object
    };
    let server = &session.server;
    let missing = match &target.name {
        None => None,
        Some(name) => {
            let path = session.path_of(&target.resource, target.namespace.as_deref(), name);
            match server.get(&path, &Query::default(), JSON).await {
                Ok(object) => return Ok(vec![typed(object)]),
                Err(e) => Some((name, e)),
            }
        }
    };
    let selectors = &args.chosen.selectors;
    let namespace = target.namespace.as_deref().or_else(|| session.scope(selectors));
    let mut list = server.get(&target.resource.path(namespace), &selectors.query(), JSON).await?;
    let Value::Array(items) = list["items"].take() else { return Ok(Vec::new()) };
    let items = items.into_iter().map(typed);
    let Some((prefix, error)) = missing else { return Ok(items.collect()) };
    let begins = |o: &Value| o["metadata"]["name"].as_str().is_some_and(|n| n.starts_with(prefix.as_str()));
    let found: Vec<Value> = items.filter(begins).collect();
    if found.is_empty() { Err(error) } else { Ok(found) }
}

async fn events_of(server: &Server, object: &Value) -> Result<Vec<Value>> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let mut selector =
        format!("involvedObject.name={},involvedObject.kind={}", text(&metadata["name"]), text(&object["kind"]));
    // Events about nodes carry the node's name as its uid.
    if object["kind"] != "Node" {
        selector.push_str(&format!(",involvedObject.uid={}", text(&metadata["uid"])));
    }
    let path = match metadata["namespace"].as_str() {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/events"),
        None => "/api/v1/events".to_owned(),
    };
    let mut list = server.get(&path, &Query::default().with("fieldSelector", selector), JSON).await?;
    let Value::Array(mut events) = list["items"].take() else { return Ok(Vec::new()) };
    events.sort_by_key(last_seen);
    Ok(events)
}

fn last_seen(event: &Value) -> String {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.iter().find_map(|t| t.as_str()).unwrap_or_default().to_owned()
}

async fn describe_one(session: &Session, object: &Value, events: Option<Vec<Value>>, now: Timestamp) -> Result<String> {
    let mut page = Page::default();
    let kind = object["kind"].as_str().unwrap_or_default();
    match kind {
        "Pod" => pod::describe(&mut page, object),
        "Node" => node::describe(&mut page, object, &node::pods_on(&session.server, object).await?),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => workload::describe(&mut page, object),
        "Job" => workload::describe_job(&mut page, object),
        _ => generic(&mut page, object),
    }
    if let Some(events) = events {
        show_events(&mut page, &events, now);
    }
    Ok(page.render())
}

/// Name, namespace, labels and annotations, which every page begins with.
fn identity(page: &mut Page, object: &Value) {
    let metadata = &object["metadata"];
    page.field("Name", shown(&metadata["name"]));
    if metadata["namespace"].is_string() {
        page.field("Namespace", shown(&metadata["namespace"]));
    }
}

fn labels(page: &mut Page, object: &Value) {
    page.field("Labels", pairs(&object["metadata"]["labels"], "="));
    page.field("Annotations", pairs(&object["metadata"]["annotations"], ": "));
}

fn generic(page: &mut Page, object: &Value) {
    identity(page, object);
    labels(page, object);
    page.field("API Version", shown(&object["apiVersion"]));
    page.field("Kind", shown(&object["kind"]));
    let mut rest = object.clone();
    without_managed_fields(&mut rest);
    if let Some(map) = rest.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            map.remove(key);
        }
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["name", "namespace", "labels", "annotations"] {
                metadata.remove(key);
            }
        }
        // Nobody's screen is a place for these.
        if object["kind"] == "Secret"
            && let Some(data) = map.get_mut("data").and_then(Value::as_object_mut)
        {
            for value in data.values_mut() {
                let size = value.as_str().map_or(0, |v| v.trim_end_matches('=').len() * 3 / 4);
                *value = format!("{size} bytes").into();
            }
        }
    }
    tree(page, 0, &rest);
}

fn show_events(page: &mut Page, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        page.line(0, "Events:  <none>");
        return;
    }
    page.line(0, "Events:");
    let rows = events
        .iter()
        .map(|event| {
            let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
            let last = since(&last_seen(event).into(), now);
            let first = since(&event["firstTimestamp"], now);
            let age = if count > 1 { format!("{last} (x{count} over {first})") } else { last };
            let from = event["source"]["component"].as_str().filter(|c| !c.is_empty());
            let from = from.or(event["reportingComponent"].as_str()).unwrap_or_default();
            let message = event["message"].as_str().unwrap_or_default().trim();
            vec![shown(&event["type"]), shown(&event["reason"]), age, from.to_owned(), message.replace('\n', " ")]
        })
        .collect();
    page.table(2, &["Type", "Reason", "Age", "From", "Message"], rows);
}

/// `Kind/name` of the owner that controls an object.
fn controller(object: &Value) -> Option<String> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some(format!("{}/{}", shown(&owner["kind"]), shown(&owner["name"])))
}

/// The conditions of a status, as a table of type and status.
fn conditions(page: &mut Page, object: &Value, columns: &[(&str, &str)]) {
    let Some(conditions) = object["status"]["conditions"].as_array().filter(|c| !c.is_empty()) else { return };
    page.line(0, "Conditions:");
    let header: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let cell = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
    let rows = conditions.iter().map(|c| columns.iter().map(|(_, key)| cell(c, key)).collect()).collect();
    page.table(2, &header, rows);
}
