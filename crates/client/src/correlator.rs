//! Which Event object a repeated occurrence becomes: pure, after the documented behaviour of client-go's correlator.
//!
//! - The same occurrence again raises the count of the Event that is there.
//! - More than [`SIMILAR_MAX`] occurrences within [`SIMILAR_SECONDS`] that differ only in their message become one
//!   Event, "(combined from similar events): …".
//! - Each object has a budget of [`BURST`] events, refilled with one every [`REFILL_SECONDS`]; what exceeds it is
//!   dropped.
//! - At most [`REMEMBERED_MAX`] entries are remembered of each sort; the oldest is forgotten.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

use jiff::Timestamp;

pub const SIMILAR_MAX: usize = 10;
pub const SIMILAR_SECONDS: i64 = 600;
pub const BURST: f64 = 25.0;
pub const REFILL_SECONDS: f64 = 300.0;
pub const REMEMBERED_MAX: usize = 4096;

/// What makes two occurrences similar: everything but the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// `KIND/NAMESPACE/NAME/UID` of the object.
    pub object: String,
    pub warning: bool,
    pub reason: String,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new Event of this name.
    Create {
        name: String,
        message: String,
    },
    /// Count up the Event of this name.
    Repeat {
        name: String,
        message: String,
        count: i32,
    },
    Drop,
}

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    count: i32,
}

struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

struct Budget {
    left: f64,
    at: Timestamp,
}

#[derive(Default)]
pub struct Correlator {
    seen: Remembered<(Subject, String), Seen>,
    similar: Remembered<Subject, Similar>,
    budgets: Remembered<String, Budget>,
}

impl Correlator {
    /// `object_name` begins the name of a new Event.
    pub fn observe(&mut self, subject: &Subject, object_name: &str, message: &str, now: Timestamp) -> Verdict {
        if !self.afford(&subject.object, now) {
            return Verdict::Drop;
        }
        let combined = self.combine(subject, message, now);
        let message = if combined { format!("(combined from similar events): {message}") } else { message.to_owned() };
        let identity = (subject.clone(), if combined { String::new() } else { message.clone() });
        if let Some(seen) = self.seen.get(&identity) {
            seen.count = seen.count.saturating_add(1);
            return Verdict::Repeat { name: seen.name.clone(), message, count: seen.count };
        }
        // A DNS subdomain of 253 characters at most; the suffix takes 17 of them.
        let stem = object_name.char_indices().nth(236).map_or(object_name, |(end, _)| &object_name[..end]);
        let name = format!("{stem}.{:x}", now.as_nanosecond());
        self.seen.insert(identity, Seen { name: name.clone(), count: 1 });
        Verdict::Create { name, message }
    }

    /// The write failed because the Event is gone: the next occurrence makes a new one.
    pub fn forget(&mut self, name: &str) {
        self.seen.entries.retain(|_, seen| seen.name != name);
    }

    fn afford(&mut self, object: &str, now: Timestamp) -> bool {
        let key = object.to_owned();
        if self.budgets.get(&key).is_none() {
            self.budgets.insert(key.clone(), Budget { left: BURST, at: now });
        }
        let Some(budget) = self.budgets.get(&key) else { return true };
        let passed = (now.as_millisecond() - budget.at.as_millisecond()).max(0) as f64 / 1000.0;
        budget.left = (budget.left + passed / REFILL_SECONDS).min(BURST);
        budget.at = now;
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }

    fn combine(&mut self, subject: &Subject, message: &str, now: Timestamp) -> bool {
        if self.similar.get(subject).is_none() {
            self.similar.insert(subject.clone(), Similar { messages: HashSet::new(), last: now });
        }
        let Some(similar) = self.similar.get(subject) else { return false };
        if now.as_second() - similar.last.as_second() > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() < SIMILAR_MAX {
            similar.messages.insert(message.to_owned());
        }
        similar.messages.len() >= SIMILAR_MAX
    }
}

/// A map that forgets the entry that was inserted first.
struct Remembered<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}
impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}
impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }
    fn insert(&mut self, key: K, value: V) {
        while self.order.len() >= REMEMBERED_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.entries.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("in range")
    }
    fn subject(object: &str) -> Subject {
        Subject { object: object.into(), warning: true, reason: "FailedScheduling".into() }
    }

    #[test]
    fn the_same_again_counts_up_one_event() {
        let mut c = Correlator::default();
        let first = c.observe(&subject("p"), "web-1", "no nodes", at(0));
        let Verdict::Create { name, message } = first else { panic!("{first:?}") };
        assert!(name.starts_with("web-1."), "{name}");
        assert_eq!(message, "no nodes");
        for count in 2..5 {
            let again = c.observe(&subject("p"), "web-1", "no nodes", at(i64::from(count)));
            assert_eq!(again, Verdict::Repeat { name: name.clone(), message: "no nodes".into(), count });
        }
        c.forget(&name);
        assert!(matches!(c.observe(&subject("p"), "web-1", "no nodes", at(9)), Verdict::Create { .. }));
    }

    #[test]
    fn many_messages_of_one_reason_become_one_event() {
        let mut c = Correlator::default();
        let mut created = 0;
        let mut last = Verdict::Drop;
        for i in 0..20 {
            last = c.observe(&subject("job"), "job", &format!("created pod {i}"), at(i));
            created += i32::from(matches!(last, Verdict::Create { .. }));
        }
        assert_eq!(created, SIMILAR_MAX as i32, "nine of their own and the combined one");
        let Verdict::Repeat { message, count, .. } = last else { panic!("{last:?}") };
        assert_eq!((message.as_str(), count), ("(combined from similar events): created pod 19", 11));
    }

    #[test]
    fn an_object_that_never_stops_is_dropped_and_others_are_not() {
        let mut c = Correlator::default();
        let mut written = 0;
        for i in 0..100 {
            written += i32::from(c.observe(&subject("noisy"), "n", "again", at(i / 10)) != Verdict::Drop);
        }
        assert_eq!(written, BURST as i32);
        assert_ne!(c.observe(&subject("quiet"), "q", "once", at(10)), Verdict::Drop);
        assert_ne!(c.observe(&subject("noisy"), "n", "again", at(400)), Verdict::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut c = Correlator::default();
        for i in 0..2 * REMEMBERED_MAX {
            c.observe(&subject(&i.to_string()), "n", "once", at(0));
        }
        assert_eq!((c.seen.entries.len(), c.budgets.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
