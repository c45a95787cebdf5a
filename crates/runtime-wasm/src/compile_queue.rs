//! Who compiles when: large modules one at a time, for each takes up to 400 MiB; small ones beside them, on threads of their
//! own that come first, so that a program of 100 KiB never waits for one of 10 MiB; and what somebody waits for
//! before what nobody waits for. Their threads are of low priority, so that guests and the control plane come first, but not so low
//! that a busy machine starves a compile that somebody waits for.

use std::sync::OnceLock;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::lanes::lower_priority_to;

/// From here on a module is large.
pub const LARGE_BYTES: usize = 1 << 20;
const SMALL_AT_ONCE: usize = 4;
/// What somebody waits for gets a third of what a busy guest gets of a processor; what nobody waits for, a tenth.
const WAITED_NICE: i32 = 5;
const BACKGROUND_NICE: i32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A pod or a user waits for it.
    Waited,
    /// Later starts are faster with it. At most one is in line: who waits comes after one of them at the latest.
    Background,
}

pub struct Queue {
    threads: usize,
    small: Lane,
    large: Lane,
    background: Semaphore,
}

struct Lane {
    room: Semaphore,
    waited: Pool,
    background: Pool,
}

struct Pool {
    made: OnceLock<rayon::ThreadPool>,
    name: &'static str,
    nice: i32,
}

/// The right to compile one module, while it lives.
pub struct Turn<'a> {
    _behind: Option<SemaphorePermit<'a>>,
    _room: SemaphorePermit<'a>,
}

impl Queue {
    pub fn new(threads: usize) -> Self {
        let pool = |name, nice| Pool { made: OnceLock::new(), name, nice };
        let lane = |room, waited, background| Lane {
            room: Semaphore::new(room),
            waited: pool(waited, WAITED_NICE),
            background: pool(background, BACKGROUND_NICE),
        };
        Self {
            threads,
            small: lane(SMALL_AT_ONCE, "wasm-small", "wasm-small-bg"),
            large: lane(1, "wasm-large", "wasm-large-bg"),
            background: Semaphore::new(1),
        }
    }

    fn lane(&self, bytes: usize) -> &Lane {
        if bytes >= LARGE_BYTES { &self.large } else { &self.small }
    }

    /// Waits for the turn of a module of that size.
    ///
    /// # Errors
    /// Never while the queue lives.
    pub async fn turn(&self, bytes: usize, urgency: Urgency) -> Result<Turn<'_>, String> {
        let closed = |_| "the compiler is closed".to_owned();
        let behind = match urgency {
            Urgency::Waited => None,
            Urgency::Background => Some(self.background.acquire().await.map_err(closed)?),
        };
        let room = self.lane(bytes).room.acquire().await.map_err(closed)?;
        Ok(Turn { _behind: behind, _room: room })
    }

    /// Runs `work` on threads for a module of that size. Those for a large one end with it: the allocator gives back what
    /// a thread freed when the thread ends, and keeps it while it idles.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn run<R: Send>(&self, bytes: usize, urgency: Urgency, work: impl FnOnce() -> R + Send) -> Result<R, String> {
        let pool = match urgency {
            Urgency::Waited => &self.lane(bytes).waited,
            Urgency::Background => &self.lane(bytes).background,
        };
        if bytes >= LARGE_BYTES {
            return Ok(pool.make(self.threads)?.install(work));
        }
        if let Some(threads) = pool.made.get() {
            return Ok(threads.install(work));
        }
        let threads = pool.make(self.threads)?;
        Ok(pool.made.get_or_init(|| threads).install(work))
    }
}

impl Pool {
    fn make(&self, threads: usize) -> Result<rayon::ThreadPool, String> {
        let (name, nice) = (self.name, self.nice);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("{name}-{index}"))
            .start_handler(move |_| lower_priority_to(nice))
            .build()
            .map_err(|error| format!("failed to start compile threads: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn who_waits_goes_before_who_does_not() {
        let queue = Queue::new(1);
        let running = queue.turn(LARGE_BYTES, Urgency::Background).await.expect("free");
        assert!(timeout(SOON, queue.turn(LARGE_BYTES, Urgency::Waited)).await.is_err(), "one large at a time");
        let small = queue.turn(1, Urgency::Waited).await.expect("a small one does not wait for a large one");
        let mut behind = Box::pin(queue.turn(LARGE_BYTES, Urgency::Background));
        assert!(timeout(SOON, &mut behind).await.is_err());
        let mut waited = Box::pin(queue.turn(LARGE_BYTES, Urgency::Waited));
        assert!(timeout(SOON, &mut waited).await.is_err());
        drop((running, small));
        let turn = waited.await.expect("its turn");
        assert!(timeout(SOON, &mut behind).await.is_err(), "the background one came first and goes last");
        drop(turn);
        behind.await.expect("its turn");
    }

    #[test]
    fn small_modules_have_threads_of_their_own() {
        let queue = Queue::new(1);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| queue.run(LARGE_BYTES, Urgency::Waited, move || receiver.recv().is_ok()));
            assert_eq!(queue.run(0, Urgency::Waited, || 1), Ok(1));
            drop(sender);
        });
    }
}
