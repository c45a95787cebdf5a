//! The suite, and what is particular to memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use skiff_store::{
    Draft, Key, Op, Store, Transaction,
    conformance::Factory,
    memory::{MemoryStore, Options},
};

struct InMemory;

#[async_trait]
impl Factory for InMemory {
    async fn open(&self, options: Options) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(options))
    }
    fn durable(&self) -> bool {
        false
    }
}

skiff_store::conformance!(InMemory);

/// A waiting watch is woken by the write, not found by a poll.
#[tokio::test(start_paused = true)]
async fn a_waiting_watch_is_woken() {
    use futures::StreamExt;
    let store = Arc::new(MemoryStore::default());
    let mut watch = store.watch(Key::new("a/"), 1).unwrap();
    watch.next().await;
    let reader = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    let draft = Draft { bytes: "1".into(), revision_at: None };
    store.transact(Transaction { expect: vec![], ops: vec![Op::Put(Key::new("a/b"), draft)] }).await.unwrap();
    // With paused time this waits for idleness, not for a second.
    tokio::time::timeout(Duration::from_secs(1), reader).await.unwrap().unwrap().unwrap().unwrap();
}
