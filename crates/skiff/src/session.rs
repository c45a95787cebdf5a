//! What the object verbs share: the server, what it serves, and the namespace that is meant.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{
    catalog::{self, Catalog, Resource, Target},
    global::Global,
    manifest::{self, Manifest},
    server::{JSON, Query, Server},
};

/// `-n` and `-A`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Namespace {
    /// The namespace; default: that of the kubeconfig's context
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// Which objects, other than by name.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Selectors {
    /// Only objects with these labels (`app=web,tier in (a,b)`)
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,

    /// Only objects with these fields (`status.phase=Running`)
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<String>,

    /// In every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

impl Selectors {
    pub fn query(&self) -> Query {
        Query::default()
            .with_some("labelSelector", self.selector.as_ref())
            .with_some("fieldSelector", self.field_selector.as_ref())
    }
}

/// The objects of `get`, `describe` and `delete`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Chosen {
    /// `TYPE[,TYPE] [NAME…]` or `TYPE/NAME…`, as in `pods`, `deploy web`, `pod/web-1 svc/web`, `all`
    #[arg(value_name = "TYPE", required_unless_present = "files")]
    pub words: Vec<String>,

    /// The objects of manifests
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<String>,

    #[command(flatten)]
    pub namespace: Namespace,
    #[command(flatten)]
    pub selectors: Selectors,
}

/// One object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
}

pub struct Session {
    pub server: Server,
    pub catalog: Catalog,
    pub namespace: String,
}

impl Session {
    /// # Errors
    /// When no cluster is named or it cannot be reached.
    pub async fn open(global: &Global, namespace: &Namespace) -> Result<Self> {
        let client = global.client().await?;
        let namespace = namespace.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let server = Server::new(client);
        let catalog = Catalog::discover(&server).await?;
        Ok(Self { server, catalog, namespace })
    }

    pub fn targets(&self, words: &[String]) -> Result<Vec<Target>> {
        catalog::targets(&self.catalog, words)
    }

    /// What was asked for by words and manifests.
    ///
    /// # Errors
    /// When a type is not known, or a manifest cannot be read or names no object.
    pub async fn chosen(&self, chosen: &Chosen) -> Result<Vec<Target>> {
        let mut out = if chosen.words.is_empty() { Vec::new() } else { self.targets(&chosen.words)? };
        for (manifest, resource) in self.read(&chosen.files).await? {
            let metadata = manifest.object.metadata;
            let Some(name) = metadata.name else { bail!("{}: metadata.name is missing", manifest.source) };
            out.push(Target { resource, name: Some(name), namespace: metadata.namespace });
        }
        Ok(out)
    }

    /// Where lists are asked for: everywhere, or in the namespace.
    pub fn scope(&self, selectors: &Selectors) -> Option<&str> {
        (!selectors.all_namespaces).then_some(self.namespace.as_str())
    }

    /// Each object by its name; those that were not named, `all` of them or those that are selected.
    ///
    /// # Errors
    /// When neither says which.
    pub async fn located(&self, targets: Vec<Target>, selectors: &Selectors, all: bool) -> Result<Vec<Located>> {
        let mut out = Vec::new();
        for Target { resource, name, namespace } in targets {
            if let Some(name) = name {
                let namespace = namespace.unwrap_or_else(|| self.namespace.clone());
                out.push(Located { resource, namespace, name });
                continue;
            }
            if !all && selectors.selector.is_none() && selectors.field_selector.is_none() {
                bail!("resource(s) were provided, but no name was specified: give names, -l LABELS or --all");
            }
            let list = self.server.get(&resource.path(self.scope(selectors)), &selectors.query(), JSON).await?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for metadata in list["items"].as_array().into_iter().flatten().map(|item| &item["metadata"]) {
                let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
                out.push(Located { resource: resource.clone(), namespace, name });
            }
        }
        Ok(out)
    }

    /// The path of one object, and of its manifest's namespace if that names one.
    pub fn path_of(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> String {
        resource.object_path(namespace.unwrap_or(&self.namespace), name)
    }

    /// The objects of manifests, each with its resource.
    pub async fn read(&self, files: &[String]) -> Result<Vec<(Manifest, Resource)>> {
        let mut out = Vec::new();
        for file in files {
            for manifest in manifest::read(file).await? {
                let types = manifest.object.types.clone().unwrap_or_default();
                let resource = self.catalog.of_kind(&types.api_version, &types.kind)?;
                out.push((manifest, resource));
            }
        }
        Ok(out)
    }
}
