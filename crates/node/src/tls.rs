//! TLS to the servers of pods, for probes, hooks and the proxy. As upstream, certificates are not verified.

use std::sync::Arc;

use skiff_runtime::Connection;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, IpAddr as NameIp, ServerName, UnixTime},
    },
};

/// A connection to a server that has a certificate, whosever it is.
///
/// # Errors
/// Why the handshake failed.
pub async fn encrypted(connection: Box<dyn Connection>, host: &str) -> Result<Box<dyn Connection>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(|e| e.to_string())?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth();
    let name = match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ServerName::IpAddress(NameIp::from(ip)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?,
    };
    let stream = TlsConnector::from(Arc::new(config)).connect(name, connection).await;
    stream.map(|stream| Box::new(stream) as _).map_err(|e| e.to_string())
}

/// Whoever asks knows where the server is, not who it is: its certificate may be self-signed, and of another name. That the
/// server has the certificate's key is checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
