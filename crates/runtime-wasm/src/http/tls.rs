//! TLS of outgoing requests: the server is who its certificate says, by the certificate authorities of this machine.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{IpAddr, ServerName},
};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::Error;

/// Read once: hundreds of files. A machine that had none is asked again by the next request.
static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

pub async fn connect(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
    let config = CONFIG.get_or_try_init(config).await.map_err(|reason| Error::InternalError(Some(reason)))?;
    connect_with(config, host, stream).await
}

async fn connect_with(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ServerName::IpAddress(IpAddr::from(ip)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    TlsConnector::from(config.clone()).connect(name, stream).await.map_err(failed)
}

async fn config() -> Result<Arc<ClientConfig>, String> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = read.map_err(|_| "this machine's CA certificates cannot be read".to_owned())?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "this machine has no CA certificates{why}: install them (ca-certificates), or set SSL_CERT_FILE for the node"
        ));
    }
    trust(roots)
}

fn trust(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("no TLS: {error}"))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn failed(error: io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            tracing::debug!(?reason, "certificate of a server refused");
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some((*alert).into()), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate for `a.test`, which nobody has signed; its address and its certificate.
    async fn server() -> (std::net::SocketAddr, rustls::pki_types::CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("it is made");
        let (certificate, key) = (made.cert.der().clone(), PrivateKeyDer::try_from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("there are versions").with_no_client_auth();
        let mut config =
            config.with_single_cert(vec![certificate.clone()], key.expect("it is one")).expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
        let address = listener.local_addr().expect("it has one");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(acceptor.accept(stream));
            }
        });
        (address, certificate)
    }

    #[tokio::test]
    async fn a_server_is_who_a_trusted_certificate_says() {
        let (address, certificate) = server().await;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("it is a certificate");
        let (known, unknown) = (trust(roots), trust(RootCertStore::empty()));
        let (known, unknown) = (known.expect("it has TLS"), unknown.expect("it has TLS"));
        for (config, host, expected) in [
            (&known, "a.test", "trusted"),
            (&known, "b.test", "TLS certificate error"),
            (&known, "127.0.0.1", "TLS certificate error"),
            (&unknown, "a.test", "TLS certificate error"),
            (&known, "not a name", "invalid HTTP request URI"),
        ] {
            let stream = TcpStream::connect(address).await.expect("it connects");
            let said = match connect_with(config, host, stream).await {
                Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => "trusted".to_owned(),
                Ok(_) => "no protocol agreed on".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected, "{host}");
        }
    }
}
