//! `skiff create`: objects from manifests, or from the command line.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    commands::apply::show,
    global::Global,
    output::{Format, say_line},
    server::{JSON, Query, finish},
    session::{Namespace, Session},
};

/// The field manager of what this verb makes.
const FIELD_MANAGER: &str = "skiff-create";

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Args {
    /// Manifests: a file, a directory, a URL, or `-` for standard input; can be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|URL", required = true)]
    files: Vec<String>,

    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Args, Clone)]
struct Common {
    /// The namespace; default: that of the kubeconfig's context
    #[arg(short, long, value_name = "NAME", global = true)]
    namespace: Option<String>,

    /// `client` only shows what would be sent, `server` does all but keep the result
    #[arg(long, global = true, value_parser = ["none", "client", "server"], default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,

    /// name, json, yaml or jsonpath=TEMPLATE: show the result
    #[arg(short, long, value_name = "FORMAT", global = true)]
    output: Option<Format>,
}

#[derive(clap::Subcommand)]
enum What {
    /// A namespace
    #[command(visible_alias = "ns")]
    Namespace { name: String },
    /// A ConfigMap from files and literals
    #[command(name = "configmap", visible_alias = "cm")]
    ConfigMap {
        name: String,
        #[command(flatten)]
        data: Data,
    },
    /// A Secret from files and literals
    Secret {
        #[command(subcommand)]
        kind: SecretKind,
    },
    /// A ServiceAccount
    #[command(name = "serviceaccount", visible_alias = "sa")]
    ServiceAccount { name: String },
    /// A Deployment of one image
    #[command(visible_alias = "deploy")]
    Deployment {
        name: String,
        /// The image; several make several containers
        #[arg(long, required = true)]
        image: Vec<String>,
        /// How many pods
        #[arg(short, long, default_value_t = 1)]
        replicas: u32,
        /// The port that the container serves
        #[arg(long)]
        port: Option<u16>,
        /// The command of the container
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// A Job of one image, or of a CronJob's template
    Job {
        name: String,
        #[arg(long, required_unless_present = "from")]
        image: Option<String>,
        /// `cronjob/NAME`
        #[arg(long, conflicts_with = "image")]
        from: Option<String>,
        /// The command of the container
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[derive(clap::Subcommand)]
enum SecretKind {
    /// From files and literals
    Generic {
        name: String,
        /// The type, as in `kubernetes.io/basic-auth`
        #[arg(long = "type")]
        secret_type: Option<String>,
        #[command(flatten)]
        data: Data,
    },
    /// A certificate and its key
    Tls {
        name: String,
        #[arg(long)]
        cert: String,
        #[arg(long)]
        key: String,
    },
}

#[derive(clap::Args)]
struct Data {
    /// A key and its value; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A file, under its own name or another, or every file of a directory; can be repeated
    #[arg(long, value_name = "[KEY=]PATH")]
    from_file: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long, value_name = "PATH")]
    from_env_file: Vec<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(create(args, global).await)
}

async fn create(args: Args, global: &Global) -> Result<ExitCode> {
    let namespace = Namespace { namespace: args.common.namespace.clone() };
    // What is made from the command line alone needs no cluster.
    let needs_cluster =
        args.common.dry_run != "client" || args.what.is_none() || args.what.as_ref().is_some_and(What::reads);
    let session = if needs_cluster { Some(Session::open(global, &namespace).await?) } else { None };
    let mut objects = Vec::new();
    match (&args.what, &session) {
        (Some(what), session) => objects.push(what.object(session.as_ref()).await?),
        (None, Some(session)) => {
            for (manifest, _) in session.read(&args.files).await? {
                objects.push(serde_json::to_value(&manifest.object)?);
            }
        }
        (None, None) => bail!("give -f FILE or what to create"),
    }
    let mut results = Vec::new();
    for object in objects {
        let sent = if args.common.dry_run == "client" {
            object
        } else {
            match &session {
                Some(session) => send(session, &object, &args.common).await?,
                None => object,
            }
        };
        let prefix = prefix_of(&sent);
        if args.common.output.is_none() {
            let dry = match args.common.dry_run.as_str() {
                "client" => " (dry run)",
                "server" => " (server dry run)",
                _ => "",
            };
            say_line(&format!("{prefix}/{} created{dry}", sent["metadata"]["name"].as_str().unwrap_or_default()));
        }
        results.push((sent, prefix));
    }
    if let Some(format) = &args.common.output {
        show(format, results)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn send(session: &Session, object: &Value, common: &Common) -> Result<Value> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let resource = session.catalog.of_kind(&text(&object["apiVersion"]), &text(&object["kind"]))?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&session.namespace);
    let mut query = Query::default().with("fieldManager", FIELD_MANAGER).with("fieldValidation", "Strict");
    if common.dry_run == "server" {
        query = query.with("dryRun", "All");
    }
    session.server.write(Method::POST, &resource.path(Some(namespace)), &query, Some((JSON, object))).await
}

/// `deployment.apps`.
fn prefix_of(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    match object["apiVersion"].as_str().and_then(|v| v.split_once('/')) {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

impl What {
    /// Whether it is made from something in the cluster.
    fn reads(&self) -> bool {
        matches!(self, Self::Job { from: Some(_), .. })
    }

    async fn object(&self, session: Option<&Session>) -> Result<Value> {
        Ok(match self {
            Self::Namespace { name } => {
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
            }
            Self::ServiceAccount { name } => {
                json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } })
            }
            Self::ConfigMap { name, data } => {
                let (data, binary) = data.read()?;
                let mut map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
                for (key, part) in [("data", data), ("binaryData", binary)] {
                    if !part.is_empty() {
                        map[key] = part.into();
                    }
                }
                map
            }
            Self::Secret { kind } => kind.object()?,
            Self::Deployment { name, image, replicas, port, command } => {
                ensure!(command.is_empty() || image.len() == 1, "a command is for one --image");
                deployment(name, image, *replicas, *port, command)
            }
            Self::Job { name, image: Some(image), command, .. } => {
                let mut container = json!({ "name": name, "image": image });
                if !command.is_empty() {
                    container["command"] = json!(command);
                }
                let template = json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
                json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": { "template": template } })
            }
            Self::Job { name, from, .. } => job_from(name, from.as_deref().unwrap_or_default(), session).await?,
        })
    }
}

