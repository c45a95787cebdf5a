//! Measures the store on a directory: `cargo run --release -p skiff-store-redb --example throughput -- [DIR]`.
//!
//! Creates by one writer, by 16 and by 64, the same with watchers, a list of 5,000 objects, an open with 100,000
//! objects.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{ops::Bound, path::PathBuf, sync::Arc, time::Instant};

use futures::StreamExt;
use skiff_store::{Draft, Expect, Key, ListRequest, Op, Store, Transaction};
use skiff_store_redb::{Options, RedbStore};

fn create(kind: &str, n: usize) -> Transaction {
    let key = Key::new(format!("core/{kind}/default/object-{n:06}"));
    let draft = Draft { bytes: format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1000)).into(), revision_at: None };
    Transaction { expect: vec![(key.clone(), Expect::Absent)], ops: vec![Op::Put(key, draft)] }
}

async fn creates(store: &Arc<RedbStore>, what: &str, writers: usize, each: usize) {
    let begin = Instant::now();
    let writer = |w: usize| {
        let (store, kind) = (store.clone(), format!("configmaps{what}"));
        async move {
            for n in 0..each {
                store.transact(create(&kind, w * each + n)).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..writers).map(|w| tokio::spawn(writer(w))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what:>4} writers: {:7.0} creates/s", (writers * each) as f64 / seconds);
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("skiff-throughput"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);
    let store = Arc::new(RedbStore::open(&dir, Options::default()).unwrap());
    creates(&store, "1", 1, 500).await;
    creates(&store, "16", 16, 500).await;
    creates(&store, "64", 64, 500).await;

    // As on a busy cluster: 20 watch a kind, 500 one object each.
    let prefixes = (0..20).map(|_| "core/configmaps16w/".to_owned());
    let prefixes = prefixes.chain((0..500).map(|n| format!("core/configmaps16w/default/object-{n:06}")));
    let watchers: Vec<_> = prefixes
        .map(|prefix| {
            let mut watch = store.watch(Key::new(prefix), store.revision()).unwrap();
            tokio::spawn(async move { while watch.next().await.is_some_and(|item| item.is_ok()) {} })
        })
        .collect();
    creates(&store, "16w", 16, 500).await;
    watchers.iter().for_each(tokio::task::JoinHandle::abort);

    for batch in 0..100 {
        let ops = (0..1000).map(|n| create("pods", batch * 1000 + n).ops.remove(0)).collect();
        store.transact(Transaction { expect: vec![], ops }).await.unwrap();
    }
    let list = |limit| ListRequest { prefix: Key::new("core/pods/"), start: Bound::Unbounded, limit, at: None };
    let begin = Instant::now();
    assert_eq!(store.list(list(5000)).await.unwrap().entries.len(), 5000);
    println!("list of 5,000 (of 100,000): {:?}", begin.elapsed());
    creates(&store, "16+", 16, 500).await;

    // The file as a crash leaves it: never closed.
    let crashed = dir.join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    let bytes = std::fs::copy(dir.join("store.redb"), crashed.join("store.redb")).unwrap();
    let total = store.count(&Key::new(""));
    store.close().await;
    for (what, dir) in [("", &dir), (" after a crash", &crashed)] {
        let begin = Instant::now();
        let store = RedbStore::open(dir, Options::default()).unwrap();
        println!("open{what} with {total} objects, {} MiB: {:?}", bytes >> 20, begin.elapsed());
        assert_eq!(store.count(&Key::new("")), total);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
