//! An API server alone on the in-memory store, for trying clients on it:
//! `cargo run -p skiff-apiserver --example serve -- 127.0.0.1:6443 /tmp/kubeconfig`.

use std::{path::PathBuf, sync::Arc};

use skiff_apiserver::{
    ApiServer, ApiServerConfig, NoNodes,
    pki::{self, Kubeconfig, Pki},
};
use skiff_store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let kubeconfig = PathBuf::from(args.next().unwrap_or_else(|| "kubeconfig".to_owned()));
    let listener = TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    let pki = Pki::ephemeral()?;
    let mut config = ApiServerConfig::new(Arc::new(MemoryStore::default()), Arc::new(NoNodes));
    config.advertise = Some(address);
    config.token_signer = Some(pki.token_signer()?);
    let tls = pki.tls("skiff-apiserver", &pki::api_server_names(config.service_ip, &[]))?;
    let api = ApiServer::new(config);
    api.bootstrap().await?;
    let identity = pki.client("kubernetes-admin", Some("system:masters"))?;
    let server = format!("https://{address}");
    let admin =
        Kubeconfig { cluster: "skiff", user: "admin", server: &server, ca_pem: pki.ca_pem(), identity: &identity };
    pki::write_kubeconfig(&kubeconfig, &admin)?;
    eprintln!("ready: {server} kubeconfig={}", kubeconfig.display());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    api.serve(listener, tls, shutdown).await;
    api.shut_down().await;
    Ok(())
}
