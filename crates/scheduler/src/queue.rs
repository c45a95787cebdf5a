//! The pods that wait for a decision.
//!
//! Active ones come out by priority, then by time of arrival. A pod that failed waits: for its back-off (1 s, doubling
//! to 10 s), and when it was unschedulable also for one of the events that its rejecting plugins declared (or five
//! minutes). A pod with scheduling gates waits until they are gone.
//!
//! What must stay true: every pod is in exactly one place; an event that arrives while a pod is being decided is not
//! lost. Bounded by the pending pods of the cluster: one entry each.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{Events, PodInfo, Rejection};

const BACKOFF_INITIAL: SignedDuration = SignedDuration::from_secs(1);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(10);
/// An unschedulable pod is tried again after this time whatever happens.
const UNSCHEDULABLE_MAX: SignedDuration = SignedDuration::from_mins(5);

type ActiveKey = (Reverse<i32>, Timestamp, u64);

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Gated,
    Active(ActiveKey),
    BackingOff(Timestamp),
    Unschedulable {
        since: Timestamp,
        events: Events,
    },
    /// Popped, at this point of the history of events.
    InFlight {
        seen: u64,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    pod: PodInfo,
    /// Unique, raising: breaks ties of time.
    sequence: u64,
    attempts: u32,
    backoff_until: Option<Timestamp>,
    place: Place,
}

/// A pod taken out for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    pub pod: PodInfo,
    /// 1 for the first time.
    pub attempt: u32,
}

/// How many pods are where, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: usize,
    pub backing_off: usize,
    pub unschedulable: usize,
    pub gated: usize,
    pub in_flight: usize,
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<Arc<str>, Entry>,
    active: BTreeMap<ActiveKey, Arc<str>>,
    backing_off: BTreeMap<(Timestamp, u64), Arc<str>>,
    /// When each unschedulable pod is tried again anyway.
    leftovers: BTreeMap<(Timestamp, u64), Arc<str>>,
    /// Unschedulable pods by what they wait for: an event moves whole groups.
    waiting: HashMap<Events, BTreeSet<(u64, Arc<str>)>>,
    sequence: u64,
    /// Every event so far has a number; the last number of each kind.
    history: u64,
    last: HashMap<u32, u64>,
}

impl Queue {
    pub fn new() -> Self {
        Self::default()
    }

