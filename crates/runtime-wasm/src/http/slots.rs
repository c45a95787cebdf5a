//! The node's instances for requests of all its servers together.
//!
//! The pool of instances is made for the node's containers and these beside them, so that however busy servers are, a container
//! that starts finds the instance that the node has promised it. What must stay true: no more instances of requests live at
//! once than there are slots (those kept warm included); taking and giving back one costs one atomic operation each; who
//! waits is woken by the next that is given back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

pub struct Slots {
    max: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    given_back: Notify,
}

/// Room for one instance while it lives.
pub struct Slot(Arc<Slots>);

impl Slots {
    pub fn new(max: usize) -> Arc<Self> {
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { max, used, waiting, given_back: Notify::new() })
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        // Never above the maximum, not even for a moment: another would be turned away and not be woken.
        let one_more = |used| (used < self.max).then_some(used + 1);
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok().then(|| Slot(self.clone()))
    }

    pub async fn wait(self: &Arc<Self>) -> Slot {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let given_back = self.given_back.notified();
            tokio::pin!(given_back);
            given_back.as_mut().enable();
            if let Some(slot) = self.take() {
                return slot;
            }
            given_back.await;
        }
    }

    /// Whether somebody would have to wait.
    pub fn are_short(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.given_back.notify_one();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_than_there_are_and_nobody_waits_for_ever() {
        let slots = Slots::new(3);
        let most = Arc::new(AtomicUsize::new(0));
        let tasks = (0..64).map(|_| {
            let (slots, most) = (slots.clone(), most.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let slot = slots.wait().await;
                    most.fetch_max(slots.used.load(Ordering::SeqCst), Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    drop(slot);
                }
            })
        });
        let all = futures::future::join_all(tasks);
        tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("nobody is forgotten");
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert_eq!((slots.used.load(Ordering::SeqCst), slots.waiting.load(Ordering::SeqCst)), (0, 0));
        let all: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!((all.len(), slots.are_short()), (3, true));
    }
}
