//! Directories that cannot be used: each is told in words that say what to do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use redb::TableDefinition;
use skiff_store::{Draft, Key, Op, Store, Transaction};
use skiff_store_redb::{OpenError, Options, RedbStore};

fn open(dir: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::open(dir, Options { cache_bytes: 1 << 20, ..Options::default() })
}

async fn write(store: &RedbStore, n: usize) {
    let draft = Draft { bytes: format!("value {n}").into(), revision_at: None };
    let ops = vec![Op::Put(Key::new(format!("core/pods/default/{n}")), draft)];
    store.transact(Transaction { expect: vec![], ops }).await.unwrap();
}

#[tokio::test]
async fn the_directory_is_created_and_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let store = open(&dir).unwrap();
    write(&store, 1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|f| mode(f) == 0o600), "{files:?}");
}

#[test]
fn in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error, OpenError::InUse { path: dir.path().display().to_string(), pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("is in use by the process {}; stop it", std::process::id())));
    drop(first);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_closed_store_frees_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    first.close().await;
    open(dir.path()).unwrap();
}

#[test]
fn from_a_newer_version() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let database = redb::Database::open(dir.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { format: 2, .. }), "{error}");
    assert!(error.to_string().contains("was written by a newer version (format 2, this one knows 1)"), "{error}");
}

#[test]
fn not_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path).err().unwrap();
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
    }
}

#[test]
fn read_only() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(dir.path().join("probe"), "").is_ok() {
        // Root may write anywhere; the mapping of errors has its own test.
        return;
    }
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..50 {
        write(&store, n).await;
    }
    drop(store);
    let file = dir.path().join("store.redb");
    let good = fs::read(&file).unwrap();
    let spoiled: [(&str, Vec<u8>); 4] = [
        ("other content", b"this is a text, not a database".repeat(500)),
        ("cut short", good[..good.len() / 3].to_vec()),
        ("zeros", vec![0; good.len()]),
        ("no tables", [&good[..4096], &vec![0xA5; good.len() - 4096]].concat()),
    ];
    for (how, bytes) in spoiled {
        fs::write(&file, bytes).unwrap();
        let error = open(dir.path()).err().unwrap_or_else(|| panic!("{how}: it opens"));
        assert!(matches!(error, OpenError::Corrupted { .. }), "{how}: {error}");
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
    }
    fs::write(&file, good).unwrap();
    assert_eq!(open(dir.path()).unwrap().count(&Key::new("")), 50);
}

/// A crash while the very first database was written leaves no trace of it under its name.
#[test]
fn an_unfinished_first_start_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store.redb.new"), "half a database").unwrap();
    open(dir.path()).unwrap();
}
