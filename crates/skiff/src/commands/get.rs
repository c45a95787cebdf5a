//! `skiff get`: objects in a table, or as they are.

use std::{pin::pin, process::ExitCode};

use anyhow::{Result, bail};
use futures::TryStreamExt;
use serde_json::Value;

use crate::{
    catalog::{Resource, Target},
    global::Global,
    output::{
        self, Format,
        jsonpath::{self, Path},
        say, say_line,
        tables::{Printer, Shape},
    },
    server::{JSON, Query, TABLE, finish, refusal},
    session::{Chosen, Session},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,

    /// wide, name, json, yaml, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,…
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Go on showing what changes
    #[arg(short, long)]
    watch: bool,

    /// Show only what changes
    #[arg(long)]
    watch_only: bool,

    /// Ask for lists in parts of this many objects; 0 for all at once
    #[arg(long, value_name = "N", default_value_t = 500)]
    chunk_size: u32,

    /// No header
    #[arg(long)]
    no_headers: bool,

    /// Show the labels
    #[arg(long)]
    show_labels: bool,

    /// Show these labels as columns
    #[arg(short = 'L', long, value_name = "LABELS", value_delimiter = ',')]
    label_columns: Vec<String>,

    /// Show what each name is of
    #[arg(long)]
    show_kind: bool,

    /// Keep the managed fields in json and yaml
    #[arg(long)]
    show_managed_fields: bool,

    /// Sort a list by a path (`.metadata.creationTimestamp`)
    #[arg(long, value_name = "PATH")]
    sort_by: Option<String>,

    /// A name that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(get(args, global).await)
}

async fn get(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.chosen.namespace).await?;
    let targets = session.chosen(&args.chosen).await?;
    if args.chosen.selectors.all_namespaces && targets.iter().any(|t| t.name.is_some()) {
        bail!("a resource cannot be retrieved by name across all namespaces");
    }
    let get = Get { session: &session, args: &args };
    if args.watch || args.watch_only {
        let [target] = targets.as_slice() else { bail!("you may only specify a single resource type to watch") };
        return get.watch(target).await;
    }
    match &args.output {
        None | Some(Format::Table | Format::Wide) => get.tables(&targets).await,
        Some(format) => get.objects(&targets, format).await,
    }
}

struct Get<'a> {
    session: &'a Session,
    args: &'a Args,
}

