//! The suite that every store passes, on a directory.

use std::sync::Arc;

use async_trait::async_trait;
use skiff_store::{Store, conformance::Factory, memory};
use skiff_store_redb::{Options, RedbStore};

struct InDirectory(tempfile::TempDir);

#[async_trait]
impl Factory for InDirectory {
    async fn open(&self, memory: memory::Options) -> Arc<dyn Store> {
        Arc::new(
            RedbStore::open(self.0.path(), Options { memory, ..Options::default() }).expect("the directory is free"),
        )
    }
    fn durable(&self) -> bool {
        true
    }
}

skiff_store::conformance!(InDirectory(tempfile::tempdir().unwrap()));