    /// A pending pod of the API, new or changed. A pod that waits is tried again only when something changed that
    /// decides where it may go.
    pub fn add(&mut self, pod: PodInfo, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&pod.uid) else {
            self.sequence += 1;
            let uid = pod.uid.clone();
            let place = Place::Gated;
            let entry = Entry { pod, sequence: self.sequence, attempts: 0, backoff_until: None, place };
            self.entries.insert(uid.clone(), entry);
            return self.admit(&uid, now);
        };
        let changed = entry.pod.template != pod.template || entry.pod.priority != pod.priority;
        let gates_changed = entry.pod.gates != pod.gates;
        if !changed && !gates_changed {
            return;
        }
        let uid = pod.uid.clone();
        entry.pod = pod;
        match &entry.place {
            Place::Gated => self.admit(&uid, now),
            Place::Active(_) => {
                self.leave(&uid);
                self.admit(&uid, now);
            }
            Place::Unschedulable { events, .. } if events.intersects(Events::POD_UPDATE) => self.retry(&uid, now),
            Place::InFlight { .. } => self.note(Events::POD_UPDATE),
            _ => {}
        }
    }

    /// The pod is bound, deleted or has ended.
    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.entries.remove(uid);
    }

    /// Takes out up to `max` pods, the most urgent first. Each must come back by [`Queue::remove`],
    /// [`Queue::unschedulable`] or [`Queue::requeue`].
    pub fn pop_batch(&mut self, max: usize, now: Timestamp) -> Vec<Queued> {
        self.wake(now);
        let mut out = Vec::with_capacity(max.min(self.active.len()));
        while out.len() < max {
            let Some((_, uid)) = self.active.pop_first() else { break };
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.attempts += 1;
                entry.place = Place::InFlight { seen: self.history };
                out.push(Queued { pod: entry.pod.clone(), attempt: entry.attempts });
            }
        }
        out
    }

    /// A popped pod fits nowhere: it waits for one of the events of its rejection.
    pub fn unschedulable(&mut self, uid: &str, rejection: &Rejection, now: Timestamp) {
        let Some(seen) = self.fail(uid, now) else { return };
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let events = rejection.events;
        entry.place = Place::Unschedulable { since: now, events };
        let (uid, sequence) = (entry.pod.uid.clone(), entry.sequence);
        self.leftovers.insert((now + UNSCHEDULABLE_MAX, sequence), uid.clone());
        self.waiting.entry(events).or_default().insert((sequence, uid.clone()));
        let missed = |(bit, last): (&u32, &u64)| *last > seen && events.intersects(Events::from_bit(*bit));
        if self.last.iter().any(missed) {
            self.retry(&uid, now);
        }
    }

    /// A popped pod failed for another reason (its binding was refused): it waits for its back-off.
    pub fn requeue(&mut self, uid: &str, now: Timestamp) {
        if self.fail(uid, now).is_some() {
            self.enqueue_or_back_off(uid, now);
        }
    }

    /// Something happened in the cluster: pods that waited for it are tried again, after their back-off.
    pub fn on_events(&mut self, events: Events, now: Timestamp) {
        if events.is_empty() {
            return;
        }
        self.note(events);
        let groups: Vec<Events> = self.waiting.keys().copied().filter(|waited| waited.intersects(events)).collect();
        for group in groups {
            for (_, uid) in self.waiting.remove(&group).unwrap_or_default() {
                self.retry(&uid, now);
            }
        }
    }

    /// When to call [`Queue::pop_batch`] again though nothing happened.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let first = |map: &BTreeMap<(Timestamp, u64), Arc<str>>| map.first_key_value().map(|((at, _), _)| *at);
        [first(&self.backing_off), first(&self.leftovers)].into_iter().flatten().min()
    }

    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    pub fn counts(&self) -> Counts {
        let active = self.active.len();
        let backing_off = self.backing_off.len();
        let unschedulable = self.leftovers.len();
        let in_flight = self.entries.values().filter(|e| matches!(e.place, Place::InFlight { .. })).count();
        let gated = self.entries.len() - active - backing_off - unschedulable - in_flight;
        Counts { active, backing_off, unschedulable, gated, in_flight }
    }

    /// Moves what is due into the active queue.
    fn wake(&mut self, now: Timestamp) {
        while let Some(first) = self.backing_off.first_entry().filter(|e| e.key().0 <= now) {
            let uid = first.remove();
            self.enqueue(&uid, now);
        }
        while let Some(uid) = self.leftovers.first_key_value().filter(|((at, _), _)| *at <= now).map(|(_, u)| u.clone())
        {
            self.retry(&uid, now);
        }
    }

    fn admit(&mut self, uid: &str, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Gated;
            if entry.pod.gates.is_empty() {
                self.enqueue(uid, now);
            }
        }
    }

    /// Out of the unschedulable ones, to the active or the back-off queue.
    fn retry(&mut self, uid: &str, now: Timestamp) {
        self.leave(uid);
        self.enqueue_or_back_off(uid, now);
    }

    fn enqueue_or_back_off(&mut self, uid: &str, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.backoff_until.filter(|until| *until > now) {
            Some(until) => {
                entry.place = Place::BackingOff(until);
                self.backing_off.insert((until, entry.sequence), entry.pod.uid.clone());
            }
            None => self.enqueue(uid, now),
        }
    }

    fn enqueue(&mut self, uid: &str, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let key = (Reverse(entry.pod.priority), now, entry.sequence);
        entry.place = Place::Active(key);
        self.active.insert(key, entry.pod.uid.clone());
    }

    /// Counts a failed attempt of a popped pod; `None` when it is not one any more.
    fn fail(&mut self, uid: &str, now: Timestamp) -> Option<u64> {
        let entry = self.entries.get_mut(uid)?;
        let Place::InFlight { seen } = entry.place else { return None };
        entry.backoff_until = Some(now + backoff(entry.attempts));
        Some(seen)
    }

    /// Out of every index.
    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        match &entry.place {
            Place::Active(key) => drop(self.active.remove(key)),
            Place::BackingOff(until) => drop(self.backing_off.remove(&(*until, entry.sequence))),
            Place::Unschedulable { since, events } => {
                self.leftovers.remove(&(*since + UNSCHEDULABLE_MAX, entry.sequence));
                if let Some(group) = self.waiting.get_mut(events) {
                    group.remove(&(entry.sequence, entry.pod.uid.clone()));
                    if group.is_empty() {
                        self.waiting.remove(events);
                    }
                }
            }
            Place::Gated | Place::InFlight { .. } => {}
        }
    }

    fn note(&mut self, events: Events) {
        self.history += 1;
        for bit in events.bits() {
            self.last.insert(bit, self.history);
        }
    }
}

