//! The only place that names a concrete store or runtime: a whole cluster from its parts.
//!
//! The order of the start is the order of the errors that a user can do something about: the port, the data directory,
//! then everything else. What can start side by side does.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::{Router, body::Body};
use k8s_openapi::api::core::v1::Taint;
use kube::Client;
use parking_lot::RwLock;
use skiff_apiserver::{
    ApiServer, ApiServerConfig, NodeConnector, NodeError, UserInfo,
    pki::{self, Kubeconfig, Pki},
};
use skiff_client::SharedCache;
use skiff_manager::{Manager, ManagerConfig, ManagerHandle};
use skiff_node::{Limits, Node, NodeConfig, NodeHandle};
use skiff_runtime::{Runtime, fake::FakeRuntime};
pub use skiff_runtime_wasm::INSTANCES_MAX_DEFAULT as CONTAINERS_MAX_DEFAULT;
pub use skiff_runtime_wasm::Network;
use skiff_runtime_wasm::{SignaturePolicy, WasmConfig, WasmRuntime};
use skiff_store::{Store, memory::MemoryStore};
use skiff_store_redb::RedbStore;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long containers get to end when the process stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Of the Service `default/kubernetes`, as it is in every cluster.
const SERVICE_PORT: u16 = 443;

/// The label of a simulated node, and the key of its taint.
pub const SIMULATED: &str = "skiff.dev/simulated";

/// What a cluster in this process is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything durable lives, and the kubeconfig unless it is named.
    pub data_dir: PathBuf,
    /// State in memory and in a temporary directory, gone at exit.
    pub ephemeral: bool,
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to write the administrator's kubeconfig; default `DATA_DIR/kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// Wasm nodes.
    pub nodes: usize,
    /// Simulated nodes. Beside Wasm nodes they are tainted with [`SIMULATED`], so that no program is sent to where
    /// nothing runs; on their own they take every pod.
    pub fake_nodes: usize,
    /// The most containers alive at once on all Wasm nodes together: their pools share this process's address space.
    pub containers_max: usize,
    /// Which images must be signed.
    pub signatures: SignaturePolicy,
    /// Of each node.
    pub node_limits: Limits,
    /// Wasm nodes run components of WASI 0.3.
    pub wasi_0_3: bool,
    /// Wasm nodes start large modules with Winch until Cranelift has compiled them.
    pub fast_first_start: bool,
}

impl Options {
    /// One Wasm node on a free port, nothing kept.
    pub fn throwaway() -> Self {
        Self {
            data_dir: PathBuf::new(),
            ephemeral: true,
            listen: ([127, 0, 0, 1], 0).into(),
            kubeconfig: None,
            nodes: 1,
            fake_nodes: 0,
            containers_max: CONTAINERS_MAX_DEFAULT,
            signatures: SignaturePolicy::default(),
            node_limits: Limits::default(),
            wasi_0_3: false,
            fast_first_start: false,
        }
    }
}

/// A cluster that runs until it is stopped.
pub struct Cluster {
    api: Arc<ApiServer>,
    store: Arc<dyn Store>,
    admin: Client,
    url: String,
    kubeconfig: PathBuf,
    caches: SharedCache,
    manager: ManagerHandle,
    nodes: Vec<NodeHandle>,
    runtimes: Vec<Arc<dyn Runtime>>,
    network: Arc<Network>,
    serving: JoinHandle<()>,
    shutdown: CancellationToken,
    /// Of an ephemeral cluster; removed when this is dropped.
    _temporary: Option<TempDir>,
}

/// Where the parts of a cluster keep what.
struct Places {
    data: PathBuf,
    kubeconfig: PathBuf,
    temporary: Option<TempDir>,
}