fn deployment(name: &str, images: &[String], replicas: u32, port: Option<u16>, command: &[String]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .map(|image| {
            let last = image.rsplit('/').next().unwrap_or(image);
            let stem: String = last.split([':', '@']).next().unwrap_or(last).replace(['_', '.'], "-");
            let mut container = json!({ "name": stem, "image": image });
            if !command.is_empty() {
                container["command"] = json!(command);
            }
            if let Some(port) = port {
                container["ports"] = json!([{ "containerPort": port }]);
            }
            container
        })
        .collect();
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    })
}

async fn job_from(name: &str, from: &str, session: Option<&Session>) -> Result<Value> {
    let Some(session) = session else { bail!("--from needs a cluster") };
    let Some((kind, cron_name)) = from.split_once('/') else { bail!("--from is cronjob/NAME") };
    let resource = session.catalog.resolve_one(kind)?;
    ensure!(resource.kind == "CronJob", "--from is cronjob/NAME");
    let cron = session.server.get(&session.path_of(&resource, None, cron_name), &Query::default(), JSON).await?;
    let template = &cron["spec"]["jobTemplate"];
    let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".into());
    let owner = json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_name,
        "uid": cron["metadata"]["uid"], "controller": true }]);
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "annotations": annotations, "labels": template["metadata"]["labels"], "ownerReferences": owner },
        "spec": template["spec"],
    }))
}

