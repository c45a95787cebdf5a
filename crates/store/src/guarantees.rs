//! What a watch promises, as named validators over a recorded watch and the log of what was committed.
//!
//! Each validator is one promise; [`check`] runs them all. [`resumable`] compares two recordings.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use futures::StreamExt;

use crate::{Committed, Error, Event, Key, Op, Revision, Transaction, Watch, WatchItem};

/// What was acknowledged, by revision.
#[derive(Clone, Debug, Default)]
pub struct Log(BTreeMap<Revision, Vec<Change>>);

/// One write of a transaction, or one event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub revision: Revision,
    pub value: Bytes,
    pub deleted: bool,
}

impl Log {
    pub fn add(&mut self, transaction: &Transaction, committed: &Committed) {
        let change = |(op, entry): (&Op, &std::sync::Arc<crate::Entry>)| Change {
            key: entry.key.clone(),
            revision: entry.revision,
            value: entry.value.clone(),
            deleted: matches!(op, Op::Delete(..)),
        };
        if !transaction.ops.is_empty() {
            let changes = transaction.ops.iter().zip(&committed.entries).map(change).collect();
            self.0.insert(committed.revision, changes);
        }
    }

    /// The last revision.
    pub fn revision(&self) -> Revision {
        self.0.last_key_value().map_or(crate::FIRST_REVISION, |(revision, _)| *revision)
    }

    /// What a watch of `prefix` owes for the revisions in `after < revision <= upto`, by revision.
    fn owed(&self, prefix: &Key, after: Revision, upto: Revision) -> BTreeMap<Revision, Vec<Change>> {
        let in_scope = |(revision, changes): (&Revision, &Vec<Change>)| {
            let mine: Vec<_> = changes.iter().filter(|c| prefix.covers(&c.key)).cloned().collect();
            (!mine.is_empty()).then_some((*revision, mine))
        };
        if after >= upto {
            return BTreeMap::new();
        }
        self.0.range(after + 1..=upto).filter_map(in_scope).collect()
    }
}

/// A watch as its reader saw it.
#[derive(Clone, Debug)]
pub struct Recording {
    pub prefix: Key,
    pub after: Revision,
    pub items: Vec<WatchItem>,
    pub end: Option<Error>,
}

impl Recording {
    /// Reads a watch until it has delivered everything up to `upto`, or ends. Announce progress once the last write
    /// is committed, or a watch that the last write does not concern never gets there.
    pub async fn read(prefix: Key, after: Revision, watch: &mut Watch, upto: Revision) -> Self {
        let mut recording = Self { prefix, after, items: Vec::new(), end: None };
        while recording.reached() < upto {
            match watch.next().await {
                Some(Ok(item)) => recording.items.push(item),
                Some(Err(error)) => {
                    recording.end = Some(error);
                    break;
                }
                None => break,
            }
        }
        recording
    }

    /// The revision up to which the reader knows everything.
    pub fn reached(&self) -> Revision {
        self.items.iter().map(item_revision).max().unwrap_or(self.after)
    }

    pub fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        self.items.iter().flat_map(changes)
    }
}

fn item_revision(item: &WatchItem) -> Revision {
    match item {
        WatchItem::Events(events) => events.first().map_or(0, |e| e.entry().revision),
        WatchItem::Progress(revision) => *revision,
    }
}

fn changes(item: &WatchItem) -> Vec<Change> {
    let change = |event: &Event| Change {
        key: event.entry().key.clone(),
        revision: event.entry().revision,
        value: event.entry().value.clone(),
        deleted: matches!(event, Event::Delete { .. }),
    };
    match item {
        WatchItem::Events(events) => events.iter().map(change).collect(),
        WatchItem::Progress(_) => Vec::new(),
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub guarantee: &'static str,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}: {}", self.guarantee, self.detail)
    }
}
impl std::error::Error for Violation {}

type Verdict = Result<(), Violation>;
/// One promise.
pub type Validator = fn(&Recording, &Log) -> Verdict;

pub const ALL: [(&str, Validator); 6] = [
    ("ordered", ordered),
    ("unique", unique),
    ("atomic", atomic),
    ("bookmarkable", bookmarkable),
    ("gapless", gapless),
    ("linked", linked),
];

