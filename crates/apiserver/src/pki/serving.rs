//! The TLS side of the API server: its certificate, renewed before it ends, and the check of client certificates.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{DAY, Identity, LEAF_DAYS, Pki, PkiError, RENEW_DAYS};
use crate::clock;

impl Pki {
    /// TLS for a server that accepts this authority's client certificates, and clients without one: they bring a
    /// token or are anonymous. HTTP/2 is preferred.
    ///
    /// # Errors
    /// When a name cannot be put into a certificate.
    pub fn tls(&self, common_name: &str, names: &[String]) -> Result<ServerConfig, PkiError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(self.ca_pem())? {
            roots.add(certificate).map_err(tls)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.allow_unauthenticated().build().map_err(tls)?;
        let resolver = Renewing::new(self.clone(), common_name, names, provider.clone())?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            builder.map_err(tls)?.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn tls(reason: impl fmt::Display) -> PkiError {
    PkiError::Tls { reason: reason.to_string() }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(tls)
}

/// Hands out the serving certificate, and a new one when it is about to end.
struct Renewing {
    pki: Pki,
    common_name: String,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    renew_at: i64,
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewing({})", self.common_name)
    }
}

impl Renewing {
    fn new(pki: Pki, common_name: &str, names: &[String], provider: Arc<CryptoProvider>) -> Result<Self, PkiError> {
        let current = RwLock::new(Current::issue(&pki, common_name, names, &provider)?);
        Ok(Self { pki, common_name: common_name.to_owned(), names: names.to_vec(), provider, current })
    }
}

impl Current {
    fn issue(pki: &Pki, common_name: &str, names: &[String], provider: &CryptoProvider) -> Result<Self, PkiError> {
        let Identity { certificate_pem, key_pem } = pki.server(common_name, names)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(tls)?;
        let signer = provider.key_provider.load_private_key(key).map_err(tls)?;
        let certified = CertifiedKey::new(certificates(&certificate_pem)?, signer);
        let lasts = DAY.as_secs() * (LEAF_DAYS - RENEW_DAYS);
        Ok(Self { key: Arc::new(certified), renew_at: clock::now().as_second() + lasts as i64 })
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = clock::now().as_second();
        {
            let current = self.current.read();
            if now < current.renew_at {
                return Some(current.key.clone());
            }
        }
        match Current::issue(&self.pki, &self.common_name, &self.names, &self.provider) {
            Ok(fresh) => *self.current.write() = fresh,
            Err(error) => tracing::error!(%error, "failed to renew the serving certificate"),
        }
        Some(self.current.read().key.clone())
    }
}