impl Places {
    fn of(options: &Options) -> Result<Self> {
        let temporary = if options.ephemeral {
            Some(TempDir::with_prefix("skiff-").context("failed to make a temporary directory")?)
        } else {
            None
        };
        let data = temporary.as_ref().map_or_else(|| options.data_dir.clone(), |t| t.path().to_owned());
        let beside = if options.data_dir.as_os_str().is_empty() { &data } else { &options.data_dir };
        let kubeconfig = options.kubeconfig.clone().unwrap_or_else(|| beside.join("kubeconfig"));
        Ok(Self { data, kubeconfig, temporary })
    }

    fn node(&self, name: &str) -> PathBuf {
        self.data.join("nodes").join(name)
    }
}

impl Cluster {
    /// Returns when the API answers and every node is Ready.
    ///
    /// # Errors
    /// With the port, the directory or the part that failed, and what to do.
    pub async fn start(options: Options) -> Result<Self> {
        let listener = listen(options.listen).await?;
        let address = listener.local_addr().context("failed to read the address of the listener")?;
        let url = format!("https://{address}");
        let places = Places::of(&options)?;
        let store = open_store(&options, &places.data)?;
        let pki = open_pki(&options, &places.data)?;

        let connector = Arc::new(InProcessNodes::default());
        let mut config = ApiServerConfig::new(store.clone(), connector.clone());
        config.advertise = Some(address);
        let tls = pki.tls("skiff-apiserver", &pki::api_server_names(config.service_ip, &[address.ip().to_string()]))?;
        let service = SocketAddr::new(config.service_ip, SERVICE_PORT);
        let api = ApiServer::new(config);
        api.bootstrap().await.context("failed to create the objects that every cluster has")?;
        write_kubeconfig(&pki, &url, &places.kubeconfig)?;
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn({
            let (api, shutdown) = (api.clone(), shutdown.clone());
            async move { api.serve(listener, tls, shutdown).await }
        });

        let controllers = client(&api, "system:kube-controller-manager", &[]);
        let caches = SharedCache::new(controllers.clone());
        let manager = Manager::start(ManagerConfig {
            client: controllers,
            scheduler_client: Some(client(&api, "system:kube-scheduler", &[])),
            caches: Some(caches.clone()),
            leader_elect: false,
            root_ca_pem: pki.ca_pem().to_owned(),
            clock: skiff_client::system_clock(),
        });
        let network = Network::open().context("failed to take addresses for pods in 127.0.0.0/8")?;
        network.publish_api(service, address);
        let mut cluster = Self {
            admin: skiff_client::in_process(api.service(UserInfo::admin())),
            api,
            store,
            url,
            kubeconfig: places.kubeconfig.clone(),
            caches,
            manager,
            nodes: Vec::new(),
            runtimes: Vec::new(),
            network: network.clone(),
            serving,
            shutdown,
            _temporary: None,
        };
        if let Err(error) = cluster.start_nodes(&options, &places, &connector, &network).await {
            cluster.stop().await;
            return Err(error);
        }
        cluster._temporary = places.temporary;
        Ok(cluster)
    }

    async fn start_nodes(
        &mut self,
        options: &Options,
        places: &Places,
        connector: &InProcessNodes,
        network: &Arc<Network>,
    ) -> Result<()> {
        let mut starting = Vec::new();
        for index in 1..=options.nodes {
            let name = format!("skiff-{index}");
            let dir = places.node(&name);
            let mut config = WasmConfig::new(dir.join("runtime"));
            config.network = Some(network.clone());
            config.instances_max = Some((options.containers_max / options.nodes).max(1));
            config.signatures = options.signatures.clone();
            config.wasi_0_3 = options.wasi_0_3;
            config.fast_first_start = options.fast_first_start;
            let runtime =
                WasmRuntime::open(config).with_context(|| format!("failed to open the Wasm runtime of {name}"))?;
            starting.push(self.node(name, dir, runtime, &options.node_limits));
        }
        for index in 1..=options.fake_nodes {
            let name = format!("fake-{index}");
            let dir = places.node(&name);
            let (name, mut config) = self.node(name, dir, FakeRuntime::new(), &options.node_limits);
            config.labels.insert(SIMULATED.to_owned(), "true".to_owned());
            if options.nodes > 0 {
                config.taints.push(Taint {
                    key: SIMULATED.to_owned(),
                    value: Some("true".to_owned()),
                    effect: "NoSchedule".to_owned(),
                    time_added: None,
                });
            }
            starting.push((name, config));
        }
        for (name, config) in starting {
            let handle = Node::start(config).await.with_context(|| format!("failed to start node {name}"))?;
            connector.add(name, handle.router());
            self.nodes.push(handle);
        }
        for node in &self.nodes {
            node.ready().await;
        }
        Ok(())
    }

