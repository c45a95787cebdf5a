//! The current objects in key order, and how they were at an older revision.

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};

use super::{
    Options,
    history::{Batch, History},
};
use crate::{Entry, Error, Event, Key, ListRequest, Listing, Revision};

pub(super) struct State {
    pub(super) objects: BTreeMap<Key, Arc<Entry>>,
    pub(super) revision: Revision,
    pub(super) history: History,
}

impl State {
    pub(super) fn new(options: &Options, revision: Revision, entries: Vec<Arc<Entry>>) -> Self {
        Self {
            objects: entries.into_iter().map(|e| (e.key.clone(), e)).collect(),
            revision,
            history: History::new(revision, options.history_transactions_max, options.history_bytes_max),
        }
    }

    pub(super) fn apply(&mut self, batch: Batch) {
        for event in batch.events.iter() {
            match event {
                Event::Put { entry, .. } => {
                    self.objects.insert(entry.key.clone(), entry.clone());
                }
                Event::Delete { entry, .. } => {
                    self.objects.remove(&entry.key);
                }
            }
        }
        self.revision = batch.revision;
        self.history.push(batch);
    }

    pub(super) fn count(&self, prefix: &Key) -> usize {
        self.scope(prefix, &Bound::Unbounded).count()
    }

    pub(super) fn list(&self, request: &ListRequest) -> Result<Listing, Error> {
        let current = self.scope(&request.prefix, &request.start);
        let Some(at) = request.at.filter(|at| *at != self.revision) else {
            return Ok(page(self.revision, current.map(|(_, e)| e), request.limit));
        };
        let changed = self.as_of(&request.prefix, &request.start, at)?;
        let merged = Merged { current: current.peekable(), changed: changed.into_iter().peekable() };
        Ok(page(at.max(crate::FIRST_REVISION), merged, request.limit))
    }

    /// The objects in scope, from the start of the request on.
    fn scope(&self, prefix: &Key, start: &Bound<Key>) -> btree_map::Range<'_, Key, Arc<Entry>> {
        let low = from(prefix, start);
        // Bounds, and not a look at each key: what is only counted is not touched.
        let Some(end) = end(prefix) else { return self.objects.range((low, Bound::Unbounded)) };
        let (single, nothing) = (prefix.is_single(), (Bound::Included(end.clone()), Bound::Excluded(end.clone())));
        match &low {
            Bound::Included(key) | Bound::Excluded(key) if *key > end || (*key == end && !single) => {
                self.objects.range(nothing)
            }
            _ if single => self.objects.range((low, Bound::Included(end))),
            _ => self.objects.range((low, Bound::Excluded(end))),
        }
    }

    /// The keys in scope that changed after `at`, with their entries as they were then.
    fn as_of<'a>(
        &'a self,
        prefix: &Key,
        start: &Bound<Key>,
        at: Revision,
    ) -> Result<BTreeMap<&'a Key, Option<&'a Arc<Entry>>>, Error> {
        let low = from(prefix, start);
        let mut changed = BTreeMap::new();
        for batch in self.history.after(at, self.revision)? {
            for event in batch.events.iter() {
                let (entry, previous) = match event {
                    Event::Put { entry, previous } => (entry, previous.as_ref()),
                    Event::Delete { entry, previous } => (entry, Some(previous)),
                };
                let reached = match &low {
                    Bound::Included(low) => entry.key >= *low,
                    Bound::Excluded(low) => entry.key > *low,
                    Bound::Unbounded => true,
                };
                if reached && prefix.covers(&entry.key) {
                    // The first change after `at` knows how it was.
                    changed.entry(&entry.key).or_insert(previous);
                }
            }
        }
        Ok(changed)
    }
}

/// Where to begin: the later of the prefix and the start.
fn from(prefix: &Key, start: &Bound<Key>) -> Bound<Key> {
    match start {
        Bound::Included(key) | Bound::Excluded(key) if key >= prefix => start.clone(),
        _ => Bound::Included(prefix.clone()),
    }
}

/// Where the scope ends: at the key itself, or before the first string that is behind all that begin with the prefix
/// (`0` is the character after `/`). Everything has no end.
fn end(prefix: &Key) -> Option<Key> {
    if prefix.is_single() {
        return Some(prefix.clone());
    }
    Some(Key::new(format!("{}0", prefix.as_str().strip_suffix('/')?)))
}

fn page<'a>(revision: Revision, mut all: impl Iterator<Item = &'a Arc<Entry>>, limit: usize) -> Listing {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let entries = all.by_ref().take(limit).cloned().collect();
    Listing { revision, entries, remaining: all.count() }
}

/// The current objects with the older versions laid over them, in key order.
struct Merged<'a, I: Iterator<Item = (&'a Key, &'a Arc<Entry>)>> {
    current: Peekable<I>,
    changed: Peekable<btree_map::IntoIter<&'a Key, Option<&'a Arc<Entry>>>>,
}

impl<'a, I: Iterator<Item = (&'a Key, &'a Arc<Entry>)>> Iterator for Merged<'a, I> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<&'a Arc<Entry>> {
        loop {
            let Some((changed_key, _)) = self.changed.peek() else {
                return self.current.next().map(|(_, entry)| entry);
            };
            if let Some((key, entry)) = self.current.next_if(|(key, _)| key <= changed_key) {
                if key < *changed_key {
                    return Some(entry);
                }
                // The same key: the older version counts, in the next round.
                continue;
            }
            if let Some((_, Some(entry))) = self.changed.next() {
                return Some(entry);
            }
        }
    }
}
