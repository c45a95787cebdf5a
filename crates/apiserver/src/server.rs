//! The API server as a value: what every request shares.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use skiff_api::kinds;
use skiff_store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    authn::{StaticToken, UserInfo},
    http::discovery::Documents,
    limits::{Gates, Limits},
    metrics::Metrics,
    nodes::NodeConnector,
    priority::DefaultPriority,
    registry::Registry,
    service::InProcess,
    service_accounts::TokenSigner,
    usage::Usage,
};

pub use crate::bootstrap::BootstrapError;

/// What an API server is made of.
pub struct ApiServerConfig {
    pub store: Arc<dyn Store>,
    pub nodes: Arc<dyn NodeConnector>,
    /// Bearer tokens beside client certificates.
    pub tokens: Vec<StaticToken>,
    /// Signs and checks the tokens of ServiceAccounts; without it they are not served.
    pub token_signer: Option<TokenSigner>,
    pub limits: Limits,
    /// How long an event is kept after its last write.
    pub event_ttl: Duration,
    /// The address of the service `kubernetes` in the namespace `default`.
    pub service_ip: IpAddr,
    /// Where that service leads: the address and port at which clients in the cluster reach this server.
    pub advertise: Option<std::net::SocketAddr>,
}

impl ApiServerConfig {
    /// Everything else at its default.
    pub fn new(store: Arc<dyn Store>, nodes: Arc<dyn NodeConnector>) -> Self {
        Self {
            store,
            nodes,
            tokens: Vec::new(),
            token_signer: None,
            limits: Limits::default(),
            event_ttl: Duration::from_secs(3600),
            service_ip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
            advertise: None,
        }
    }
}

/// The API server. It serves in-process clients through [`ApiServer::service`] and the network through
/// [`ApiServer::serve`]; both take the same way.
pub struct ApiServer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) nodes: Arc<dyn NodeConnector>,
    pub(crate) tokens: Vec<StaticToken>,
    pub(crate) token_signer: Option<TokenSigner>,
    pub(crate) registry: Registry,
    pub(crate) limits: Limits,
    pub(crate) gates: Gates,
    pub(crate) metrics: Metrics,
    pub(crate) documents: Documents,
    pub(crate) default_priority: DefaultPriority,
    pub(crate) usage: Usage,
    pub(crate) event_ttl: Duration,
    pub(crate) service_ip: IpAddr,
    pub(crate) advertise: Option<std::net::SocketAddr>,
    /// Ends watches and background tasks.
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// Starts nothing: [`ApiServer::bootstrap`] does.
    pub fn new(config: ApiServerConfig) -> Arc<Self> {
        Arc::new(Self {
            gates: Gates::new(&config.limits),
            metrics: Metrics::new(),
            documents: Documents::default(),
            registry: Registry::new(kinds::builtin().iter().chain(&skiff_api::metrics_k8s::kinds())),
            usage: Usage::default(),
            store: config.store,
            nodes: config.nodes,
            tokens: config.tokens,
            token_signer: config.token_signer,
            limits: config.limits,
            default_priority: DefaultPriority::default(),
            event_ttl: config.event_ttl,
            service_ip: config.service_ip,
            advertise: config.advertise,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// A client of this server in the same process, acting as `user`: no socket, no TLS. It goes under
    /// `kube::Client::new`.
    pub fn service(self: &Arc<Self>, user: UserInfo) -> InProcess {
        InProcess::new(self.clone(), user)
    }

    /// Ends every watch and background task, and waits for the tasks.
    pub async fn shut_down(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
