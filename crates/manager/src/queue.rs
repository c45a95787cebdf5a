//! The work queue: keys, once each, one worker per key, now or later.
//!
//! What must stay true: a key that is added while it is being worked on comes out again when that is done; a key never
//! is with two workers; an earlier time wins over a later one. Bounded by the number of distinct keys, which is the
//! number of objects of the kind.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::backoff::Backoff;

/// The queue without its waiting: time comes in as an argument.
#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be added to it when its worker is done.
    wanted: HashSet<K>,
    busy: HashSet<K>,
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    sequence: u64,
    backoff: Backoff<K>,
    closed: bool,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            wanted: HashSet::new(),
            busy: HashSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            sequence: 0,
            backoff: Backoff::default(),
            closed: false,
        }
    }

    fn add(&mut self, key: K) {
        if self.wanted.insert(key.clone()) && !self.busy.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(old) = self.due.get(&key) {
            if old.0 <= at {
                return;
            }
            self.later.remove(old);
        }
        self.sequence += 1;
        self.later.insert((at, self.sequence), key.clone());
        self.due.insert(key, (at, self.sequence));
    }

    fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some(first) = self.later.first_entry().filter(|e| e.key().0 <= now) {
            let key = first.remove();
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.wanted.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &K) {
        self.busy.remove(key);
        if self.wanted.contains(key) {
            self.ready.push_back(key.clone());
        }
    }
}

#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self { state: Mutex::new(State::new()), wake: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash + Debug> WorkQueue<K> {
    pub fn add(&self, key: K) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }
    pub fn extend(&self, keys: impl IntoIterator<Item = K>) {
        let mut state = self.state.lock();
        keys.into_iter().for_each(|key| state.add(key));
        drop(state);
        self.wake.notify_one();
    }
    pub fn add_after(&self, key: K, delay: Duration) {
        self.state.lock().add_at(key, Instant::now() + delay);
        self.wake.notify_one();
    }
    /// After this key's back-off, which grows with every call until [`Self::forget`]. Returns the delay.
    pub fn add_rate_limited(&self, key: K) -> Duration {
        let delay = self.state.lock().backoff.fail(key.clone());
        self.add_after(key, delay);
        delay
    }
    pub fn forget(&self, key: &K) {
        self.state.lock().backoff.forget(key);
    }
    /// The next key; the caller must call [`Self::done`] with it. `None` once the queue is closed. Safe to cancel.
    pub async fn next(&self) -> Option<K> {
        loop {
            let wake_at = {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                if let Some(key) = state.pop(Instant::now()) {
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.first_key_value().map(|((at, _), _)| *at)
            };
            match wake_at {
                None => self.wake.notified().await,
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, self.wake.notified()).await;
                }
            }
        }
    }
    pub fn done(&self, key: &K) {
        self.state.lock().done(key);
        self.wake.notify_one();
    }
    /// Wakes all workers with `None`.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }
    /// How many keys are ready or delayed.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.wanted.len() + state.later.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_come_out_once_and_again_when_added_while_busy() {
        let queue = WorkQueue::default();
        queue.extend(["a", "b", "a"]);
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err(), "a is busy");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_empty());
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_wait_and_the_earliest_wins() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(7));
        queue.add_after("b", Duration::from_secs(5));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(queue.next().await, Some("b"));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err(), "a came once");
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_end_when_it_is_closed() {
        let queue = std::sync::Arc::new(WorkQueue::<u8>::default());
        let workers: Vec<_> = (0..5)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.expect("no panic"), None);
        }
    }

    proptest! {
        /// Nothing is lost and nothing is with two workers, whatever the order of calls.
        #[test]
        fn random_calls_lose_nothing(steps in prop::collection::vec((0u8..4, 0u8..6), 1..200)) {
            let start = Instant::now();
            let mut state = State::new();
            let mut busy: Vec<u8> = Vec::new();
            let mut owed: HashSet<u8> = HashSet::new();
            for (at, (what, key)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(at as u64);
                match what {
                    0 => {
                        state.add(key);
                        owed.insert(key);
                    }
                    1 => {
                        state.add_at(key, now + Duration::from_secs(u64::from(key)));
                        owed.insert(key);
                    }
                    2 => if let Some(key) = state.pop(now) {
                        prop_assert!(!busy.contains(&key));
                        busy.push(key);
                        if !state.due.contains_key(&key) {
                            owed.remove(&key);
                        }
                    },
                    _ => if let Some(key) = busy.pop() {
                        state.done(&key);
                    },
                }
            }
            busy.drain(..).for_each(|key| state.done(&key));
            let end = start + Duration::from_secs(100_000);
            while let Some(key) = state.pop(end) {
                owed.remove(&key);
                state.done(&key);
            }
            prop_assert!(owed.is_empty(), "lost {owed:?}");
        }
    }
}