/// 1 s after the first attempt, doubling, 10 s at most.
fn backoff(attempts: u32) -> SignedDuration {
    let doublings = attempts.saturating_sub(1).min(8);
    (BACKOFF_INITIAL * (1 << doublings)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }
    fn names(batch: Vec<Queued>) -> String {
        batch.iter().map(|q| &*q.pod.name).collect::<Vec<_>>().join(" ")
    }
    fn waits_for(events: Events) -> Rejection {
        Rejection { message: String::new(), plugins: vec![], events }
    }

    #[test]
    fn active_pods_come_by_priority_then_time() {
        let mut queue = Queue::new();
        queue.add(pod("late").info(), at(2));
        queue.add(pod("early").info(), at(1));
        queue.add(pod("urgent").priority(5).info(), at(3));
        queue.add(pod("also-late").info(), at(2));
        assert_eq!(names(queue.pop_batch(2, at(3))), "urgent early");
        assert_eq!(names(queue.pop_batch(9, at(3))), "late also-late");
        assert_eq!(queue.counts(), Counts { in_flight: 4, ..Counts::default() });
    }

    #[test]
    fn a_failed_pod_backs_off_from_one_to_ten_seconds() {
        let mut queue = Queue::new();
        queue.add(pod("a").info(), at(0));
        let mut now = 0;
        for expected in [1, 2, 4, 8, 10, 10] {
            assert_eq!(names(queue.pop_batch(1, at(now))), "a");
            queue.requeue("uid-a", at(now));
            assert_eq!(queue.next_wakeup(), Some(at(now + expected)));
            assert_eq!(names(queue.pop_batch(1, at(now + expected - 1))), "");
            now += expected;
        }
    }

    #[test]
    fn an_unschedulable_pod_waits_for_a_declared_event_and_its_back_off() {
        let mut queue = Queue::new();
        queue.add(pod("a").info(), at(0));
        queue.pop_batch(1, at(0));
        queue.unschedulable("uid-a", &waits_for(Events::NODE_ADD), at(0));
        queue.on_events(Events::NODE_TAINT, at(0));
        assert_eq!(queue.counts().unschedulable, 1);
        // Within the back-off: the event is remembered by waiting for the rest of it.
        queue.on_events(Events::NODE_ADD, at(0));
        assert_eq!(names(queue.pop_batch(1, at(0))), "");
        assert_eq!(names(queue.pop_batch(1, at(1))), "a");
        // After the back-off: at once.
        queue.unschedulable("uid-a", &waits_for(Events::NODE_ADD), at(1));
        queue.on_events(Events::NODE_ADD, at(9));
        assert_eq!(names(queue.pop_batch(1, at(9))), "a");
        // Whatever happens, after five minutes.
        queue.unschedulable("uid-a", &waits_for(Events::NODE_ADD), at(9));
        assert_eq!(queue.next_wakeup(), Some(at(309)));
        assert_eq!(names(queue.pop_batch(1, at(309))), "a");
    }

    #[test]
    fn an_event_during_the_decision_is_not_lost() {
        let mut queue = Queue::new();
        queue.add(pod("a").info(), at(0));
        queue.pop_batch(1, at(0));
        queue.on_events(Events::ASSIGNED_POD_DELETE, at(0));
        queue.unschedulable("uid-a", &waits_for(Events::ASSIGNED_POD_DELETE), at(0));
        assert_eq!(queue.counts().backing_off, 1);
    }

    #[test]
    fn gates_hold_a_pod_back_until_all_are_gone() {
        let mut queue = Queue::new();
        queue.add(pod("a").gate("one").gate("two").info(), at(0));
        queue.add(pod("a").gate("two").info(), at(1));
        assert_eq!((names(queue.pop_batch(1, at(1))), queue.counts().gated), (String::new(), 1));
        queue.add(pod("a").info(), at(2));
        assert_eq!(names(queue.pop_batch(1, at(2))), "a");
    }

    #[test]
    fn a_changed_pod_is_tried_again_and_an_unchanged_one_is_not() {
        let mut queue = Queue::new();
        queue.add(pod("a").info(), at(0));
        queue.pop_batch(1, at(0));
        queue.unschedulable("uid-a", &waits_for(Events::POD_UPDATE), at(0));
        queue.add(pod("a").label("status", "only").info(), at(5));
        assert_eq!(queue.counts().unschedulable, 1);
        queue.add(pod("a").tolerate("k", "Exists", "", "").info(), at(5));
        assert_eq!(names(queue.pop_batch(1, at(5))), "a");
        queue.remove("uid-a");
        queue.unschedulable("uid-a", &waits_for(Events::ALL), at(6));
        assert_eq!(queue.counts(), Counts::default());
    }
}
