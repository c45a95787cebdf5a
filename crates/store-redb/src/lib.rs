//! The embedded durable store: redb with group commit.
//!
//! Reads and watches are served from memory ([`skiff_store::memory::Memory`]); the disk is for recovery. A write goes
//! to one thread, which takes all the transactions that wait, checks and numbers them against what is pending,
//! writes them in one redb transaction with one fsync, publishes them to memory, and only then answers. So:
//! - nobody sees a write, nor a conflict with one, that is not durable;
//! - a disk error fails the whole group unacknowledged; reads go on, and writes fail with the reason until the
//!   database can be opened again;
//! - the revision is stored with the group that made it, and never goes backwards. The history is not stored: a
//!   watch from before a restart gets `Compacted`.

mod disk;
mod open;
mod writer;

pub use disk::Disk;
pub use open::OpenError;

use std::{path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use async_trait::async_trait;
use skiff_store::{
    Committed, Entry, Error, Key, ListRequest, Listing, Revision, Store, Transaction, Watch,
    memory::{self, Memory},
};
use tokio::sync::{mpsc, oneshot};
use writer::{Request, Writer};

/// The limits of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// History and watches.
    pub memory: memory::Options,
    /// Pages of the database that are kept in memory, for writing: reads do not use them.
    pub cache_bytes: usize,
    /// At most this many transactions share one fsync.
    pub group_transactions_max: usize,
    /// At most about this many bytes share one fsync (one larger transaction is a group of its own).
    pub group_bytes_max: usize,
    /// At most this many transactions wait for the writer; further ones wait for a place in the queue.
    pub queue_max: usize,
    /// After a disk error, the database is opened again by the first write after this time.
    pub retry_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: memory::Options::default(),
            cache_bytes: 16 << 20,
            group_transactions_max: 256,
            group_bytes_max: 16 << 20,
            queue_max: 1024,
            retry_after: Duration::from_secs(1),
        }
    }
}

/// See the crate's documentation.
pub struct RedbStore {
    memory: Arc<Memory>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the store in a directory, which is created (mode 0700) where it is missing; the files in it (mode 0600)
    /// are `store.redb` and `store.lock`. Blocks for as long as it takes to read every object.
    ///
    /// # Errors
    /// Every [`OpenError`] names the directory and says what to do.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_disk(open::Directory::lock(dir)?, options)
    }

    /// Opens the store on any disk: for tests that inject faults.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_disk(mut disk: impl Disk, options: Options) -> Result<Self, OpenError> {
        let path = disk.path();
        let loaded = open::load(&mut disk, options.cache_bytes)?;
        let memory = Arc::new(Memory::restore(options.memory.clone(), loaded.revision, loaded.entries));
        let (queue, requests) = mpsc::channel(options.queue_max.max(1));
        let writer = Writer::new(memory.clone(), Box::new(disk), loaded.database, options);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(requests))
            .map_err(|source| OpenError::Io { path, reason: source.to_string() })?;
        Ok(Self { memory, queue: Some(queue), writer: Some(writer) })
    }
}

/// Waits for the writes that are under way, so that the directory is free when this returns.
impl Drop for RedbStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes to the store panicked");
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    fn revision(&self) -> Revision {
        self.memory.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, Error> {
        self.memory.list(&request)
    }

    /// The write happens also when the caller stops waiting for it.
    async fn transact(&self, transaction: Transaction) -> Result<Committed, Error> {
        let (reply, committed) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(Request::Transact { transaction, reply }).await.map_err(|_| Error::Closed)?;
        committed.await.unwrap_or(Err(Error::Closed))
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
        self.memory.options().progress
    }

    fn watch_count(&self) -> usize {
        self.memory.watch_count()
    }

    /// Finishes the writes that were queued before, then closes the database and frees the directory.
    async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.send(Request::Close { reply }).await.is_ok()
        {
            // An error means that the writer is gone already.
            let _ = closed.await;
        }
        self.memory.close();
    }
}
