//! The ring of recent transactions, bounded by count and bytes. Its revisions have no gaps: the batch of revision R
//! is at index R - compacted - 1.

use std::{collections::VecDeque, sync::Arc};

use crate::{Error, Event, FIRST_REVISION, Key, Revision, WatchItem};

/// What one transaction did.
#[derive(Clone, Debug)]
pub struct Batch {
    pub revision: Revision,
    pub events: Arc<[Event]>,
}

impl Batch {
    /// What it costs to keep: the previous versions are paid for by the batches that wrote them.
    fn bytes(&self) -> usize {
        self.events.iter().map(|e| e.entry().value.len() + e.entry().key.as_str().len()).sum()
    }
}

pub(super) struct History {
    batches: VecDeque<Batch>,
    /// The newest revision whose events are gone: the oldest that can be listed at and watched from.
    compacted: Revision,
    bytes: usize,
    transactions_max: usize,
    bytes_max: usize,
}

impl History {
    pub(super) fn new(compacted: Revision, transactions_max: usize, bytes_max: usize) -> Self {
        Self { batches: VecDeque::new(), compacted, bytes: 0, transactions_max, bytes_max }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        debug_assert_eq!(batch.revision, self.compacted + self.batches.len() as u64 + 1, "a gap in the history");
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.batches.len() > 1
            && (self.bytes > self.bytes_max || self.batches.len() > self.transactions_max.max(1))
        {
            self.forget_oldest();
        }
    }

    pub(super) fn compact(&mut self, revision: Revision) {
        while self.compacted < revision && !self.batches.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.bytes();
            self.compacted = batch.revision;
        }
    }

    /// The batches after a revision, oldest first.
    pub(super) fn after(
        &self,
        revision: Revision,
        current: Revision,
    ) -> Result<impl DoubleEndedIterator<Item = &Batch>, Error> {
        let from = revision.max(FIRST_REVISION);
        if from > current {
            return Err(Error::Future { requested: revision, current });
        }
        let Some(skip) = from.checked_sub(self.compacted) else {
            return Err(Error::Compacted { requested: revision, oldest: self.compacted });
        };
        Ok(self.batches.range(usize::try_from(skip).unwrap_or(usize::MAX).min(self.batches.len())..))
    }

    /// What a watch of `prefix` has to catch up with.
    pub(super) fn since(&self, prefix: &Key, after: Revision, current: Revision) -> Result<VecDeque<WatchItem>, Error> {
        let in_scope = |batch: &Batch| {
            let hits = batch.events.iter().filter(|e| prefix.covers(&e.entry().key)).count();
            match hits {
                0 => None,
                all if all == batch.events.len() => Some(batch.events.clone()),
                _ => Some(batch.events.iter().filter(|e| prefix.covers(&e.entry().key)).cloned().collect()),
            }
        };
        Ok(self.after(after, current)?.filter_map(in_scope).map(WatchItem::Events).collect())
    }
}
