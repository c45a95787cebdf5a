//! The file by which kubectl and every other client finds the cluster.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Identity, PkiError, store};

/// What goes into a kubeconfig.
#[derive(Debug, Clone, Copy)]
pub struct Kubeconfig<'a> {
    /// The name of cluster and context: `skiff`.
    pub cluster: &'a str,
    pub user: &'a str,
    /// `https://127.0.0.1:6443`
    pub server: &'a str,
    pub ca_pem: &'a str,
    pub identity: &'a Identity,
}

impl Kubeconfig<'_> {
    /// The text of the file.
    pub fn render(&self) -> String {
        let Self { cluster, user, server, .. } = self;
        let ca = STANDARD.encode(self.ca_pem);
        let certificate = STANDARD.encode(&self.identity.certificate_pem);
        let key = STANDARD.encode(&self.identity.key_pem);
        // Compressing for a client on the same machine costs more than it saves.
        let local = server.contains("://127.") || server.contains("://localhost") || server.contains("://[::1]");
        let compression = if local { "    disable-compression: true\n" } else { "" };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\npreferences: {{}}\nclusters:\n- name: {cluster}\n  \
             cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n{compression}users:\n- name: {user}\n  \
             user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\ncontexts:\n- name: {cluster}\n  \
             context:\n    cluster: {cluster}\n    user: {user}\n"
        )
    }
}

/// Writes the file so that only its owner can read it; it is never seen half written.
///
/// # Errors
/// When the directory does not exist or cannot be written.
pub fn write_kubeconfig(path: &Path, config: &Kubeconfig<'_>) -> Result<(), PkiError> {
    store::write_private(path, config.render().as_bytes())
}
