//! The watchers by prefix: an event costs a look-up per `/` in its key plus the watchers that want it, however many
//! others there are.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    iter,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use futures::Stream;
use parking_lot::Mutex;

use super::history::Batch;
use crate::{Error, Event, Key, Revision, WatchItem};

pub(super) struct Watchers {
    by_prefix: HashMap<Key, Vec<Arc<Watcher>>>,
    batches_max: usize,
    progress: u64,
    /// When idle watchers were last looked for.
    swept: Revision,
    closed: bool,
}

struct Watcher {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<WatchItem>,
    /// The revision of the last item that was queued.
    sent: Revision,
    end: Option<Error>,
    waker: Option<Waker>,
}

/// Every prefix that covers a key.
fn prefixes(key: &Key) -> impl Iterator<Item = &str> {
    let key = key.as_str();
    iter::once("").chain(key.match_indices('/').map(|(at, _)| &key[..=at])).chain(iter::once(key))
}

impl Watchers {
    pub(super) fn new(batches_max: usize, progress: u64, revision: Revision) -> Self {
        Self { by_prefix: HashMap::new(), batches_max, progress, swept: revision, closed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.by_prefix.values().map(Vec::len).sum()
    }

    /// Begins a watch that delivers `catch_up`, then says that it is at `revision`, then what comes.
    pub(super) fn begin(
        &mut self,
        shared: &Arc<Mutex<Watchers>>,
        prefix: Key,
        mut catch_up: VecDeque<WatchItem>,
        revision: Revision,
    ) -> Result<WatchStream, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        catch_up.push_back(WatchItem::Progress(revision));
        let watcher = Arc::new(Watcher { queue: Mutex::new(Queue { sent: revision, ..Queue::default() }) });
        self.by_prefix.entry(prefix.clone()).or_default().push(watcher.clone());
        Ok(WatchStream { prefix, catch_up, watcher, watchers: Arc::downgrade(shared), ended: false })
    }

    pub(super) fn deliver(&mut self, batch: Batch) {
        let mut lagged = Vec::new();
        match &*batch.events {
            [one] => {
                for prefix in prefixes(&one.entry().key) {
                    self.send(prefix, &batch.events, batch.revision, &mut lagged);
                }
            }
            many => {
                let mut wanted: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
                for event in many {
                    for prefix in prefixes(&event.entry().key).filter(|p| self.by_prefix.contains_key(*p)) {
                        wanted.entry(prefix).or_default().push(event);
                    }
                }
                for (prefix, events) in wanted {
                    let whole = events.len() == many.len();
                    let events = if whole { batch.events.clone() } else { events.into_iter().cloned().collect() };
                    self.send(prefix, &events, batch.revision, &mut lagged);
                }
            }
        }
        for (prefix, watcher) in lagged {
            self.remove(&prefix, &watcher);
        }
        if batch.revision >= self.swept + self.progress {
            self.sweep(batch.revision);
        }
    }

    fn send(&self, prefix: &str, events: &Arc<[Event]>, revision: Revision, lagged: &mut Vec<(Key, Arc<Watcher>)>) {
        let Some((key, watchers)) = self.by_prefix.get_key_value(prefix) else { return };
        for watcher in watchers {
            if !watcher.push(WatchItem::Events(events.clone()), revision, self.batches_max) {
                lagged.push((key.clone(), watcher.clone()));
            }
        }
    }

    /// Tells watchers that had nothing for a while how far they are.
    fn sweep(&mut self, revision: Revision) {
        self.swept = revision;
        for watcher in self.by_prefix.values().flatten() {
            watcher.progress(revision, self.progress);
        }
    }

    pub(super) fn announce(&mut self, revision: Revision) {
        self.swept = revision;
        for watcher in self.by_prefix.values().flatten() {
            watcher.progress(revision, 0);
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        for (_, watchers) in self.by_prefix.drain() {
            for watcher in watchers {
                watcher.end(Error::Closed);
            }
        }
    }

    fn remove(&mut self, prefix: &Key, watcher: &Arc<Watcher>) {
        let Some(same_prefix) = self.by_prefix.get_mut(prefix) else { return };
        same_prefix.retain(|w| !Arc::ptr_eq(w, watcher));
        if same_prefix.is_empty() {
            self.by_prefix.remove(prefix);
        }
    }
}

impl Watcher {
    /// False when the watcher has fallen behind: its watch has ended and its queue is freed.
    fn push(&self, item: WatchItem, revision: Revision, limit: usize) -> bool {
        let mut queue = self.queue.lock();
        if queue.end.is_some() {
            return true;
        }
        let fits = queue.items.len() < limit;
        if fits {
            queue.items.push_back(item);
            queue.sent = revision;
        } else {
            queue.items = VecDeque::new();
            queue.end = Some(Error::Lagged { limit });
        }
        wake(queue);
        fits
    }

    fn progress(&self, revision: Revision, at_least: u64) {
        let mut queue = self.queue.lock();
        if queue.end.is_some() || revision < queue.sent + at_least {
            return;
        }
        // One that nobody has read yet is replaced, so that progress alone never fills a queue.
        if let Some(WatchItem::Progress(last)) = queue.items.back_mut() {
            *last = revision;
        } else {
            queue.items.push_back(WatchItem::Progress(revision));
        }
        queue.sent = revision;
        wake(queue);
    }

    fn end(&self, error: Error) {
        let mut queue = self.queue.lock();
        queue.end.get_or_insert(error);
        wake(queue);
    }
}

fn wake(mut queue: parking_lot::MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One watch. Its place is free as soon as it is dropped.
pub(super) struct WatchStream {
    prefix: Key,
    /// What happened before the watch began: as much as the history holds, and not counted against the limit.
    catch_up: VecDeque<WatchItem>,
    watcher: Arc<Watcher>,
    watchers: Weak<Mutex<Watchers>>,
    /// The error that ended the watch was said.
    ended: bool,
}

impl Stream for WatchStream {
    type Item = Result<WatchItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = self.catch_up.pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        let mut queue = self.watcher.queue.lock();
        if let Some(item) = queue.items.pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(error) = queue.end.clone() else {
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        drop(queue);
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        if let Some(watchers) = self.watchers.upgrade() {
            watchers.lock().remove(&self.prefix, &self.watcher);
        }
    }
}