impl SecretKind {
    fn object(&self) -> Result<Value> {
        let (name, secret_type, data) = match self {
            Self::Generic { name, secret_type, data } => {
                let (text, binary) = data.read()?;
                let encoded =
                    text.into_iter().map(|(k, v)| (k, encode(v.as_str().unwrap_or_default().as_bytes()).into()));
                (name, secret_type.as_deref(), encoded.chain(binary).collect::<Map<_, _>>())
            }
            Self::Tls { name, cert, key } => {
                let file = |path: &str| -> Result<Value> { Ok(encode(&read_file(Path::new(path))?).into()) };
                let data = [("tls.crt".to_owned(), file(cert)?), ("tls.key".to_owned(), file(key)?)];
                (name, Some("kubernetes.io/tls"), data.into_iter().collect())
            }
        };
        let mut secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
        if let Some(secret_type) = secret_type {
            secret["type"] = secret_type.into();
        }
        Ok(secret)
    }
}

fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

impl Data {
    /// Text, and what is not text in base64.
    fn read(&self) -> Result<(Map<String, Value>, Map<String, Value>)> {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        for literal in &self.from_literal {
            let Some((key, value)) = literal.split_once('=') else {
                bail!("--from-literal {literal:?} is not KEY=VALUE")
            };
            all.push((key.to_owned(), value.as_bytes().to_vec()));
        }
        for source in &self.from_file {
            all.extend(files(source)?);
        }
        for path in &self.from_env_file {
            let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                all.push((key.to_owned(), value.as_bytes().to_vec()));
            }
        }
        let (mut text, mut binary) = (Map::new(), Map::new());
        for (key, bytes) in all {
            ensure!(!text.contains_key(&key) && !binary.contains_key(&key), "the key {key:?} is given twice");
            match String::from_utf8(bytes) {
                Ok(value) => text.insert(key, value.into()),
                Err(e) => binary.insert(key, encode(e.as_bytes()).into()),
            };
        }
        Ok((text, binary))
    }
}

/// `PATH`, `KEY=PATH`, or the files of a directory.
fn files(source: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let (key, path) = match source.split_once('=') {
        Some((key, path)) => (Some(key), Path::new(path)),
        None => (None, Path::new(source)),
    };
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if key.is_none() && path.is_dir() {
        let mut out = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("failed to read {}", path.display()))? {
            let path = entry?.path();
            if path.is_file() {
                out.push((name(&path), read_file(&path)?));
            }
        }
        out.sort();
        return Ok(out);
    }
    Ok(vec![(key.map_or_else(|| name(path), str::to_owned), read_file(path)?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for (text, expected) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd", "YWJjZA==")] {
            assert_eq!(encode(text.as_bytes()), expected);
        }
        assert_eq!(encode(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn deployments_are_named_after_their_image() {
        let made = deployment("web", &["localhost:5000/a/http_hello:1".to_owned()], 3, Some(80), &["x".to_owned()]);
        let container = &made["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            container,
            &json!({"name": "http-hello", "image": "localhost:5000/a/http_hello:1", "command": ["x"], "ports": [{"containerPort": 80}]})
        );
        assert_eq!(made["spec"]["selector"]["matchLabels"], made["spec"]["template"]["metadata"]["labels"]);
    }

    #[test]
    fn data_from_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: &str| dir.path().join(n).to_string_lossy().into_owned();
        fs::write(path("text"), "hi").unwrap();
        fs::write(path("blob"), [0xff]).unwrap();
        fs::write(path("env"), "# c\nA=1\nB=x=y\n").unwrap();
        let data = Data {
            from_literal: vec!["k=v=w".into()],
            from_file: vec![path("text"), format!("other={}", path("blob"))],
            from_env_file: vec![path("env")],
        };
        let (text, binary) = data.read().unwrap();
        assert_eq!(Value::from(text), json!({"k": "v=w", "text": "hi", "A": "1", "B": "x=y"}));
        assert_eq!(Value::from(binary), json!({"other": "/w=="}));
        let twice = Data { from_literal: vec!["a=1".into(), "a=2".into()], from_file: vec![], from_env_file: vec![] };
        assert!(twice.read().unwrap_err().to_string().contains("given twice"));
    }
}
