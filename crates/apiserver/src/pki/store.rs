//! The authority in a directory: `ca.crt`, `ca.key`, `sa.key`, readable by their owner only.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rcgen::KeyPair;

use super::{LEAF_DAYS, Pki, PkiError, new_authority, new_key};

pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Pki, PkiError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| file("create", dir, &e))?;
    let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let kept = match (read(&certificate)?, read(&key)?) {
        (Some(pem), Some(key_pem)) => Some((pem, key_pem)),
        _ => None,
    };
    let (ca_pem, ca_key) = match kept {
        // An authority must outlive what it issues.
        Some((pem, key_pem)) if ends(&certificate, &pem)? > now.as_second() + LEAF_DAYS as i64 * 86_400 => {
            (pem, parse_key(&key, &key_pem)?)
        }
        _ => {
            let (pem, made) = new_authority(now)?;
            write_private(&key, made.serialize_pem().as_bytes())?;
            write_private(&certificate, pem.as_bytes())?;
            (pem, made)
        }
    };
    let path = dir.join("sa.key");
    let service_accounts = match read(&path)? {
        Some(pem) => parse_key(&path, &pem)?,
        None => {
            let made = new_key("service accounts")?;
            write_private(&path, made.serialize_pem().as_bytes())?;
            made
        }
    };
    Pki::from_parts(&ca_pem, ca_key, service_accounts)
}

fn file(verb: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> PkiError {
    PkiError::File { verb, path: path.display().to_string(), reason: reason.to_string() }
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> PkiError {
    PkiError::Damaged { path: path.display().to_string(), reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file("read", path, &e)),
    }
}

fn parse_key(path: &Path, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(pem).map_err(|e| damaged(path, &e))
}

/// The end of a certificate, in seconds since 1970.
fn ends(path: &Path, pem: &str) -> Result<i64, PkiError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| damaged(path, &e))?;
    let certificate = block.parse_x509().map_err(|e| damaged(path, &e))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// Replaces a file as a whole: after a crash there is the old one or the new one. Mode 0600.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let mut aside: PathBuf = path.to_owned();
    aside.as_mut_os_string().push(format!(".{}", std::process::id()));
    let written = (|| {
        let _ = fs::remove_file(&aside);
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&aside, path)
    })();
    written.map_err(|e| file("write", path, &e))
}
