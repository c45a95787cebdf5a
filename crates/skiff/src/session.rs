//! What the object verbs share: the server, what it serves, and the namespace that is meant.

use anyhow::Result;

use crate::{
    catalog::{self, Catalog, Resource, Target},
    global::Global,
    manifest::{self, Manifest},
    server::Server,
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