    fn node(&mut self, name: String, dir: PathBuf, runtime: Arc<dyn Runtime>, limits: &Limits) -> (String, NodeConfig) {
        self.runtimes.push(runtime.clone());
        let user = format!("system:node:{name}");
        let client = client(&self.api, &user, &["system:nodes"]);
        let mut config = NodeConfig::new(name.clone(), client, runtime, dir.join("node"));
        config.shared = Some(self.caches.clone());
        config.limits = limits.clone();
        (name, config)
    }

    /// An administrator, in process.
    pub fn client(&self) -> Client {
        self.admin.clone()
    }

    /// `https://ADDR:PORT`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The addresses of its pods.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Stops the containers, then the loops, then the API, then the store.
    pub async fn stop(self) {
        self.manager.shutdown().await;
        futures::future::join_all(self.nodes.iter().map(|node| node.shutdown(STOP_GRACE))).await;
        futures::future::join_all(self.runtimes.iter().map(|runtime| runtime.shutdown(STOP_GRACE))).await;
        self.caches.shutdown().await;
        self.shutdown.cancel();
        self.api.shut_down().await;
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the API listener ended badly");
        }
        self.store.close().await;
    }
}

/// A client of a component, with the component's own identity.
fn client(api: &Arc<ApiServer>, user: &str, groups: &[&str]) -> Client {
    skiff_client::in_process(api.service(UserInfo::new(user, groups)))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("{address} is in use by another process: stop it, or choose another with --listen ADDR:PORT")
        }
        Err(error) => Err(error).with_context(|| format!("failed to listen on {address}")),
    }
}

fn open_store(options: &Options, data: &Path) -> Result<Arc<dyn Store>> {
    if options.ephemeral {
        return Ok(Arc::new(MemoryStore::default()));
    }
    Ok(Arc::new(RedbStore::open(&data.join("store"), skiff_store_redb::Options::default())?))
}

fn open_pki(options: &Options, data: &Path) -> Result<Pki> {
    if options.ephemeral {
        return Ok(Pki::ephemeral()?);
    }
    let dir = data.join("pki");
    Pki::open(&dir).with_context(|| format!("failed to open the keys in {}", dir.display()))
}

fn write_kubeconfig(pki: &Pki, url: &str, path: &Path) -> Result<()> {
    let identity = pki.client("kubernetes-admin", Some("system:masters"))?;
    let config = Kubeconfig { cluster: "skiff", user: "admin", server: url, ca_pem: pki.ca_pem(), identity: &identity };
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    pki::write_kubeconfig(path, &config).with_context(|| format!("failed to write the kubeconfig {}", path.display()))
}

/// Reaches the nodes of this process without a socket.
#[derive(Default)]
struct InProcessNodes(RwLock<HashMap<String, Router>>);

impl InProcessNodes {
    fn add(&self, name: String, router: Router) {
        self.0.write().insert(name, router);
    }
}

#[async_trait::async_trait]
impl NodeConnector for InProcessNodes {
    async fn call(&self, node: &str, request: http::Request<Body>) -> Result<http::Response<Body>, NodeError> {
        let router = self.0.read().get(node).cloned();
        let router = router.ok_or_else(|| NodeError::Unknown { node: node.to_owned() })?;
        match router.oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}
