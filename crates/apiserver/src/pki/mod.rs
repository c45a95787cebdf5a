//! The cluster's own certificate authority: it proves the API server to its clients and its clients to the API server.
//!
//! What must stay true: private keys are in memory, or in files that only their owner can read. Only the authority
//! and the key that signs ServiceAccount tokens are kept; every other certificate is issued when it is needed and
//! renewed before it ends.

mod kubeconfig;
mod serving;
mod store;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::TokenSigner;

pub use kubeconfig::{Kubeconfig, write_kubeconfig};

/// How long the authority lasts, and how long what it issues.
const CA_DAYS: u64 = 3650;
const LEAF_DAYS: u64 = 365;
/// A certificate with less than this left is replaced.
const RENEW_DAYS: u64 = 30;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("failed to make a certificate for {subject}: {reason}")]
    Issue { subject: String, reason: String },
    #[error("failed to {verb} {path}: {reason}")]
    File { verb: &'static str, path: String, reason: String },
    /// A key or certificate that was kept is not one. Move the directory away to start with a new authority.
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error("failed to set up TLS: {reason}")]
    Tls { reason: String },
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// The authority. Cheap to clone.
#[derive(Clone)]
pub struct Pki {
    inner: Arc<Inner>,
}

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    service_account_key: KeyPair,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki")
    }
}

impl Pki {
    /// A new authority that is gone at exit.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let (ca_pem, key) = new_authority(crate::clock::now())?;
        Self::from_parts(&ca_pem, key, new_key("service accounts")?)
    }

    /// The authority in `dir`; a new one when there is none or it is about to end.
    ///
    /// # Errors
    /// When the directory cannot be written or what is in it is damaged.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        store::open(dir, crate::clock::now())
    }

    fn from_parts(ca_pem: &str, key: KeyPair, service_account_key: KeyPair) -> Result<Self, PkiError> {
        let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(|e| issue("the authority", &e))?;
        Ok(Self { inner: Arc::new(Inner { issuer, ca_pem: ca_pem.to_owned(), service_account_key }) })
    }

    /// What clients trust, and what goes into `kube-root-ca.crt`.
    pub fn ca_pem(&self) -> &str {
        &self.inner.ca_pem
    }

    /// Signs and checks the tokens of ServiceAccounts with the key that is kept beside the authority.
    ///
    /// # Errors
    /// When that key is not one for ECDSA on P-256.
    pub fn token_signer(&self) -> Result<TokenSigner, PkiError> {
        let damaged = |reason: String| PkiError::Damaged { path: "sa.key".to_owned(), reason };
        TokenSigner::new(self.inner.service_account_key.serialized_der()).map_err(damaged)
    }

    /// A client certificate: `user` becomes the user name, `group` its group (`system:masters`, `system:nodes`).
    ///
    /// # Errors
    /// When the name cannot be put into a certificate.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Identity, PkiError> {
        let mut params = leaf(user, group, ExtendedKeyUsagePurpose::ClientAuth);
        valid_for(&mut params, crate::clock::now(), LEAF_DAYS);
        self.sign(user, params)
    }

    /// A serving certificate for these DNS names and addresses.
    ///
    /// # Errors
    /// When a name cannot be put into a certificate.
    pub fn server(&self, common_name: &str, names: &[String]) -> Result<Identity, PkiError> {
        let mut params = leaf(common_name, None, ExtendedKeyUsagePurpose::ServerAuth);
        valid_for(&mut params, crate::clock::now(), LEAF_DAYS);
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|e| issue(name, &e))?),
            });
        }
        self.sign(common_name, params)
    }

    fn sign(&self, subject: &str, params: CertificateParams) -> Result<Identity, PkiError> {
        let key = new_key(subject)?;
        let certificate = params.signed_by(&key, &self.inner.issuer).map_err(|e| issue(subject, &e))?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// The names under which clients in and out of the cluster reach the API server, beside `extra`.
pub fn api_server_names(service_ip: IpAddr, extra: &[String]) -> Vec<String> {
    let fixed = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut names: Vec<String> = fixed.iter().map(|n| (*n).to_owned()).collect();
    names.push(service_ip.to_string());
    for name in extra.iter().filter(|n| !n.is_empty()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn issue(subject: &str, reason: &dyn std::fmt::Display) -> PkiError {
    PkiError::Issue { subject: subject.to_owned(), reason: reason.to_string() }
}

fn new_key(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| issue(subject, &e))
}

fn new_authority(now: Timestamp) -> Result<(String, KeyPair), PkiError> {
    let key = new_key("the authority")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "skiff-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, now, CA_DAYS);
    let certificate = params.self_signed(&key).map_err(|e| issue("the authority", &e))?;
    Ok((certificate.pem(), key))
}

fn leaf(common_name: &str, organization: Option<&str>, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

/// From a little before now, because clocks differ.
fn valid_for(params: &mut CertificateParams, now: Timestamp, days: u64) {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = now - Duration::from_secs(300);
    params.not_after = now + DAY * u32::try_from(days).unwrap_or(u32::MAX);
}

#[cfg(test)]
mod tests;
