//! The runtime itself: the contract's verbs, each a few steps over the other modules.

mod create;
mod fetch;
mod guest;
mod life;
mod shared;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use skiff_runtime::{
    Attached, Capabilities, Connection, ContainerConfig, ContainerId, ContainerStats, ContainerStatus, Credentials,
    Error, ExecRequest, Exit, Image, ImageSource, Result, Runtime, RuntimeEvent, Sandbox, SandboxConfig, StreamsWanted,
    annotations, reference::Reference,
};

pub(crate) use shared::Shared;
use shared::blocking;

use crate::{config::WasmConfig, images, log::Log, net::PodFacts};

/// The engine says its version nowhere; a test compares this with Cargo.lock.
pub const WASMTIME_VERSION: &str = "48.0.8";

pub struct WasmRuntime {
    shared: Arc<Shared>,
}

impl WasmRuntime {
    /// Opens the root directory and reads the image index; the engine is made in the background.
    ///
    /// # Errors
    /// [`Error::Internal`] when the root directory cannot be used.
    pub fn open(config: WasmConfig) -> Result<Arc<Self>> {
        raise_file_limit();
        let shared = Arc::new(Shared::open(config)?);
        // What an earlier process left of its containers goes away in the background, and not among the new ones.
        let left = shared.config.root.join("containers.old");
        let _ = std::fs::create_dir_all(&left);
        let aside = left.join(jiff::Timestamp::now().as_nanosecond().to_string());
        let _ = std::fs::rename(shared.containers_directory(), aside);
        let warm = shared.clone();
        std::thread::Builder::new()
            .name("wasm-open".to_owned())
            .spawn(move || {
                let _ = warm.started_blocking();
                let _ = std::fs::remove_dir_all(left);
            })
            .map_err(|error| Error::Internal(format!("failed to start a thread: {error}")))?;
        Ok(Arc::new(Self { shared }))
    }
}

/// Guests hold file descriptors: take as many as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(error = %error, "limit of open files not raised");
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let shared = &self.shared;
        let mode = match config.annotations.get(annotations::NETWORK) {
            Some(text) => text.parse().map_err(Error::Invalid)?,
            None => shared.config.network_mode,
        };
        let facts = PodFacts { namespace: config.namespace.clone(), hostname: config.hostname.clone(), mode };
        shared.ledger.run_sandbox(config, |id| {
            let net = shared.network.join(facts).map_err(|error| Error::Exhausted(error.to_string()))?;
            let ip = net.ip();
            shared.nets.lock().insert(id.clone(), net);
            Ok(vec![ip.into()])
        })
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let containers = self.shared.ledger.stop_sandbox(id);
        for container in &containers {
            self.shared.end(container, Exit::killed());
        }
        for container in &containers {
            container.wait_exited().await;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        self.shared.ledger.remove_sandbox(id);
        self.shared.nets.lock().remove(id);
        self.shared.storages.forget(id);
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>> {
        Ok(self.shared.ledger.sandboxes())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        self.shared.create(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.shared.ledger.container(id)?;
        let started = self.shared.started().await?;
        self.shared.start(container.clone(), started)?;
        if let Some(server) = &container.extra.server {
            tokio::select! {
                () = server.listens.cancelled() => {}
                () = container.wait_exited() => {}
            }
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.shared.ledger.get(id) else { return Ok(()) };
        self.shared.stop(&container, grace).await;
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.stop_container(id, Duration::ZERO).await?;
        self.shared.ledger.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.shared.ledger.container(id)?.status())
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        Ok(self.shared.ledger.containers(sandbox).iter().map(|container| container.status()).collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        self.shared.ledger.events()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        let found = self.shared.images.find(reference)?;
        let found = found.filter(|(_, record)| self.shared.admits(reference, record));
        Ok(found.map(|(id, record)| images::describe(&id, &record)))
    }

    async fn pull_image(&self, reference: &str, credentials: Option<Credentials>) -> Result<Image> {
        let name = Reference::parse(reference)?;
        self.shared.pull_shared(name, credentials).await
    }

    async fn load_image(&self, reference: &str, source: ImageSource) -> Result<Image> {
        self.shared.load(reference, source).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.shared.images.list())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let (shared, reference) = (self.shared.clone(), reference.to_owned());
        blocking(move || {
            shared.forget(shared.images.remove(&reference)?);
            Ok(())
        })
        .await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.shared.ledger.container(id)?;
        let process = &container.extra;
        Ok(ContainerStats {
            id: container.id.to_string(),
            name: container.config.name.clone(),
            memory_bytes: process.usage.memory_bytes.load(Ordering::Relaxed),
            memory_bytes_peak: process.usage.memory_bytes_peak.load(Ordering::Relaxed),
            cpu_nanos_total: process.usage.cpu_nanos.load(Ordering::Relaxed),
            log_bytes: process.log.lock().as_ref().map_or(0, Log::bytes_total),
        })
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Attached> {
        self.shared.exec(id, request).await
    }

    async fn attach(&self, id: &str, wanted: StreamsWanted) -> Result<Attached> {
        self.shared.attach(id, wanted)
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>> {
        let net = self.shared.net(sandbox)?;
        match net.dial(port).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(Error::Invalid(format!("dial tcp {}:{port}: connect: connection refused", net.ip())))
            }
            Err(error) => Err(Error::Invalid(format!("dial tcp {}:{port}: {error}", net.ip()))),
        }
    }

    async fn shutdown(&self, grace: Duration) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let containers = self.shared.ledger.containers(None);
        futures::future::join_all(containers.iter().map(|container| self.shared.stop(container, grace))).await;
    }
}
