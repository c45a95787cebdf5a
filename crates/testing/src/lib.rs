//! A whole cluster inside a test: in process, on a free port, without root, with pods that really run.
//!
//! ```no_run
//! # async fn story() -> anyhow::Result<()> {
//! let cluster = skiff_testing::Cluster::start().await?;
//! cluster.load("localhost/hello:latest", "wasm-examples/wat/hello.wat").await?;
//! let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(cluster.client());
//! skiff_testing::eventually!(pods.list(&Default::default()).await?.items.is_empty());
//! cluster.stop().await;
//! # Ok(()) }
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use skiff::{
    compose::{self, Network},
    images,
};
use tempfile::TempDir;

pub use skiff::compose::Options;

/// How long [`eventually!`] waits: `SKIFF_TEST_PATIENCE` seconds, 60 by default.
pub fn patience() -> Duration {
    let seconds = std::env::var("SKIFF_TEST_PATIENCE").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Waits until a condition (which may use `.await` and `?`) holds; panics with the condition after [`patience`].
#[macro_export]
macro_rules! eventually {
    ($condition:expr) => { $crate::eventually!($condition, "{}", stringify!($condition)) };
    ($condition:expr, $($message:tt)+) => {{
        let deadline = std::time::Instant::now() + $crate::patience();
        while !$condition {
            assert!(std::time::Instant::now() < deadline, "not within {:?}: {}", $crate::patience(), format!($($message)+));
            $crate::pause().await;
        }
    }};
}

/// Between two looks of [`eventually!`].
#[doc(hidden)]
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// The most containers that are alive at once in a test's cluster, unless its options say otherwise; also the pod
/// capacity of its nodes together.
const CONTAINERS_MAX: usize = 500;

/// A cluster that ends with the value (call [`Cluster::stop`] to wait for it).
pub struct Cluster {
    inner: Option<compose::Cluster>,
    dir: TempDir,
}

impl Cluster {
    /// One Wasm node, state in memory.
    ///
    /// # Errors
    /// When a part of the cluster does not start.
    pub async fn start() -> Result<Self> {
        Self::with(|_| {}).await
    }

    /// With changed options.
    ///
    /// # Errors
    /// When a part of the cluster does not start.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Result<Self> {
        let dir = TempDir::with_prefix("skiff-test-").context("failed to make a directory for the cluster")?;
        let mut options = Options::throwaway();
        options.data_dir = dir.path().to_owned();
        // Many clusters share the address space of one test process.
        options.containers_max = CONTAINERS_MAX;
        change(&mut options);
        Ok(Self { inner: Some(compose::Cluster::start(options).await?), dir })
    }

    fn inner(&self) -> &compose::Cluster {
        self.inner.as_ref().expect("only stop() takes it, and stop() consumes self")
    }

    /// An administrator's client over the in-process transport.
    pub fn client(&self) -> kube::Client {
        self.inner().client()
    }

    pub fn url(&self) -> String {
        self.inner().url()
    }

    /// An administrator's kubeconfig, for clients outside this process.
    pub fn kubeconfig(&self) -> PathBuf {
        self.inner().kubeconfig().to_owned()
    }

    /// The addresses of its pods: a test may take one, and listen there as a pod would.
    pub fn network(&self) -> &Arc<Network> {
        self.inner().network()
    }

    /// A directory that ends with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Loads a `.wasm` or `.wat` file on every node.
    ///
    /// # Errors
    /// When the file cannot be read or is no module.
    pub async fn load(&self, reference: &str, path: impl AsRef<Path>) -> Result<()> {
        let artefact = images::read(path.as_ref())?;
        let client = self.client();
        let nodes = images::nodes(&client).await?;
        images::load(&client, &nodes, reference, &artefact).await.map(drop)
    }

    pub async fn stop(mut self) {
        if let Some(cluster) = self.inner.take() {
            cluster.stop().await;
        }
    }
}
