//! The in-memory store: the model that every other store is compared with, the store of ephemeral clusters, and (as
//! [`Memory`]) the part of a durable store that reads and watches are served from.
//!
//! Nothing here needs a runtime: no task is spawned, no lock is held across an await, a watch is a queue and a waker.

mod history;
mod staging;
mod state;
mod watchers;

pub use history::Batch;
pub use staging::{Staged, Staging};

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};

use crate::{Committed, Entry, Error, FIRST_REVISION, Key, ListRequest, Listing, Revision, Store, Transaction, Watch};
use state::State;
use watchers::Watchers;

/// The limits of history and watches.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most transactions whose events are kept for late watches and for lists at an older revision; the oldest
    /// go first. Whoever asks for what went gets [`Error::Compacted`].
    pub history_transactions_max: usize,
    /// The most bytes of keys and values that the history keeps; the newest transaction is kept whatever its size.
    pub history_bytes_max: usize,
    /// The most batches that wait for one slow watcher; at the limit its watch ends with [`Error::Lagged`].
    pub watch_batches_max: usize,
    /// See [`Store::progress`].
    pub progress: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { history_transactions_max: 100_000, history_bytes_max: 64 << 20, watch_batches_max: 8192, progress: 1000 }
    }
}

/// Objects, history and watchers: reads are served from here, and writes become visible through [`Memory::publish`].
///
/// Two locks, taken in this order: `watchers` by whoever publishes or begins a watch (so that a watch misses nothing
/// between its catch-up and its first live event), `state` for moments only.
pub struct Memory {
    watchers: Arc<Mutex<Watchers>>,
    state: RwLock<State>,
    options: Options,
}

impl Memory {
    pub fn new(options: Options) -> Self {
        Self::restore(options, FIRST_REVISION, Vec::new())
    }

    /// The state as it was saved at `revision`; the history begins there. `entries` may come in any order; sorted by
    /// key they load fastest.
    pub fn restore(options: Options, revision: Revision, entries: Vec<Arc<Entry>>) -> Self {
        let watchers = Watchers::new(options.watch_batches_max, options.progress, revision);
        Self {
            watchers: Arc::new(Mutex::new(watchers)),
            state: RwLock::new(State::new(&options, revision, entries)),
            options,
        }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).cloned()
    }

    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`].
    pub fn list(&self, request: &ListRequest) -> Result<Listing, Error> {
        self.state.read().list(request)
    }

    pub fn count(&self, prefix: &Key) -> usize {
        self.state.read().count(prefix)
    }

    /// # Errors
    /// [`Error::Compacted`], [`Error::Future`] and [`Error::Closed`].
    pub fn watch(&self, prefix: Key, after: Revision) -> Result<Watch, Error> {
        let mut watchers = self.watchers.lock();
        let (catch_up, revision) = {
            let state = self.state.read();
            (state.history.since(&prefix, after, state.revision)?, state.revision)
        };
        Ok(Box::pin(watchers.begin(&self.watchers, prefix, catch_up, revision)?))
    }

    /// # Errors
    /// [`Error::Future`].
    pub fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut state = self.state.write();
        let current = state.revision;
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        state.history.compact(revision);
        Ok(())
    }

    /// Makes staged transactions visible to reads and watches. They must follow each other and the current revision
    /// without a gap, as one [`Staging`] on top of this state (or several, one after the other) numbered them.
    pub fn publish(&self, staged: &[Staged]) {
        if staged.iter().all(Staged::is_check) {
            return;
        }
        let mut watchers = self.watchers.lock();
        {
            let mut state = self.state.write();
            for batch in staged.iter().filter_map(Staged::batch) {
                state.apply(batch.clone());
            }
        }
        for batch in staged.iter().filter_map(Staged::batch) {
            watchers.deliver(batch);
        }
    }

    pub fn announce_progress(&self) {
        let mut watchers = self.watchers.lock();
        let revision = self.revision();
        watchers.announce(revision);
    }

    /// The number of watches that have begun and not ended.
    pub fn watch_count(&self) -> usize {
        self.watchers.lock().len()
    }

    /// Ends every watch, once it has delivered what it has, with [`Error::Closed`].
    pub fn close(&self) {
        self.watchers.lock().close();
    }
}

/// [`Memory`] with nothing behind it: gone at exit.
pub struct MemoryStore {
    memory: Memory,
    /// Held by the one writer; true when closed.
    writer: Mutex<bool>,
}

impl MemoryStore {
    pub fn new(options: Options) -> Self {
        Self { memory: Memory::new(options), writer: Mutex::new(false) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn revision(&self) -> Revision {
        self.memory.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, Error> {
        self.memory.list(&request)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Committed, Error> {
        let closed = self.writer.lock();
        if *closed {
            return Err(Error::Closed);
        }
        let staged = Staging::new(&self.memory).stage(&transaction)?;
        self.memory.publish(std::slice::from_ref(&staged));
        Ok(staged.into_committed())
    }

    fn watch(&self, prefix: Key, after: Revision) -> Result<Watch, Error> {
        self.memory.watch(prefix, after)
    }

    fn count(&self, prefix: &Key) -> usize {
        self.memory.count(prefix)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.memory.compact(revision)
    }

    fn announce_progress(&self) {
        self.memory.announce_progress();
    }

    fn progress(&self) -> u64 {
        self.memory.options.progress
    }

    fn watch_count(&self) -> usize {
        self.memory.watch_count()
    }

    async fn close(&self) {
        *self.writer.lock() = true;
        self.memory.close();
    }
}
