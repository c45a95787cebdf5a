//! Many operations, chosen by a generator with a fixed seed, against a model and under the watch guarantees.

use std::collections::BTreeMap;

use super::*;
use crate::{
    FIRST_REVISION,
    guarantees::{Log, Recording, check, resumable},
};

/// A small generator (xorshift), so that the suite needs no dependency and every run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Few keys, so that operations meet.
    fn key(&mut self) -> Key {
        let (kind, namespace, name) = (self.roll(2), self.roll(3), self.roll(4));
        key(&format!("core/{}/ns{namespace}/{name}", ["pods", "secrets"][kind as usize]))
    }

    fn transaction(&mut self, revision: Revision) -> Transaction {
        let mut transaction = Transaction::default();
        for _ in 0..self.roll(3) {
            let expect = match self.roll(4) {
                0 => Expect::Absent,
                1 => Expect::Present,
                _ => Expect::At(revision.saturating_sub(self.roll(20))),
            };
            transaction.expect.push((self.key(), expect));
        }
        for _ in 0..self.roll(4) {
            let key = self.key();
            if transaction.ops.iter().any(|op| *op.key() == key) {
                continue;
            }
            let draft = draft(&self.roll(1000).to_string());
            transaction.ops.push(match self.roll(4) {
                0 => Op::Delete(key, None),
                1 => Op::Delete(key, Some(draft)),
                _ => Op::Put(key, draft),
            });
        }
        transaction
    }
}

type Objects = BTreeMap<Key, (Revision, Bytes)>;

/// What a transaction does, said in the simplest way.
fn model(objects: &Objects, revision: Revision, transaction: &Transaction) -> Option<Objects> {
    let holds = |(key, expect): &(Key, Expect)| match (objects.get(key), expect) {
        (None, Expect::Absent) | (Some(_), Expect::Present) => true,
        (Some((actual, _)), Expect::At(expected)) => actual == expected,
        _ => false,
    };
    if !transaction.expect.iter().all(holds) {
        return None;
    }
    let mut after = objects.clone();
    for op in &transaction.ops {
        match op {
            Op::Put(key, draft) => drop(after.insert(key.clone(), (revision + 1, draft.fill(revision + 1)))),
            Op::Delete(key, _) => drop(after.remove(key)?),
        }
    }
    Some(after)
}

fn content(listing: &Listing) -> Objects {
    listing.entries.iter().map(|e| (e.key.clone(), (e.revision, e.value.clone()))).collect()
}

pub(super) async fn random_operations_agree_with_a_model(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let mut dice = Dice(0x5eed);
    let mut at: BTreeMap<Revision, Objects> = BTreeMap::from([(FIRST_REVISION, Objects::new())]);
    for _ in 0..400 {
        let (revision, objects) = at.last_key_value().expect("it begins with one");
        let (revision, transaction) = (*revision, dice.transaction(*revision));
        let expected = model(objects, revision, &transaction);
        match (store.transact(transaction.clone()).await, expected) {
            (Err(Error::Conflict { .. }), None) => {}
            (Ok(committed), Some(after)) => {
                let writes = !transaction.ops.is_empty();
                assert_eq!(committed.revision, revision + u64::from(writes));
                at.insert(committed.revision, after);
            }
            (result, expected) => panic!("{transaction:?}: {result:?}, expected {expected:?}"),
        }
        // Some revision of the past, one of the prefixes.
        let (back, objects) = at.iter().nth_back(dice.roll(at.len() as u64) as usize).expect("in range");
        let prefix = ["", "core/pods/", "core/pods/ns1/", "core/secrets/ns2/3"][dice.roll(4) as usize];
        let listing = list_at(&*store, prefix, *back).await.expect("nothing was compacted");
        let mut expected = objects.clone();
        expected.retain(|k, _| key(prefix).covers(k));
        assert_eq!((listing.revision, content(&listing)), (*back, expected), "{prefix:?} at {back}");
    }
}

pub(super) async fn concurrent_watches_keep_their_guarantees(factory: &dyn Factory) {
    const WRITERS: u64 = 4;
    let store = factory.open(Options { progress: 7, ..Options::default() }).await;
    let prefixes = ["", "core/pods/", "core/pods/ns1/", "core/secrets/ns2/3"];
    let mut early: Vec<_> = prefixes.iter().map(|p| (key(p), watch(&*store, p, 1))).collect();
    let writer = |seed: u64| {
        let store = store.clone();
        async move {
            let (mut dice, mut done) = (Dice(0x5eed + seed), Vec::new());
            while done.len() < 60 {
                let mut transaction = dice.transaction(store.revision());
                // Mostly unconditional, or too few would commit.
                transaction.expect.truncate((done.len() % 4 == 0).into());
                if let Ok(committed) = store.transact(transaction.clone()).await {
                    done.push((transaction, committed));
                }
            }
            done
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|seed| tokio::spawn(writer(seed))).collect();
    let mut log = Log::default();
    for writer in writers {
        for (transaction, committed) in writer.await.expect("no writer fails") {
            log.add(&transaction, &committed);
        }
    }
    let last = log.revision();
    assert_eq!(store.revision(), last);
    store.announce_progress();
    let mut dice = Dice(0xd1ce);
    for (prefix, watch) in &mut early {
        let whole = Recording::read(prefix.clone(), 1, watch, last).await;
        check(&whole, &log).unwrap_or_else(|violation| panic!("{prefix:?}: {violation}"));
        for _ in 0..5 {
            let after = 1 + dice.roll(last - 1);
            let mut late = store.watch(prefix.clone(), after).expect("nothing was compacted");
            let late = Recording::read(prefix.clone(), after, &mut late, last).await;
            check(&late, &log).unwrap_or_else(|violation| panic!("{prefix:?} from {after}: {violation}"));
            resumable(&whole, &late).unwrap_or_else(|violation| panic!("{prefix:?}: {violation}"));
        }
    }
}