/// # Errors
/// The first promise that the recording breaks.
pub fn check(recording: &Recording, log: &Log) -> Verdict {
    ALL.iter().try_for_each(|(_, validator)| validator(recording, log))
}

fn broken(guarantee: &'static str, detail: impl fmt::Display) -> Verdict {
    Err(Violation { guarantee, detail: detail.to_string() })
}

/// Batches come in the order of their revisions, and none is older than where the watch began.
pub fn ordered(recording: &Recording, _: &Log) -> Verdict {
    let mut last = recording.after;
    for change in recording.changes() {
        if change.revision < last || change.revision == recording.after {
            return broken("ordered", format!("{} at {} after {last}", change.key, change.revision));
        }
        last = change.revision;
    }
    Ok(())
}

/// No event comes twice.
pub fn unique(recording: &Recording, _: &Log) -> Verdict {
    let mut seen = std::collections::BTreeSet::new();
    for change in recording.changes() {
        if !seen.insert((change.revision, change.key.clone())) {
            return broken("unique", format!("{} at {} came twice", change.key, change.revision));
        }
    }
    Ok(())
}

/// All events of one transaction come in one batch, and a batch holds one transaction.
pub fn atomic(recording: &Recording, log: &Log) -> Verdict {
    for item in &recording.items {
        let changes = changes(item);
        let Some(first) = changes.first() else { continue };
        if changes.iter().any(|c| c.revision != first.revision) {
            return broken("atomic", format!("the batch of {} holds another revision", first.revision));
        }
        let owed = log.owed(&recording.prefix, first.revision - 1, first.revision);
        let owed = owed.get(&first.revision).map_or(0, Vec::len);
        if changes.len() != owed {
            return broken("atomic", format!("{} of {owed} events at {}", changes.len(), first.revision));
        }
    }
    Ok(())
}

/// After a progress of R nothing of R or before comes.
pub fn bookmarkable(recording: &Recording, _: &Log) -> Verdict {
    let mut progress = 0;
    for item in &recording.items {
        match item {
            WatchItem::Progress(revision) if *revision < progress => {
                return broken("bookmarkable", format!("progress went from {progress} back to {revision}"));
            }
            WatchItem::Progress(revision) => progress = *revision,
            WatchItem::Events(_) if item_revision(item) <= progress => {
                return broken("bookmarkable", format!("{} came after progress {progress}", item_revision(item)));
            }
            WatchItem::Events(_) => {}
        }
    }
    Ok(())
}

/// Everything that was committed under the prefix, up to where the reader is, came, as it was committed.
pub fn gapless(recording: &Recording, log: &Log) -> Verdict {
    let mut came: Vec<Change> = recording.changes().collect();
    came.sort_by_key(|c| c.revision);
    let owed: Vec<Change> =
        log.owed(&recording.prefix, recording.after, recording.reached()).into_values().flatten().collect();
    if let Some(missed) = owed.iter().find(|c| !came.contains(c)) {
        return broken("gapless", format!("{} at {} did not come", missed.key, missed.revision));
    }
    match came.iter().find(|c| !owed.contains(c)) {
        Some(invented) => {
            broken("gapless", format!("{} at {} was never committed like that", invented.key, invented.revision))
        }
        None => Ok(()),
    }
}

/// The previous version that an event carries is the one that came before it for the same key.
pub fn linked(recording: &Recording, _: &Log) -> Verdict {
    let mut known: BTreeMap<Key, Option<Revision>> = BTreeMap::new();
    for item in &recording.items {
        let WatchItem::Events(events) = item else { continue };
        for event in events.iter() {
            let (entry, previous, now) = match event {
                Event::Put { entry, previous } => (entry, previous.as_ref(), Some(entry.revision)),
                Event::Delete { entry, previous } => (entry, Some(previous), None),
            };
            let previous = previous.map(|p| p.revision);
            if let Some(before) = known.insert(entry.key.clone(), now)
                && before != previous
            {
                return broken("linked", format!("{entry:?} says {previous:?} was before, it was {before:?}"));
            }
        }
    }
    Ok(())
}

