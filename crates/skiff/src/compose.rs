//! The only place that names a concrete store or runtime: a whole cluster from its parts.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// What `skiff up` takes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// State in memory, gone at exit.
    pub ephemeral: bool,
    pub listen: std::net::SocketAddr,
    pub kubeconfig: Option<PathBuf>,
    pub nodes: usize,
    pub fake_nodes: usize,
}
impl Options {
    pub fn throwaway() -> Self {
        Self {
            data_dir: PathBuf::new(),
            ephemeral: true,
            listen: ([127, 0, 0, 1], 0).into(),
            kubeconfig: None,
            nodes: 1,
            fake_nodes: 0,
        }
    }
}
pub struct Cluster {}
impl Cluster {
    pub async fn start(_options: Options) -> Result<Self> {
        bail!("not wired")
    }
    pub fn client(&self) -> kube::Client {
        unreachable!()
    }
    pub fn url(&self) -> String {
        String::new()
    }
    pub fn kubeconfig(&self) -> &Path {
        Path::new("")
    }
    pub async fn stop(self) {}
}
