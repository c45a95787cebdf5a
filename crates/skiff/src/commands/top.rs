//! `skiff top`: what pods and nodes use.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Result, bail};
use serde_json::Value;
use skiff_api::quantity::Quantity;

use crate::{
    global::Global,
    output::{say, say_line},
    server::{JSON, Query, finish},
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Of pods, or of their containers
    #[command(visible_aliases = ["pods", "po"])]
    Pod(Pods),
    /// Of nodes
    #[command(visible_aliases = ["nodes", "no"])]
    Node(Nodes),
}

#[derive(clap::Args)]
struct Common {
    /// Only this one
    name: Option<String>,

    /// Only with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "name")]
    selector: Option<String>,

    /// What uses most first, by `cpu` or `memory`
    #[arg(long, value_parser = ["cpu", "memory"])]
    sort_by: Option<String>,

    /// Without the first line
    #[arg(long)]
    no_headers: bool,
}

#[derive(clap::Args)]
struct Pods {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    namespace: Namespace,

    /// In every namespace
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,

    /// A line per container
    #[arg(long)]
    containers: bool,

    /// The sum in the last line
    #[arg(long)]
    sum: bool,
}

#[derive(clap::Args)]
struct Nodes {
    #[command(flatten)]
    common: Common,

    /// In percent of what the node has, not of what it gives to pods
    #[arg(long)]
    show_capacity: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(match args.what {
        What::Pod(pods) => of_pods(pods, global).await,
        What::Node(nodes) => of_nodes(nodes, global).await,
    })
}

/// Milli-cores and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    cpu_millis: i64,
    memory_bytes: i64,
}

impl Use {
    fn of(usage: &Value) -> Self {
        let quantity = |resource: &str| Quantity::parse(usage[resource].as_str().unwrap_or("0")).ok();
        Self {
            cpu_millis: quantity("cpu").map_or(0, |q| q.milli_value()),
            memory_bytes: quantity("memory").map_or(0, |q| q.value()),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu_millis: self.cpu_millis + other.cpu_millis, memory_bytes: self.memory_bytes + other.memory_bytes }
    }

    fn cells(self) -> [String; 2] {
        [format!("{}m", self.cpu_millis), format!("{}Mi", self.memory_bytes >> 20)]
    }
}

struct Row {
    /// What it is of, column by column.
    names: Vec<String>,
    used: Use,
    /// Of a node: in percent.
    shares: Option<[i64; 2]>,
}

async fn fetch(session: &Session, path: &str, common: &Common, what: &str) -> Result<Vec<Value>> {
    let path = match &common.name {
        Some(name) => format!("{path}/{name}"),
        None => path.to_owned(),
    };
    let query = Query::default().with_some("labelSelector", common.selector.as_ref());
    let mut answer = session.server.get(&path, &query, JSON).await?;
    let items = match answer["items"].take() {
        Value::Array(items) => items,
        _ if common.name.is_some() => vec![answer],
        _ => Vec::new(),
    };
    if items.is_empty() {
        eprintln!("No resources found{what}");
    }
    Ok(items)
}

async fn of_pods(args: Pods, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let metrics = resource(&session, "pods.metrics.k8s.io")?;
    let path = metrics.path((!args.all_namespaces).then_some(session.namespace.as_str()));
    let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace.", session.namespace) };
    let items = fetch(&session, &path, &args.common, &place).await?;
    if items.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for item in &items {
        let text = |key: &str| item["metadata"][key].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = args.all_namespaces.then(|| text("namespace")).into_iter().collect();
        names.push(text("name"));
        let containers = item["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let each = containers.iter().map(|c| (c["name"].as_str().unwrap_or_default(), Use::of(&c["usage"])));
        if args.containers {
            rows.extend(each.map(|(container, used)| Row {
                names: [&names[..], &[container.to_owned()]].concat(),
                used,
                shares: None,
            }));
        } else {
            let used = each.fold(Use::default(), |sum, (_, used)| sum.plus(used));
            rows.push(Row { names, used, shares: None });
        }
    }
    let mut header: Vec<&str> = args.all_namespaces.then_some("NAMESPACE").into_iter().collect();
    header.extend(if args.containers { &["POD", "NAME"][..] } else { &["NAME"] });
    let columns = header.len();
    header.extend(["CPU(cores)", "MEMORY(bytes)"]);
    let sum = rows.iter().fold(Use::default(), |sum, row| sum.plus(row.used));
    print(&header, rows, &args.common);
    if args.sum {
        let blank = " ".repeat(3 * columns);
        let [cpu, memory] = sum.cells();
        say_line(&format!("{blank}________   ________   \n{blank}{cpu}   {memory}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn of_nodes(args: Nodes, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &Namespace::default()).await?;
    let metrics = resource(&session, "nodes.metrics.k8s.io")?;
    let items = fetch(&session, &metrics.path(None), &args.common, "").await?;
    if items.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let nodes = session.catalog.resolve_one("nodes")?;
    let all = session.server.get(&nodes.path(None), &Query::default(), JSON).await?;
    let room = if args.show_capacity { "capacity" } else { "allocatable" };
    let rooms: BTreeMap<&str, Use> = all["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|n| Some((n["metadata"]["name"].as_str()?, Use::of(&n["status"][room]))))
        .collect();
    let rows = items.iter().map(|item| {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let (used, room) = (Use::of(&item["usage"]), rooms.get(name).copied().unwrap_or_default());
        let percent = |used: i64, of: i64| used.saturating_mul(100).checked_div(of).unwrap_or(0);
        let shares = [percent(used.cpu_millis, room.cpu_millis), percent(used.memory_bytes, room.memory_bytes)];
        Row { names: vec![name.to_owned()], used, shares: Some(shares) }
    });
    print(&["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"], rows.collect(), &args.common);
    Ok(ExitCode::SUCCESS)
}

fn resource(session: &Session, name: &str) -> Result<crate::catalog::Resource> {
    match session.catalog.resolve_one(name) {
        Ok(resource) => Ok(resource),
        Err(_) => bail!("Metrics API not available"),
    }
}

fn print(header: &[&str], mut rows: Vec<Row>, common: &Common) {
    match common.sort_by.as_deref() {
        Some("cpu") => rows.sort_by_key(|row| (-row.used.cpu_millis, row.names.clone())),
        Some("memory") => rows.sort_by_key(|row| (-row.used.memory_bytes, row.names.clone())),
        _ => rows.sort_by(|a, b| a.names.cmp(&b.names)),
    }
    let cells = rows.into_iter().map(|row| {
        let [cpu, memory] = row.used.cells();
        let mut cells = row.names;
        match row.shares {
            Some([cpu_share, memory_share]) => {
                cells.extend([cpu, format!("{cpu_share}%"), memory, format!("{memory_share}%")]);
            }
            None => cells.extend([cpu, memory]),
        }
        cells
    });
    let text = crate::table::render(header, cells);
    let first = if common.no_headers { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
    say(&text[first..]);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_shown_in_milli_cores_and_mebibytes() {
        let used = Use::of(&json!({ "cpu": "1500001n", "memory": "3072Ki" }));
        assert_eq!(used.cells(), ["2m", "3Mi"]);
        assert_eq!(used.plus(used).cells(), ["4m", "6Mi"]);
    }
}
