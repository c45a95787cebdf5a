//! Power loss and disk errors at random points: what was acknowledged is there, nothing is half there, and the store
//! agrees with the in-memory model all along.

#![allow(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::{collections::BTreeMap, ops::Bound, time::Duration};

use disk::{Fault, SimDisk};
use proptest::{collection::vec, prelude::*};
use skiff_store::{
    Draft, Error, Expect, Key, ListRequest, Op, Revision, Store, Transaction, WatchItem, memory::MemoryStore,
};
use skiff_store_redb::{Options, RedbStore};

fn options() -> Options {
    Options { retry_after: Duration::ZERO, cache_bytes: 1 << 20, ..Options::default() }
}

fn key(n: u8) -> Key {
    Key::new(format!("core/configmaps/default/{n:03}"))
}

/// Values of up to a few pages, so that rows move between pages.
fn draft(n: u8, seed: u16) -> Draft {
    let text = format!("\"\"{n}:{seed}:{}", "x".repeat(usize::from(seed % 9) * 700));
    Draft { bytes: text.into(), revision_at: Some(1) }
}

fn put(n: u8, seed: u16) -> Transaction {
    Transaction { expect: vec![], ops: vec![Op::Put(key(n), draft(n, seed))] }
}

#[derive(Clone, Debug)]
enum Step {
    /// These, at once: they share groups.
    Write(Vec<Transaction>),
    /// The power fails while these are written, after some steps of the disk.
    Crash { during: Vec<Transaction>, after: usize, dice: u64 },
    /// The same disk, closed and opened.
    Restart,
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let expect = prop_oneof![Just(Expect::Absent), Just(Expect::Present), (1..40u64).prop_map(Expect::At)];
    let write = (0..24u8, any::<u16>(), 0..4u8).prop_map(|(n, seed, what)| match what {
        0 => Op::Delete(key(n), None),
        _ => Op::Put(key(n), draft(n, seed)),
    });
    let expects = vec((0..24u8, expect), 0..2);
    (expects, vec(write, 1..5)).prop_map(|(expect, mut ops)| {
        ops.sort_by(|a, b| a.key().cmp(b.key()));
        ops.dedup_by(|a, b| a.key() == b.key());
        Transaction { expect: expect.into_iter().map(|(n, e)| (key(n), e)).collect(), ops }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(transaction(), 1..8).prop_map(Step::Write),
        2 => (vec(transaction(), 1..8), 0..60usize, any::<u64>())
            .prop_map(|(during, after, dice)| Step::Crash { during, after, dice }),
        1 => Just(Step::Restart),
    ]
}

type Objects = BTreeMap<Key, (Revision, Vec<u8>)>;

async fn content(store: &dyn Store) -> (Revision, Objects) {
    let all = ListRequest { prefix: Key::new(""), start: Bound::Unbounded, limit: 0, at: None };
    let listing = store.list(all).await.unwrap();
    let entries = listing.entries.iter().map(|e| (e.key.clone(), (e.revision, e.value.to_vec()))).collect();
    (listing.revision, entries)
}

/// Does to the model what was acknowledged, in the order of revisions.
struct Model {
    store: MemoryStore,
    /// The content at every revision since the beginning.
    at: BTreeMap<Revision, Objects>,
}

impl Model {
    async fn new() -> Self {
        let store = MemoryStore::default();
        let (revision, objects) = content(&store).await;
        Self { store, at: BTreeMap::from([(revision, objects)]) }
    }

