//! Where guests run: two sets of threads apart from the control plane's.
//!
//! A guest begins in the *prompt* lane. One that keeps computing past [`PROMPT_SLICES_MAX`] epochs moves to the *batch*
//! lane, whose threads have a lower priority, and comes back when it waits for something. So however many guests
//! loop for ever, starting one and answering the API stay fast. A guest whose CPU is limited pays for its time
//! from a token bucket and pauses when that is empty.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use skiff_runtime::Exit;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};

use crate::{engine::Ticker, limits::Usage, log::Log};

/// Epochs that a guest may compute through without a pause before it moves.
pub const PROMPT_SLICES_MAX: u32 = 2;
/// The priority of the batch lane's threads.
const BATCH_NICE: i32 = 10;
/// What a CPU-limited guest may save up, in time of its limit: as the usual cgroup period.
const BUCKET_PERIOD: Duration = Duration::from_millis(100);
/// Threads for blocking calls on files, of each lane.
const BLOCKING_THREADS_MAX: usize = 64;

pub struct Lanes {
    prompt: Option<Runtime>,
    batch: Option<Runtime>,
    handles: Arc<Handles>,
}

struct Handles {
    prompt: Handle,
    batch: Handle,
}

impl Lanes {
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let build = |name: &str, nice: bool| {
            let mut builder = Builder::new_multi_thread();
            builder
                .worker_threads(threads)
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .thread_name(name)
                .enable_all()
                // Slices are up to an epoch long: look for new guests and due timers at every one.
                .global_queue_interval(1)
                .event_interval(if nice { 1 } else { 7 });
            if nice {
                builder.on_thread_start(lower_priority);
            }
            builder.build()
        };
        let (prompt, batch) = (build("wasm-prompt", false)?, build("wasm-batch", true)?);
        let handles = Arc::new(Handles { prompt: prompt.handle().clone(), batch: batch.handle().clone() });
        Ok(Self { prompt: Some(prompt), batch: Some(batch), handles })
    }

    /// Runs the guest to its end, then `done`.
    pub fn spawn(&self, guest: Metered, done: impl FnOnce(Exit) + Send + 'static) {
        let handles = self.handles.clone();
        self.handles.prompt.spawn(drive(guest, false, handles, Box::new(done)));
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which is not allowed on an async thread.
        for runtime in [self.prompt.take(), self.batch.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// Lower the priority of this thread. Best effort: without it things are only less fair.
pub fn lower_priority() {
    lower_priority_to(BATCH_NICE);
}

/// As [`lower_priority`], to that value of `nice`.
pub fn lower_priority_to(nice: i32) {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), nice) {
        tracing::debug!(error = %error, "thread priority not lowered");
    }
}

type Done = Box<dyn FnOnce(Exit) + Send>;

fn drive(
    mut guest: Metered,
    batch: bool,
    handles: Arc<Handles>,
    done: Done,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        match (Turn { guest: &mut guest, batch }).await {
            Some(exit) => {
                // Its memory is free before anybody hears that it has ended.
                drop(guest);
                done(exit);
            }
            None => {
                let next = if batch { &handles.prompt } else { &handles.batch };
                next.spawn(drive(guest, !batch, handles.clone(), done));
            }
        }
    })
}

/// One guest's stay in one lane: `None` when it is to move to the other.
struct Turn<'a> {
    guest: &'a mut Metered,
    batch: bool,
}

impl Future for Turn<'_> {
    type Output = Option<Exit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Exit>> {
        let batch = self.batch;
        let guest = &mut *self.guest;
        if let Poll::Ready(exit) = guest.poll(context) {
            return Poll::Ready(Some(exit));
        }
        let moves = if batch { guest.slices == 0 } else { guest.slices > PROMPT_SLICES_MAX };
        if moves { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// A guest's future with its time measured and limited, and a way to end it.
pub struct Metered {
    pub guest: Pin<Box<dyn Future<Output = Exit> + Send>>,
    /// Ends the guest with that exit wherever it is; dropped unsent, it never does.
    pub kill: Option<oneshot::Receiver<Exit>>,
    /// Set by the guest's epoch callback: it would have computed on.
    pub yielded: Arc<AtomicBool>,
    pub usage: Arc<Usage>,
    pub ticker: Arc<Ticker>,
    /// Of a main process.
    pub log: Option<Log>,
    /// The container's: its processes share it.
    pub bucket: Option<SharedBucket>,
    /// Epochs without a pause.
    pub slices: u32,
    pub pause: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Exit> {
        if let Some(kill) = &mut self.kill
            && let Poll::Ready(killed) = Pin::new(kill).poll(context)
        {
            self.kill = None;
            if let Ok(exit) = killed {
                return Poll::Ready(exit);
            }
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = thread_nanos();
        let result = {
            let _computing = self.ticker.computing();
            self.guest.as_mut().poll(context)
        };
        let nanos = thread_nanos().saturating_sub(before);
        self.usage.computed(nanos);
        if result.is_ready() {
            return result;
        }
        if self.yielded.swap(false, Ordering::Relaxed) {
            self.slices = self.slices.saturating_add(1);
        } else {
            self.slices = 0;
            if let Some(log) = &self.log {
                log.park();
            }
        }
        if let Some(debt) = self.bucket.as_ref().and_then(|bucket| bucket.lock().charge(nanos)) {
            let mut pause = Box::pin(sleep(debt));
            // Registers the timer; the wake that the yield has caused finds it waiting.
            let _ = pause.as_mut().poll(context);
            self.pause = Some(pause);
        }
        result
    }
}

pub type SharedBucket = Arc<Mutex<Bucket>>;

/// Processor time that a limited guest may use now.
pub struct Bucket {
    millis_per_second: u64,
    nanos: i64,
    filled: Instant,
}

impl Bucket {
    pub fn new(millis_per_second: u64) -> Self {
        let mut bucket = Self { millis_per_second: millis_per_second.max(1), nanos: 0, filled: Instant::now() };
        bucket.nanos = bucket.capacity();
        bucket
    }

    fn capacity(&self) -> i64 {
        i64::try_from(BUCKET_PERIOD.as_nanos() as u64 * self.millis_per_second / 1000).unwrap_or(i64::MAX)
    }

    /// How long to wait before more may be used.
    pub fn debt(&mut self) -> Option<Duration> {
        self.charge(0)
    }

    /// Pays; how long to pause when that is more than there was.
    fn charge(&mut self, nanos: u64) -> Option<Duration> {
        let now = Instant::now();
        let earned = (now - self.filled).as_nanos() * u128::from(self.millis_per_second) / 1000;
        self.filled = now;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.nanos = self.nanos.saturating_add(earned).min(self.capacity());
        self.nanos = self.nanos.saturating_sub(i64::try_from(nanos).unwrap_or(i64::MAX));
        let debt = u64::try_from(-self.nanos).ok().filter(|&debt| debt > 0)?;
        Some(Duration::from_nanos(debt.saturating_mul(1000) / self.millis_per_second))
    }
}

fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