/// A watch that begins again where another was delivers what the other delivered from there on.
///
/// # Errors
/// The first difference.
pub fn resumable(whole: &Recording, resumed: &Recording) -> Verdict {
    let upto = whole.reached().min(resumed.reached());
    let from = |r: &Recording| -> Vec<Change> {
        r.changes().filter(|c| c.revision > resumed.after && c.revision <= upto).collect()
    };
    let (expected, actual) = (from(whole), from(resumed));
    if expected == actual {
        return Ok(());
    }
    let at = expected.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    broken("resumable", format!("event {at} after {}: {:?}, not {:?}", resumed.after, actual.get(at), expected.get(at)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Draft, Entry};

    fn key(name: &str) -> Key {
        Key::new(format!("core/pods/{name}"))
    }

    /// Revision 2 creates a and b, 3 changes a, 4 deletes b.
    fn sound() -> (Recording, Log) {
        let mut log = Log::default();
        let draft = |text: &'static str| Draft { bytes: text.into(), revision_at: None };
        let entry = |name: &str, revision, text: &'static str| Arc::new(Entry::new(key(name), revision, text.into()));
        let (a2, b2) = (entry("a", 2, "a2"), entry("b", 2, "b2"));
        let (a3, b4) = (entry("a", 3, "a3"), entry("b", 4, "b4"));
        let mut add = |revision, ops, entries: &[&Arc<Entry>]| {
            let entries = entries.iter().map(|e| (*e).clone()).collect();
            log.add(&Transaction { expect: vec![], ops }, &Committed { revision, entries });
        };
        add(2, vec![Op::Put(key("a"), draft("a2")), Op::Put(key("b"), draft("b2"))], &[&a2, &b2]);
        add(3, vec![Op::Put(key("a"), draft("a3"))], &[&a3]);
        add(4, vec![Op::Delete(key("b"), Some(draft("b4")))], &[&b4]);
        let events = |events: Vec<Event>| WatchItem::Events(events.into());
        let put = |entry: &Arc<Entry>, previous: Option<&Arc<Entry>>| Event::Put {
            entry: entry.clone(),
            previous: previous.cloned(),
        };
        let items = vec![
            events(vec![put(&a2, None), put(&b2, None)]),
            events(vec![put(&a3, Some(&a2))]),
            WatchItem::Progress(3),
            events(vec![Event::Delete { entry: b4, previous: b2 }]),
        ];
        (Recording { prefix: Key::new("core/pods/"), after: 1, items, end: None }, log)
    }

    #[test]
    fn a_sound_history_passes() {
        let (recording, log) = sound();
        assert_eq!(check(&recording, &log), Ok(()));
        let resumed = Recording { after: 2, items: recording.items[1..].to_vec(), ..recording.clone() };
        assert_eq!(resumable(&recording, &resumed), Ok(()));
    }

    #[test]
    fn each_validator_finds_its_fault() {
        type Spoil = fn(&mut Recording);
        let faults: [(&str, Spoil); 7] = [
            ("ordered", |r| r.items.swap(0, 1)),
            ("unique", |r| r.items.insert(1, r.items[0].clone())),
            ("atomic", |r| {
                let WatchItem::Events(both) = r.items[0].clone() else { unreachable!() };
                r.items[0] = WatchItem::Events(both[..1].to_vec().into());
                r.items.insert(1, WatchItem::Events(both[1..].to_vec().into()));
            }),
            ("bookmarkable", |r| r.items[2] = WatchItem::Progress(4)),
            ("bookmarkable", |r| r.items.push(WatchItem::Progress(2))),
            ("gapless", |r| drop(r.items.remove(1))),
            ("linked", |r| {
                let WatchItem::Events(events) = r.items[1].clone() else { unreachable!() };
                let Event::Put { entry, .. } = events[0].clone() else { unreachable!() };
                r.items[1] = WatchItem::Events(vec![Event::Put { entry, previous: None }].into());
            }),
        ];
        for (name, spoil) in faults {
            let (mut recording, log) = sound();
            spoil(&mut recording);
            let validator = ALL.iter().find(|(n, _)| *n == name).unwrap().1;
            assert_eq!(validator(&recording, &log).unwrap_err().guarantee, name);
        }
    }

    #[test]
    fn a_resumed_watch_that_misses_an_event_is_found() {
        let (recording, _) = sound();
        let resumed = Recording { after: 2, items: recording.items[2..].to_vec(), ..recording.clone() };
        assert!(resumable(&recording, &resumed).is_err());
    }
}
