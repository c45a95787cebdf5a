//! Checks transactions against the state as it will be once the ones staged before them are published, and numbers
//! them. Nothing is visible to anyone until [`Memory::publish`].

use std::{collections::HashMap, sync::Arc};

use super::{Memory, history::Batch};
use crate::{Committed, Draft, Entry, Error, Event, Expect, Key, OPS_MAX, Op, Revision, Transaction};

/// One or more transactions on their way to durability, on top of the published state. There must be at most one
/// at a time per [`Memory`].
pub struct Staging<'a> {
    base: &'a Memory,
    pending: HashMap<Key, Option<Arc<Entry>>>,
    revision: Revision,
}

/// A transaction that passed its checks and has its revision.
#[derive(Clone, Debug)]
pub struct Staged {
    revision: Revision,
    events: Option<Arc<[Event]>>,
}

impl Staged {
    /// Whether the transaction only checks.
    pub fn is_check(&self) -> bool {
        self.events.is_none()
    }

    pub fn batch(&self) -> Option<Batch> {
        self.events.clone().map(|events| Batch { revision: self.revision, events })
    }

    pub fn events(&self) -> &[Event] {
        self.events.as_deref().unwrap_or_default()
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn into_committed(self) -> Committed {
        Committed { revision: self.revision, entries: self.events().iter().map(|e| e.entry().clone()).collect() }
    }
}

impl<'a> Staging<'a> {
    pub fn new(base: &'a Memory) -> Self {
        Self { base, pending: HashMap::new(), revision: base.revision() }
    }

    /// The revision of the last staged transaction that writes.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        match self.pending.get(key) {
            Some(pending) => pending.clone(),
            None => self.base.get(key),
        }
    }

    /// # Errors
    /// [`Error::Conflict`], [`Error::TooLarge`], [`Error::WrittenTwice`]; then nothing is staged.
    pub fn stage(&mut self, transaction: &Transaction) -> Result<Staged, Error> {
        if transaction.ops.len() > OPS_MAX {
            return Err(Error::TooLarge { ops: transaction.ops.len() });
        }
        for (key, expected) in &transaction.expect {
            self.check(key, *expected)?;
        }
        if transaction.ops.is_empty() {
            return Ok(Staged { revision: self.revision, events: None });
        }
        self.check_once_each(&transaction.ops)?;
        let revision = self.revision + 1;
        let events = transaction.ops.iter().map(|op| self.event(op, revision)).collect::<Result<Arc<[_]>, _>>()?;
        for event in events.iter() {
            let now = match event {
                Event::Put { entry, .. } => Some(entry.clone()),
                Event::Delete { .. } => None,
            };
            self.pending.insert(event.entry().key.clone(), now);
        }
        self.revision = revision;
        Ok(Staged { revision, events: Some(events) })
    }

    fn check(&self, key: &Key, expected: Expect) -> Result<(), Error> {
        let actual = self.get(key);
        let holds = match expected {
            Expect::Absent => actual.is_none(),
            Expect::Present => actual.is_some(),
            Expect::At(revision) => actual.as_ref().is_some_and(|e| e.revision == revision),
        };
        if holds { Ok(()) } else { Err(Error::Conflict { key: key.clone(), expected, actual }) }
    }

    fn check_once_each(&self, ops: &[Op]) -> Result<(), Error> {
        if ops.len() < 2 {
            return Ok(());
        }
        let mut keys: Vec<&Key> = ops.iter().map(Op::key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::WrittenTwice { key: pair[0].clone() }),
            None => Ok(()),
        }
    }

    fn event(&self, op: &Op, revision: Revision) -> Result<Event, Error> {
        let entry = |key: &Key, draft: &Draft| Arc::new(Entry::new(key.clone(), revision, draft.fill(revision)));
        let previous = self.get(op.key());
        match op {
            Op::Put(key, draft) => Ok(Event::Put { entry: entry(key, draft), previous }),
            Op::Delete(key, draft) => {
                let Some(previous) = previous else {
                    return Err(Error::Conflict { key: key.clone(), expected: Expect::Present, actual: None });
                };
                let entry = match draft {
                    Some(draft) => entry(key, draft),
                    None => Arc::new(Entry::new(key.clone(), revision, previous.value.clone())),
                };
                Ok(Event::Delete { entry, previous })
            }
        }
    }
}
