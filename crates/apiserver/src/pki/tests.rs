use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn an_authority_is_kept_and_its_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let first = Pki::open(&path).unwrap();
    let second = Pki::open(&path).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    let (a, b) = (first.token_signer().unwrap(), second.token_signer().unwrap());
    assert_eq!(b.open(&a.sign(&serde_json::json!({"a": 1})).unwrap()).unwrap(), serde_json::json!({"a": 1}));
    for file in ["ca.key", "sa.key"] {
        let mode = std::fs::metadata(path.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    std::fs::write(path.join("ca.key"), "nonsense").unwrap();
    assert!(matches!(Pki::open(&path), Err(PkiError::Damaged { .. })));
}

#[test]
fn an_authority_that_ends_soon_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let now = crate::clock::now();
    let first = store::open(dir.path(), now).unwrap();
    let later = now.checked_add(jiff::SignedDuration::from_hours(24 * 3400)).unwrap();
    assert_ne!(store::open(dir.path(), later).unwrap().ca_pem(), first.ca_pem());
}

#[test]
fn a_client_certificate_carries_user_and_group() {
    let pki = Pki::ephemeral().unwrap();
    let identity = pki.client("system:node:n1", Some("system:nodes")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate_pem.as_bytes()).unwrap();
    let user = crate::authn::user_of_certificate(&pem.contents).unwrap();
    assert_eq!(user, crate::UserInfo::new("system:node:n1", &["system:nodes"]));
}
