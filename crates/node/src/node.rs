//! Starting and stopping a node.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    node::v1::RuntimeClass,
};
use parking_lot::RwLock;
use skiff_api::quantity::Quantity;
use skiff_client::{Recorder, Rest, SharedCache};
use skiff_reconcile::{Codec, KindRef};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    agent::{Agent, Dirs},
    config::NodeConfig,
    heartbeat, register, server, sync_loop,
    usage::{self, Usage},
    volumes,
};

/// Between tries to register while the API does not answer.
const REGISTER_RETRY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Node;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a node needs at least one runtime")]
    NoRuntime,
    #[error("capacity {resource}: {quantity:?} is not a quantity: write it like \"2\" or \"4Gi\"")]
    Capacity { resource: String, quantity: String },
    #[error("failed to make the node's data directory {}", path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A running node. Dropping it does not stop the node: see [`NodeHandle::shutdown`].
#[derive(Clone)]
pub struct NodeHandle {
    agent: Arc<Agent>,
    up: watch::Receiver<u8>,
}

/// Registered, and listening for pods.
const UP: u8 = 2;

impl Node {
    /// Starts a node in the background: it registers as soon as the API answers. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub async fn start(config: NodeConfig) -> Result<NodeHandle, StartError> {
        if config.runtimes.is_empty() {
            return Err(StartError::NoRuntime);
        }
        for (resource, quantity) in &config.capacity {
            if Quantity::parse(quantity).is_err() {
                let (resource, quantity) = (resource.clone(), quantity.clone());
                return Err(StartError::Capacity { resource, quantity });
            }
        }
        let made = tokio::fs::create_dir_all(&config.data_dir).await;
        made.map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })?;
        let client = config.client.clone();
        let shared = config.shared.clone().unwrap_or_else(|| SharedCache::new(client.clone()));
        shared.declare_kind::<Service>();
        shared.declare_kind::<RuntimeClass>();
        for kind in [KindRef::of::<ConfigMap>(), KindRef::of::<Secret>()] {
            shared.declare(Codec::metadata(kind));
        }
        let recorder = Recorder::start(client.clone(), "kubelet", config.name.clone(), config.clock.clone());
        let limits = config.limits.clone();
        let agent = Arc::new(Agent {
            rest: Rest::new(client),
            recorder,
            shared,
            dirs: Dirs::new(config.data_dir.clone()),
            capacity: register::capacity(&config),
            starts: Semaphore::new(limits.starts_max),
            pulls: Semaphore::new(limits.pulls_max),
            writes: Semaphore::new(limits.writes_max),
            refreshes: Semaphore::new(volumes::REFRESHES_MAX),
            live: volumes::Live::default(),
            pods: RwLock::new(HashMap::new()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            usage: Usage::default(),
            status_changed: Notify::new(),
            config,
        });
        let (up, up_receiver) = watch::channel(0);
        let up = Arc::new(up);
        let registered = up.clone();
        agent.tasks.spawn(register_and_beat(agent.clone(), move || registered.send_modify(|n| *n += 1)));
        agent.tasks.spawn(usage::sample(agent.clone()));
        agent.tasks.spawn(sync_loop::run(agent.clone(), move || up.send_modify(|n| *n += 1)));
        Ok(NodeHandle { agent, up: up_receiver })
    }
}

/// Registers, then keeps the lease and the status up to date.
async fn register_and_beat(agent: Arc<Agent>, registered: impl FnOnce()) {
    let node = loop {
        let status = register::status(&agent, None).await;
        match register::register(&agent, &status).await {
            Ok(node) => break (node, status),
            Err(error) => warn!(%error, node = agent.config.name, "node not registered, trying again"),
        }
        tokio::select! {
            () = agent.stop.cancelled() => return,
            () = tokio::time::sleep(REGISTER_RETRY) => {}
        }
    };
    let (node, status) = node;
    info!(node = agent.config.name, "node registered");
    registered();
    let uid = node.metadata.uid.unwrap_or_default();
    tokio::join!(heartbeat::lease(agent.clone(), uid), heartbeat::status(agent, status));
}

impl NodeHandle {
    pub fn name(&self) -> &str {
        &self.agent.config.name
    }

    /// The kubelet's HTTP server: whoever serves it authenticates and authorizes.
    pub fn router(&self) -> Router {
        server::router(self.agent.clone())
    }

    /// Waits until the node is registered and listens for pods.
    pub async fn ready(&self) {
        // The sender lives as long as the node tries; after that there is nothing to wait for.
        let _ = self.up.clone().wait_for(|n| *n >= UP).await;
    }

    /// Stops the node: pods are not planned any more, their statuses stay as they are, their containers are stopped
    /// within `grace`. Started again, the node goes on by the pods' restart policies.
    pub async fn shutdown(&self, grace: Duration) {
        self.agent.stop.cancel();
        self.agent.tasks.close();
        self.agent.tasks.wait().await;
        join_all(self.agent.config.runtimes.iter().map(|r| r.shutdown(grace))).await;
    }
}
