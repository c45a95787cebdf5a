//! The store contract: an ordered map from keys to serialized objects with one global revision.
//!
//! What must stay true of every store:
//! - revisions start at 1, never go backwards (not even over restarts), and every committed transaction gets the
//!   next one; all operations of one transaction carry the same revision;
//! - a write that was acknowledged is found again after `kill -9` (unless the store says it is ephemeral);
//! - a list, whole or in chunks, is consistent with exactly one revision, which it carries, also when it is empty;
//! - a watch from revision R delivers every later event under its prefix, once, in order, or it ends with an error.
//!
//! Only the API server holds a [`Store`].

pub mod conformance;
pub mod guarantees;
pub mod memory;

use std::{any::Any, fmt, ops::Bound, sync::Arc, sync::OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The number of a committed transaction; 0 means "before the first".
pub type Revision = u64;

/// `GROUP/PLURAL/NAMESPACE/NAME` or `GROUP/PLURAL/NAME`; `core` stands for the empty group. A prefix ends in `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    pub fn new(path: impl Into<Arc<str>>) -> Self {
        Self(path.into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of one object, shared by the current state, the history and every watcher.
///
/// `value` is what a client gets: serialized JSON with the resource version already in it, so that a read or a
/// watch event copies bytes only.
pub struct Entry {
    pub key: Key,
    pub revision: Revision,
    pub value: Bytes,
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Entry {
    pub fn new(key: Key, revision: Revision, value: Bytes) -> Self {
        Self { key, revision, value, memo: OnceLock::new() }
    }

    /// Whatever the reader wants to derive from the value once (labels and fields for selectors): computed by the
    /// first caller, shared by all later ones. Every caller must ask for the same `T`.
    ///
    /// # Panics
    /// When two callers ask for different types: a bug in the caller, found by its first test.
    pub fn memo<T: Any + Send + Sync>(&self, derive: impl FnOnce(&Bytes) -> T) -> &T {
        self.memo.get_or_init(|| Box::new(derive(&self.value))).downcast_ref().expect("one memo type per store")
    }
}
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

/// A serialized object with a hole for the revision, which only the commit knows: the store writes the decimal
/// digits at `revision_at` (a byte offset, between the quotes of `"resourceVersion":""`).
#[derive(Clone, Debug)]
pub struct Draft {
    pub bytes: Bytes,
    pub revision_at: Option<usize>,
}

impl Draft {
    pub fn fill(&self, revision: Revision) -> Bytes {
        let Some(at) = self.revision_at else { return self.bytes.clone() };
        let digits = revision.to_string();
        let mut out = Vec::with_capacity(self.bytes.len() + digits.len());
        out.extend_from_slice(&self.bytes[..at]);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.bytes[at..]);
        out.into()
    }
}

/// What must hold for a transaction to commit. All are checked against the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object at the key.
    Absent,
    /// Some object at the key, whatever its revision.
    Present,
    /// The object at the key has exactly this revision.
    At(Revision),
}

#[derive(Clone, Debug)]
pub enum Op {
    Put(Key, Draft),
    /// Deletes the key. The event carries the draft (the final object, with the revision of the deletion filled in)
    /// or, without one, the last stored value.
    Delete(Key, Option<Draft>),
}

/// A set of preconditions and writes that happens wholly or not at all. At most [`OPS_MAX`] operations, each
/// key at most once.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub expect: Vec<(Key, Expect)>,
    pub ops: Vec<Op>,
}

/// The most operations of one transaction; more is [`Error::TooLarge`].
pub const OPS_MAX: usize = 1024;

/// The result of a commit: its revision and, per operation in order, the entry as stored (for a deletion: the
/// entry that the event carries).
#[derive(Clone, Debug)]
pub struct Committed {
    pub revision: Revision,
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// `previous` is the version before, absent when the key was created.
    Put { entry: Arc<Entry>, previous: Option<Arc<Entry>> },
    /// `entry` is the final object with the revision of the deletion, `previous` the last stored version.
    Delete { entry: Arc<Entry>, previous: Arc<Entry> },
}

impl Event {
    pub fn entry(&self) -> &Arc<Entry> {
        match self {
            Event::Put { entry, .. } | Event::Delete { entry, .. } => entry,
        }
    }
}

/// What a watch yields. Events of one revision arrive in one batch, batches in revision order.
#[derive(Clone, Debug)]
pub enum WatchItem {
    Events(Arc<[Event]>),
    /// Nothing under the prefix happened up to and including this revision (sent when the watcher has seen
    /// everything and at least [`Store::progress`] revisions have passed elsewhere, and on request).
    Progress(Revision),
}

pub type Watch = BoxStream<'static, Result<WatchItem, Error>>;

#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Ends in `/`; every key that starts with it is in scope.
    pub prefix: Key,
    /// Where to go on: keys at or after (`Included`) or after (`Excluded`) this one.
    pub start: Bound<Key>,
    /// At most this many entries; 0 means all.
    pub limit: usize,
    /// The revision to read at (from a continue token); `None` for the current one.
    pub at: Option<Revision>,
}

#[derive(Clone, Debug)]
pub struct Listing {
    /// The revision that the whole listing is consistent with; never 0.
    pub revision: Revision,
    pub entries: Vec<Arc<Entry>>,
    /// How many more entries match beyond `limit`; 0 means that the listing is complete.
    pub remaining: usize,
}

#[derive(Debug, thiserror::Error, Clone)]
pub enum Error {
    /// A precondition did not hold; nothing was written. `actual` is the entry as it is.
    #[error("{key}: expected {expected:?}")]
    Conflict { key: Key, expected: Expect, actual: Option<Arc<Entry>> },
    /// The revision is older than the history that is kept (410 Gone).
    #[error("revision {requested} was compacted, the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    /// The revision has not happened yet.
    #[error("revision {requested} is in the future, the current one is {current}")]
    Future { requested: Revision, current: Revision },
    /// A watcher did not read fast enough for its bounded buffer; it must list again.
    #[error("the watcher fell behind by more than {limit} batches")]
    Lagged { limit: usize },
    #[error("a transaction of {ops} operations is over the limit of {OPS_MAX}")]
    TooLarge { ops: usize },
    /// The disk refused (full, read-only, broken). The write is not acknowledged; reads go on.
    #[error("failed to write to {path}: {reason}")]
    Disk { path: String, reason: String },
    /// The store was shut down.
    #[error("the store is closed")]
    Closed,
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The revision of the last committed transaction that readers can see.
    fn revision(&self) -> Revision;

    fn get(&self, key: &Key) -> Option<Arc<Entry>>;

    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`] when `at` is not in the history.
    async fn list(&self, request: ListRequest) -> Result<Listing, Error>;

    /// Commits all or nothing and returns when the write is durable and visible to reads and watches.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the first precondition that did not hold.
    async fn transact(&self, transaction: Transaction) -> Result<Committed, Error>;

    /// Every event under `prefix` with a revision greater than `after`.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`] at once; [`Error::Lagged`] or [`Error::Compacted`] as the last item.
    fn watch(&self, prefix: Key, after: Revision) -> Result<Watch, Error>;

    /// The number of objects under a prefix (for metrics and quotas of the store itself).
    fn count(&self, prefix: &Key) -> usize;

    /// Forgets the history up to and including `revision`; current objects stay.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// A [`WatchItem::Progress`] is due to an idle watcher after this many revisions elsewhere.
    fn progress(&self) -> u64 {
        1000
    }

    /// Flushes and refuses further writes.
    async fn close(&self);
}