    /// Expectations were checked by the store under test; the model must agree with the result.
    async fn replay(&mut self, transaction: &Transaction, revision: Revision) {
        let committed = self.store.transact(transaction.clone()).await.unwrap();
        assert_eq!(committed.revision, revision, "the model gives it the same revision");
        let (revision, objects) = content(&self.store).await;
        self.at.insert(revision, objects);
    }
}

/// Writes all at once; the acknowledged come back by revision, the others with their error.
async fn write_all(
    store: &RedbStore,
    transactions: &[Transaction],
) -> (BTreeMap<Revision, Transaction>, Vec<(Transaction, Error)>) {
    let results = futures::future::join_all(transactions.iter().map(|t| store.transact(t.clone()))).await;
    let (mut done, mut failed) = (BTreeMap::new(), Vec::new());
    for (transaction, result) in transactions.iter().zip(results) {
        match result {
            Ok(committed) => drop(done.insert(committed.revision, transaction.clone())),
            Err(error) => failed.push((transaction.clone(), error)),
        }
    }
    (done, failed)
}

async fn run(steps: Vec<Step>) {
    let mut disk = SimDisk::default();
    let mut store = RedbStore::open_disk(disk.clone(), options()).unwrap();
    let mut model = Model::new().await;
    for step in steps {
        match step {
            Step::Write(transactions) => {
                let (done, failed) = write_all(&store, &transactions).await;
                for (revision, transaction) in &done {
                    model.replay(transaction, *revision).await;
                }
                assert!(failed.iter().all(|(_, e)| matches!(e, Error::Conflict { .. })), "{failed:?}");
            }
            Step::Restart => {
                drop(store);
                store = RedbStore::open_disk(disk.clone(), options()).unwrap();
            }
            Step::Crash { during, after, dice } => {
                disk.set(Fault::PowerOffIn(after));
                let (done, failed) = write_all(&store, &during).await;
                for (revision, transaction) in &done {
                    model.replay(transaction, *revision).await;
                }
                let mut rng = dice | 1;
                disk = disk.after_power_loss(|sides| {
                    rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    usize::try_from(rng >> 33).unwrap() % sides
                });
                drop(store);
                store = RedbStore::open_disk(disk.clone(), options()).unwrap();
                catch_up(&store, &mut model, failed).await;
            }
        }
        let (revision, objects) = content(&store).await;
        let expected = model.at.last_key_value().unwrap();
        assert_eq!((&revision, &objects), expected);
    }
}

/// What was not acknowledged may have happened nevertheless, but wholly, and by revision.
async fn catch_up(store: &RedbStore, model: &mut Model, mut unknown: Vec<(Transaction, Error)>) {
    let (revision, objects) = content(store).await;
    unknown.retain(|(_, error)| matches!(error, Error::Disk { .. }));
    let acknowledged = *model.at.last_key_value().unwrap().0;
    assert!(revision >= acknowledged, "at {revision} after {acknowledged} was acknowledged");
    // The queue keeps the order of those that were sent at once.
    for (transaction, _) in unknown {
        let at = *model.at.last_key_value().unwrap().0;
        if at == revision {
            break;
        }
        if model.store.transact(transaction).await.is_ok() {
            let (revision, objects) = content(&model.store).await;
            model.at.insert(revision, objects);
        }
    }
    assert_eq!(model.at.last_key_value().unwrap(), (&revision, &objects), "nothing is half there");
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_survives_power_loss(steps in vec(step(), 1..12)) {
        block_on(run(steps));
    }
}

/// `Disk` with the reason, reads that go on, and writes again once there is space.
#[tokio::test]
async fn a_full_disk_fails_writes_until_there_is_space() {
    let disk = SimDisk::default();
    let store = RedbStore::open_disk(disk.clone(), options()).unwrap();
    let last = store.transact(put(1, 1)).await.unwrap().revision;
    let mut watch = store.watch(Key::new("core/"), last).unwrap();
    disk.set(Fault::Full);
    let large = Draft { bytes: vec![b'x'; 8 << 20].into(), revision_at: None };
    let large = Transaction { expect: vec![], ops: vec![Op::Put(key(9), large)] };
    let refused = store.transact(large.clone()).await;
    assert!(
        matches!(&refused, Err(Error::Disk { path, reason })
        if path == "the simulated disk" && reason.contains("no storage space")),
        "{refused:?}"
    );
    assert_eq!(store.revision(), last);
    assert!(store.get(&key(1)).is_some() && store.get(&key(9)).is_none(), "reads go on");
    disk.set(Fault::None);
    let committed = store.transact(large).await.unwrap();
    assert_eq!(committed.revision, last + 1, "no revision was lost");
    // The watcher saw nothing of the failed write.
    use futures::StreamExt;
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Progress(_)))));
    let Some(Ok(WatchItem::Events(events))) = watch.next().await else { panic!("the write comes") };
    assert_eq!((&events[0].entry().key, events[0].entry().revision), (&key(9), last + 1));
}

/// Whatever an error leaves behind (nothing, or the whole group), readers and disk agree on it afterwards.
#[tokio::test]
async fn an_error_at_any_step_leaves_memory_and_disk_agreed() {
    for after in 0..40 {
        let disk = SimDisk::default();
        let store = RedbStore::open_disk(disk.clone(), options()).unwrap();
        store.transact(put(1, 1)).await.unwrap();
        disk.set(Fault::PowerOffIn(after));
        let during: Vec<_> = (2..6).map(|n| put(n, 4)).collect();
        let (done, failed) = write_all(&store, &during).await;
        disk.set(Fault::None);
        let next = store.transact(put(7, 1)).await.unwrap();
        let now = content(&store).await;
        assert_eq!(now.0, next.revision);
        for transaction in done.values() {
            assert!(now.1.contains_key(transaction.ops[0].key()));
        }
        assert!(failed.iter().all(|(_, e)| matches!(e, Error::Disk { .. })), "{failed:?}");
        drop(store);
        let reopened = RedbStore::open_disk(disk.clone(), options()).unwrap();
        assert_eq!(content(&reopened).await, now, "an error after {after} steps");
    }
}

/// The point of the group: writes that come at once share a sync.
#[tokio::test]
async fn concurrent_writes_share_a_sync() {
    let disk = SimDisk::default();
    let store = RedbStore::open_disk(disk.clone(), options()).unwrap();
    let before = disk.syncs();
    for n in 0..10 {
        store.transact(put(n, 1)).await.unwrap();
    }
    let sequential = disk.syncs() - before;
    assert!(sequential >= 10, "each was durable before the next began: {sequential} syncs");
    let before = disk.syncs();
    let writes: Vec<_> = (0..100).map(|n| put(n, 1)).collect();
    assert_eq!(write_all(&store, &writes).await.0.len(), 100);
    let together = disk.syncs() - before;
    assert!(together <= 10 * sequential / 4, "{together} syncs for 100 writes");
}

/// Objects that are written over and over (leases, statuses) do not make the file grow.
#[tokio::test]
async fn the_file_does_not_grow_with_rewrites() {
    let disk = SimDisk::default();
    let store = RedbStore::open_disk(disk.clone(), options()).unwrap();
    let rewrite = async |rounds: u16| {
        for seed in 0..rounds {
            let writes: Vec<_> = (0..20).map(|n| put(n, seed)).collect();
            assert_eq!(write_all(&store, &writes).await.0.len(), 20);
        }
        disk.bytes()
    };
    let settled = rewrite(50).await;
    let later = rewrite(500).await;
    assert!(later <= 2 * settled, "from {settled} to {later} bytes");
}
