//! The store contract: an ordered map from keys to serialized objects with one global revision.
//!
//! What must stay true of every store:
//! - an empty store is at revision 1; revisions never go backwards (not even over restarts), and every committed
//!   transaction that writes gets the next one; all operations of one transaction carry the same revision;
//! - a write that was acknowledged is found again after `kill -9` (unless the store says it is ephemeral);
//! - a list, whole or in chunks, is consistent with exactly one revision, which it carries, also when it is empty;
//! - a watch from revision R delivers every later event under its prefix, once, in order, or it ends with an error.
//!
//! Only the API server holds a [`Store`].

pub mod conformance;
pub mod guarantees;
pub mod memory;

use std::{any::Any, borrow::Borrow, fmt, ops::Bound, sync::Arc, sync::OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The number of a committed transaction. An empty store is at [`FIRST_REVISION`]; 0 is read as that.
pub type Revision = u64;

/// The revision of a store that nothing was ever written to.
pub const FIRST_REVISION: Revision = 1;

/// `GROUP/PLURAL/NAMESPACE/NAME` or `GROUP/PLURAL/NAME`; `core` stands for the empty group.
///
/// Where a prefix is asked for, a key that ends in `/` (or is empty) covers all keys that start with it, and any
/// other key covers itself alone: see [`Key::covers`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    pub fn new(path: impl Into<Arc<str>>) -> Self {
        Self(path.into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether `key` is in the scope of this prefix.
    pub fn covers(&self, key: &Key) -> bool {
        if self.is_single() { self.0 == key.0 } else { key.0.starts_with(&*self.0) }
    }
    /// Whether this prefix covers one key at most.
    pub fn is_single(&self) -> bool {
        !self.0.is_empty() && !self.0.ends_with('/')
    }
}
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
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
        debug_assert!(at <= self.bytes.len(), "the hole for the revision is outside of the object");
        let at = at.min(self.bytes.len());
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
    /// or, without one, the last stored value. Deleting what is not there is a conflict with [`Expect::Present`].
    Delete(Key, Option<Draft>),
}

impl Op {
    pub fn key(&self) -> &Key {
        match self {
            Op::Put(key, _) | Op::Delete(key, _) => key,
        }
    }
}

/// A set of preconditions and writes that happens wholly or not at all. At most [`OPS_MAX`] operations, each
/// key at most once. Without operations it only checks, and takes no revision.
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
    /// Everything under the prefix up to and including this revision was delivered. Sent once when the watch has
    /// caught up with the revision at which it began, then when at least [`Store::progress`] revisions have passed
    /// elsewhere since the last item, and on [`Store::announce_progress`].
    Progress(Revision),
}

pub type Watch = BoxStream<'static, Result<WatchItem, Error>>;

#[derive(Clone, Debug)]
pub struct ListRequest {
    /// What is in scope: see [`Key::covers`].
    pub prefix: Key,
    /// Where to go on within the scope: keys at or after (`Included`) or after (`Excluded`) this one.
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
    /// The revision is older than the history that is kept (410 Gone). `oldest` is the oldest that can be listed at
    /// and watched from.
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
    #[error("a transaction writes {key} more than once")]
    WrittenTwice { key: Key },
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

    /// The number of watches that have begun and were not dropped (for metrics).
    fn watch_count(&self) -> usize;

    /// Forgets the history up to and including `revision`; current objects stay, watches that have begun go on.
    ///
    /// # Errors
    /// [`Error::Future`]; compacting what is compacted already is no error.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// Sends a [`WatchItem::Progress`] of the current revision to every watcher (for bookmarks, from a timer).
    fn announce_progress(&self);

    /// A [`WatchItem::Progress`] is due to an idle watcher after this many revisions elsewhere.
    fn progress(&self) -> u64 {
        1000
    }

    /// Flushes and refuses further writes; watches deliver what they have and end with [`Error::Closed`]. Reads go on.
    async fn close(&self);
}
