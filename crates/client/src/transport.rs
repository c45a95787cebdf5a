//! A `kube::Client` over two transports: the API server's own service in this process (no socket, no TLS) and HTTPS.

use std::path::Path;

use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, Service};

use crate::Error;

/// A client of an API server in this process. The identity is the service's: requests carry no credentials.
///
/// Needs a tokio runtime: the client hands requests to a task of its own. At most 1024 requests wait for that task.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, "default")
}

/// A client over HTTPS from the current context of a kubeconfig file.
pub async fn from_kubeconfig(path: &Path) -> Result<Client, Error> {
    let named = |source| Error::Kubeconfig { path: path.display().to_string(), source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(named)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(named)?;
    from_config(config)
}

/// A client over HTTPS. Uses ring; sets the process's default provider if nobody has set one.
pub fn from_config(config: Config) -> Result<Client, Error> {
    // Losing the race against another caller is as good: a provider is set then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).map_err(|e| Error::Config(Box::new(e)))
}
