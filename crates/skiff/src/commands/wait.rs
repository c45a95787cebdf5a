//! `skiff wait`: until objects have a condition, a value, or are gone.

use std::{pin::pin, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Result, bail};
use futures::{TryStreamExt, future::try_join_all};
use serde_json::Value;

use crate::{
    catalog::Resource,
    duration,
    global::Global,
    output::{
        jsonpath::{self, Path},
        say_line,
    },
    server::{JSON, Query, Server, finish},
    session::{Located, Namespace, Selectors, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// `TYPE NAME…` or `TYPE/NAME…`; a type alone with -l or --all
    #[arg(value_name = "TYPE", required = true)]
    words: Vec<String>,

    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    selectors: Selectors,

    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,

    /// `condition=NAME[=VALUE]`, `delete`, `create` or `jsonpath=PATH[=VALUE]`
    #[arg(long = "for", value_name = "WHAT")]
    what: Goal,

    /// Give up after this long
    #[arg(long, value_parser = duration::parse, default_value = "30s")]
    timeout: Duration,
}

/// `--for`.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    Condition {
        name: String,
        value: String,
    },
    Delete,
    Create,
    /// No value: that there is one.
    JsonPath {
        path: Path,
        value: Option<String>,
    },
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Self::Condition { name: name.to_owned(), value: value.to_owned() });
        }
        if let Some(expression) = text.strip_prefix("jsonpath=") {
            // A filter has `==` of its own: the value comes after the last brace.
            let (path, value) = match expression.rfind('}') {
                Some(end) => (&expression[..=end], expression[end + 1..].strip_prefix('=')),
                None => expression.split_once('=').map_or((expression, None), |(p, v)| (p, Some(v))),
            };
            let path = Path::parse(path.trim_start_matches('{').trim_end_matches('}')).map_err(|e| e.to_string())?;
            return Ok(Self::JsonPath { path, value: value.map(str::to_owned) });
        }
        match text {
            "delete" => Ok(Self::Delete),
            "create" => Ok(Self::Create),
            _ => Err("one of condition=NAME[=VALUE], delete, create, jsonpath=PATH[=VALUE]".to_owned()),
        }
    }
}

impl Goal {
    /// Whether an object, or its absence, is what is waited for.
    pub fn is_met(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Delete, object) => object.is_none(),
            (_, None) => false,
            (Self::Create, Some(_)) => true,
            (Self::Condition { name, value }, Some(object)) => {
                let conditions = object["status"]["conditions"].as_array();
                let mut conditions = conditions.into_iter().flatten();
                let condition = conditions.find(|c| c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(name)));
                // A condition of an older spec says nothing.
                let generation = object["metadata"]["generation"].as_i64();
                let observed = condition
                    .and_then(|c| c["observedGeneration"].as_i64())
                    .or(object["status"]["observedGeneration"].as_i64());
                let stale = matches!((generation, observed), (Some(g), Some(o)) if o < g);
                !stale && condition.is_some_and(|c| c["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(value)))
            }
            (Self::JsonPath { path, value }, Some(object)) => {
                let found = path.find(object, object);
                match value {
                    None => !found.is_empty(),
                    Some(value) => !found.is_empty() && found.iter().all(|v| jsonpath::plain(v) == *value),
                }
            }
        }
    }
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(wait(args, global).await)
}

async fn wait(args: Args, global: &Global) -> Result<ExitCode> {
    let session = Session::open(global, &args.namespace).await?;
    let objects = session.located(session.targets(&args.words)?, &args.selectors, args.all).await?;
    if objects.is_empty() && args.what != Goal::Delete {
        bail!("no matching resources found");
    }
    let waits = objects.iter().map(|Located { resource, namespace, name }| {
        let until = until_met(&session.server, resource, namespace, name, &args.what);
        async move {
            match tokio::time::timeout(args.timeout, until).await {
                Ok(result) => result.map(|()| true),
                Err(_) => {
                    eprintln!("error: timed out waiting for the condition on {}/{name}", resource.plural);
                    Ok(false)
                }
            }
        }
    });
    let met: Vec<bool> = try_join_all(waits).await?;
    Ok(if met.iter().all(|m| *m) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn until_met(server: &Server, resource: &Resource, namespace: &str, name: &str, goal: &Goal) -> Result<()> {
    let path = resource.path(Some(namespace));
    let query = Query::default().with("fieldSelector", format!("metadata.name={name}"));
    let list = server.get(&path, &query, JSON).await?;
    let object = list["items"].as_array().and_then(|i| i.first());
    if object.is_none() && !matches!(goal, Goal::Delete | Goal::Create) {
        // The server's own words for what is not there.
        server.get(&resource.object_path(namespace, name), &Query::default(), JSON).await?;
    }
    let mut met = goal.is_met(object);
    if !met {
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let events = server.watch(&path, &query.clone().with("resourceVersion", revision), JSON).await?;
        let mut events = pin!(events);
        while let Some((kind, object)) = events.try_next().await? {
            met = match kind.as_str() {
                "DELETED" => goal.is_met(None),
                "BOOKMARK" => false,
                _ => goal.is_met(Some(&object)),
            };
            if met {
                break;
            }
        }
    }
    if !met {
        bail!("the server ended the watch of {}/{name}", resource.prefix());
    }
    let what = if matches!(goal, Goal::Delete) { "deleted" } else { "condition met" };
    say_line(&format!("{}/{name} {what}", resource.prefix()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals() {
        let object = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        for (goal, expected) in [
            ("condition=Ready", true),
            ("condition=ready=TRUE", true),
            ("condition=Ready=false", false),
            ("condition=Old", false),
            ("condition=Other", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath=.status.phase=Failed", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.podIP}", false),
            (r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}=True"#, true),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(goal.parse::<Goal>().unwrap().is_met(Some(&object)), expected, "{goal}");
        }
        assert!("delete".parse::<Goal>().unwrap().is_met(None));
        assert!("ready".parse::<Goal>().is_err());
    }
}
