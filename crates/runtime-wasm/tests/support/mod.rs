//! A runtime in a temporary directory with one pod, and words for tests of a single runtime.

#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses its part.

pub mod registry;
pub mod signed;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use skiff_runtime::{
    ContainerConfig, ContainerId, Exit, Image, ImageSource, Resources, Result, Runtime, RuntimeEvent, SandboxConfig,
};
use skiff_runtime_wasm::{WasmConfig, WasmRuntime};

pub struct Node {
    pub runtime: Arc<WasmRuntime>,
    pub sandbox: Arc<str>,
    pub directory: tempfile::TempDir,
}

pub struct Run<'a> {
    pub node: &'a Node,
    pub id: ContainerId,
    pub log: PathBuf,
    events: BoxStream<'static, RuntimeEvent>,
}

pub fn config(directory: &tempfile::TempDir) -> WasmConfig {
    let mut config = WasmConfig::new(directory.path().join("root"));
    config.instances_max = Some(100);
    config
}

impl Node {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        Self::with(directory, config).await
    }

    pub async fn with(directory: tempfile::TempDir, config: WasmConfig) -> Self {
        let runtime = WasmRuntime::open(config).unwrap();
        let pod = SandboxConfig {
            name: "pod".to_owned(),
            uid: "uid".to_owned(),
            hostname: "pod-host".to_owned(),
            ..SandboxConfig::default()
        };
        let sandbox = runtime.run_sandbox(pod).await.unwrap().id;
        Self { runtime, sandbox, directory }
    }

    pub async fn load(&self, name: &str, bytes: &[u8]) -> Result<Image> {
        self.runtime.load_image(name, ImageSource::Module(Bytes::copy_from_slice(bytes))).await
    }

    /// A container of that image, with what the test changes.
    pub async fn create(&self, image: &str, change: impl FnOnce(&mut ContainerConfig)) -> Result<Run<'_>> {
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let mut config = ContainerConfig {
            name: format!("c{unique}"),
            image: image.to_owned(),
            log_path: self.directory.path().join(format!("logs/{unique}/0.log")),
            ..ContainerConfig::default()
        };
        change(&mut config);
        let events = self.runtime.events();
        let log = config.log_path.clone();
        let id = self.runtime.create_container(&self.sandbox, config).await?;
        Ok(Run { node: self, id, log, events })
    }

    pub async fn start(&self, image: &str, change: impl FnOnce(&mut ContainerConfig)) -> Run<'_> {
        let run = self.create(image, change).await.unwrap();
        self.runtime.start_container(&run.id).await.unwrap();
        run
    }

    /// Loads text, runs it to its end.
    pub async fn run(&self, text: &str, change: impl FnOnce(&mut ContainerConfig)) -> (Exit, Vec<String>) {
        self.load("localhost/test", text.as_bytes()).await.unwrap();
        let mut run = self.start("localhost/test", change).await;
        let exit = run.exit().await;
        let log = run.log();
        (exit, log)
    }
}

impl Run<'_> {
    pub async fn exit(&mut self) -> Exit {
        let id = self.id.clone();
        let wait = async {
            while let Some(event) = self.events.next().await {
                if matches!(&event, RuntimeEvent::Exited { container, .. } if *container == id) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the container exits");
        self.node.runtime.container_status(&self.id).await.unwrap().exit.unwrap()
    }

    pub async fn exit_reason(&self) -> &'static str {
        self.node.runtime.container_status(&self.id).await.unwrap().exit.unwrap().reason
    }

    /// The text of the log's records.
    pub fn log(&self) -> Vec<String> {
        // What printed nothing has none.
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect()
    }
}

pub fn memory(bytes: u64) -> Resources {
    Resources { memory_bytes_max: Some(bytes), ..Resources::default() }
}