impl Get<'_> {
    fn namespace<'t>(&'t self, target: &'t Target) -> Option<&'t str> {
        target.namespace.as_deref().or_else(|| self.session.scope(&self.args.chosen.selectors))
    }

    fn query(&self, target: &Target) -> Query {
        let mut selectors = self.args.chosen.selectors.clone();
        if let Some(name) = &target.name {
            selectors.field_selector = Some(format!("metadata.name={name}"));
        }
        selectors.query()
    }

    /// One object, or every part of a list; nothing for what is not there and need not be.
    async fn read(&self, target: &Target, accept: &str) -> Result<Vec<Value>> {
        let server = &self.session.server;
        if let Some(name) = &target.name {
            let path = self.session.path_of(&target.resource, target.namespace.as_deref(), name);
            return match server.get(&path, &Query::default(), accept).await {
                Err(e) if self.args.ignore_not_found && refusal(&e).is_some_and(|r| r.is_not_found()) => Ok(Vec::new()),
                other => Ok(vec![other?]),
            };
        }
        let path = target.resource.path(self.namespace(target));
        let query = self.query(target);
        let mut parts = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut query = query.clone().with_some("continue", next.as_ref());
            if self.args.chunk_size > 0 {
                query = query.with("limit", self.args.chunk_size);
            }
            let part = server.get(&path, &query, accept).await?;
            next = part["metadata"]["continue"].as_str().filter(|c| !c.is_empty()).map(str::to_owned);
            parts.push(part);
            if next.is_none() {
                return Ok(parts);
            }
        }
    }

    fn shape(&self, target: &Target, several: bool) -> Shape {
        Shape {
            wide: matches!(self.args.output, Some(Format::Wide)),
            headers: !self.args.no_headers,
            namespace: self.args.chosen.selectors.all_namespaces && target.resource.namespaced,
            labels: self.args.show_labels,
            label_columns: self.args.label_columns.clone(),
            prefix: (several || self.args.show_kind).then(|| target.resource.prefix()),
        }
    }

    /// A table per resource, with an empty line between.
    async fn tables(&self, targets: &[Target]) -> Result<ExitCode> {
        let several = targets.windows(2).any(|t| t[0].resource != t[1].resource);
        let mut printed = 0;
        let mut failed = None;
        for group in targets.chunk_by(|a, b| a.resource == b.resource) {
            let mut tables = Vec::new();
            for target in group {
                match self.read(target, TABLE).await {
                    Ok(parts) => tables.extend(parts),
                    Err(e) if refusal(&e).is_some() && targets.len() > 1 => failed = Some(e),
                    Err(e) => return Err(e),
                }
            }
            let mut whole = joined(tables);
            self.sort(&mut whole)?;
            if whole["rows"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            if printed > 0 {
                say("\n");
            }
            printed += 1;
            say(&Printer::new(self.shape(&group[0], several)).render(&whole));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if printed == 0 && !self.args.ignore_not_found {
            self.nothing(targets);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn nothing(&self, targets: &[Target]) {
        let namespaced = targets.iter().any(|t| t.resource.namespaced);
        match self.session.scope(&self.args.chosen.selectors).filter(|_| namespaced) {
            Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
            None => eprintln!("No resources found"),
        }
    }

    /// By a path into the objects, which a table carries only in part: then by their metadata.
    fn sort(&self, table: &mut Value) -> Result<()> {
        let Some(by) = &self.args.sort_by else { return Ok(()) };
        let path = Path::parse(by.trim_matches(['{', '}']))?;
        if let Some(rows) = table["rows"].as_array_mut() {
            rows.sort_by(|a, b| order(path.first(&a["object"]), path.first(&b["object"])));
        }
        Ok(())
    }

    async fn objects(&self, targets: &[Target], format: &Format) -> Result<ExitCode> {
        let mut objects = Vec::new();
        for target in targets {
            for part in self.read(target, JSON).await? {
                objects.extend(objects_of(part, target));
            }
        }
        if !self.args.show_managed_fields {
            objects.iter_mut().for_each(output::without_managed_fields);
        }
        if let Some(by) = &self.args.sort_by {
            let path = Path::parse(by.trim_matches(['{', '}']))?;
            objects.sort_by(|a, b| order(path.first(a), path.first(b)));
        }
        let single = matches!(targets, [Target { name: Some(_), .. }]);
        if objects.is_empty() && (single || matches!(format, Format::Name)) {
            return Ok(ExitCode::SUCCESS);
        }
        let text = output::show(format, objects, single, |o| self.name_of(o))?;
        say(&text.unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    }

    fn name_of(&self, object: &Value) -> String {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (api_version, kind, name) =
            (text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]));
        match self.session.catalog.of_kind(&api_version, &kind) {
            Ok(resource) => format!("{}/{name}", resource.prefix()),
            Err(_) => format!("{}/{name}", kind.to_lowercase()),
        }
    }

    /// The list, then its changes, from the revision that the list was of.
    async fn watch(&self, target: &Target) -> Result<ExitCode> {
        let as_table = matches!(self.args.output, None | Some(Format::Table | Format::Wide));
        let accept = if as_table { TABLE } else { JSON };
        let path = target.resource.path(self.namespace(target));
        let query = self.query(target);
        let server = &self.session.server;
        let list = server.get(&path, &query, accept).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let mut printer = Printer::new(self.shape(target, false));
        if !self.args.watch_only {
            self.show_change(&mut printer, list, target, as_table)?;
        }
        let events = server.watch(&path, &query.with("resourceVersion", revision), accept).await?;
        let mut events = pin!(events);
        while let Some((kind, object)) = events.try_next().await? {
            if kind != "BOOKMARK" {
                self.show_change(&mut printer, object, target, as_table)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show_change(&self, printer: &mut Printer, value: Value, target: &Target, as_table: bool) -> Result<()> {
        if as_table {
            say(&printer.render(&value));
            return Ok(());
        }
        let Some(format) = &self.args.output else { return Ok(()) };
        for mut object in objects_of(value, target) {
            if !self.args.show_managed_fields {
                output::without_managed_fields(&mut object);
            }
            let is_yaml = matches!(format, Format::Yaml);
            let text = output::show(format, vec![object], true, |o| self.name_of(o))?.unwrap_or_default();
            if is_yaml {
                say_line("---");
            }
            say(&text);
        }
        Ok(())
    }
}

/// The items of a list, with the version and kind that lists leave out, or the object itself.
fn objects_of(part: Value, target: &Target) -> Vec<Value> {
    let is_list = part["items"].is_array() && part["kind"].as_str().is_some_and(|k| k.ends_with("List"));
    if !is_list {
        return vec![part];
    }
    let mut part = part;
    let items = part["items"].take();
    let Value::Array(items) = items else { return Vec::new() };
    items.into_iter().map(|item| typed(item, &target.resource)).collect()
}

fn typed(mut item: Value, resource: &Resource) -> Value {
    if let Some(map) = item.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        map.entry("kind").or_insert_with(|| resource.kind.clone().into());
    }
    item
}

/// The parts of a table as one.
fn joined(tables: Vec<Value>) -> Value {
    let mut tables = tables.into_iter();
    let Some(mut whole) = tables.next() else { return Value::Null };
    for mut table in tables {
        let more = table["rows"].take();
        if let (Some(rows), Value::Array(more)) = (whole["rows"].as_array_mut(), more) {
            rows.extend(more);
        }
    }
    whole
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    jsonpath::compare(a, b).unwrap_or_else(|| a.to_string().cmp(&b.to_string()))
}
