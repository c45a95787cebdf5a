//! Events are forgotten an hour after their last write, as upstream's are: the one deletion that does not come from a
//! request.
//!
//! Nothing is scanned: a watch notes each write at the end of a queue, and a timer waits for the front of it. After a
//! restart, or when the watch fell behind, what is there counts as written now.

use std::{collections::VecDeque, ops::Bound, sync::Arc, time::Duration};

use futures::StreamExt;
use skiff_store::{Entry, Error, Event, Expect, Key, ListRequest, Op, Revision, Store, Transaction, Watch, WatchItem};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{encode, registry::Resource};

/// The most deletions of one transaction.
const BATCH_MAX: usize = 256;

pub(crate) struct Expiry {
    pub store: Arc<dyn Store>,
    pub events: Arc<Resource>,
    pub keep: Duration,
    pub shutdown: CancellationToken,
}

/// What was written, in order.
type Queue = VecDeque<(Instant, Key, Revision)>;

impl Expiry {
    /// Until the server shuts down or the store closes.
    pub(crate) async fn run(self) {
        while let Some((mut queue, watch)) = self.load().await {
            if !self.follow(&mut queue, watch).await {
                return;
            }
        }
    }

    async fn load(&self) -> Option<(Queue, Watch)> {
        let prefix = self.events.prefix(None);
        let request = ListRequest { prefix: prefix.clone(), start: Bound::Unbounded, limit: 0, at: None };
        let listing = self.store.list(request).await.ok()?;
        let ends = Instant::now() + self.keep;
        let queue = listing.entries.iter().map(|e| (ends, e.key.clone(), e.revision)).collect();
        Some((queue, self.store.watch(prefix, listing.revision).ok()?))
    }

    /// Whether to begin again.
    async fn follow(&self, queue: &mut Queue, mut watch: Watch) -> bool {
        loop {
            let due = queue.front().map(|(ends, ..)| *ends);
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                item = watch.next() => match item {
                    Some(Ok(WatchItem::Events(events))) => {
                        let ends = Instant::now() + self.keep;
                        for event in events.iter() {
                            if let Event::Put { entry, .. } = event {
                                queue.push_back((ends, entry.key.clone(), entry.revision));
                            }
                        }
                    }
                    Some(Ok(WatchItem::Progress(_))) => {}
                    Some(Err(Error::Closed)) | None => return false,
                    Some(Err(_)) => return true,
                },
                () = sleep_until(due) => self.forget(queue).await,
            }
        }
    }

    /// Deletes what is due and was not written again.
    async fn forget(&self, queue: &mut Queue) {
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < BATCH_MAX && queue.front().is_some_and(|(ends, ..)| *ends <= now) {
            let Some((_, key, revision)) = queue.pop_front() else { break };
            due.extend(self.store.get(&key).filter(|entry| entry.revision == revision));
        }
        if due.is_empty() || self.delete(&due).await.is_ok() {
            return;
        }
        // Somebody wrote one of them just now: the others go one by one.
        for entry in &due {
            if let Err(error) = self.delete(std::slice::from_ref(entry)).await {
                tracing::debug!(%error, "an event stays a little longer");
            }
        }
    }

    async fn delete(&self, entries: &[Arc<Entry>]) -> Result<(), Error> {
        let expect = entries.iter().map(|e| (e.key.clone(), Expect::At(e.revision))).collect();
        let ops = entries.iter().map(|e| {
            let last = encode::redraft(&e.value, &self.events.stored_envelope);
            Op::Delete(e.key.clone(), Some(last))
        });
        self.store.transact(Transaction { expect, ops: ops.collect() }).await.map(drop)
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
