//! The loop around one controller: changes become keys, keys become plans, plans are executed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rand::Rng;
use skiff_client::{Change, Clock, Error, KindCache, SharedCache};
use skiff_reconcile::{AnyObject, Controller, Entropy, KindRef, Maps, ObjectKey, Plan, Refusal, View, Watch};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::{
    executor::{Executor, Failure},
    fence::Fence,
    queue::WorkQueue,
};

/// Keys of one controller that are worked on at the same time.
pub const WORKERS: usize = 5;
/// How soon a namespace whose content has not gone yet is looked at again, should no event say so.
const REMAINING_RETRY: Duration = Duration::from_secs(5);

/// A [`Controller`] without its types.
pub trait AnyController: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn watches(&self) -> Vec<Watch>;
    /// `None` when the object is gone.
    fn decide<'a>(
        &'a self,
        view: &dyn View,
        key: &ObjectKey,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Option<Decided<'a>>;
}

/// Asks the controller about a refusal, with what it had observed.
pub type Refused<'a> = Box<dyn Fn(&Refusal<'_>, Timestamp) -> Plan + Send + Sync + 'a>;

/// A plan, and what to do should the API refuse part of it.
pub struct Decided<'a> {
    pub plan: Plan,
    pub refused: Refused<'a>,
}

impl<C: Controller> AnyController for C {
    fn name(&self) -> &'static str {
        C::NAME
    }
    fn watches(&self) -> Vec<Watch> {
        Controller::watches(self)
    }
    fn decide<'a>(
        &'a self,
        view: &dyn View,
        key: &ObjectKey,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Option<Decided<'a>> {
        let observed = self.observe(view, key)?;
        let plan = self.reconcile(&observed, now, entropy);
        Some(Decided { plan, refused: Box::new(move |refusal, now| self.refused(&observed, refusal, now)) })
    }
}

/// Random suffixes of generated names.
pub struct RandomEntropy;
impl Entropy for RandomEntropy {
    fn suffix(&mut self, n: usize) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut rng = rand::rng();
        (0..n).map(|_| char::from(LETTERS[(rng.next_u32() % 27) as usize])).collect()
    }
}

/// What a loop has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub reconciles: AtomicU64,
    pub writes: AtomicU64,
    /// Plans that failed because the view was old.
    pub stale: AtomicU64,
    pub errors: AtomicU64,
    /// Nanoseconds spent in observe and reconcile, and in executing plans.
    pub deciding_ns: AtomicU64,
    pub executing_ns: AtomicU64,
}

pub struct ControllerLoop {
    controller: Box<dyn AnyController>,
    caches: SharedCache,
    queue: Arc<WorkQueue<ObjectKey>>,
    fence: Arc<Fence>,
    executor: Executor,
    clock: Clock,
    pub counters: Counters,
}

impl ControllerLoop {
    /// Declares the caches and begins to collect keys.
    pub fn new(controller: Box<dyn AnyController>, caches: SharedCache, executor: Executor, clock: Clock) -> Arc<Self> {
        let watches = controller.watches();
        let queue = Arc::new(WorkQueue::default());
        let fence = Arc::new(Fence::new(watches.iter().map(Watch::kind)));
        let this = Arc::new(Self { controller, executor, caches, queue, fence, clock, counters: Counters::default() });
        for watch in watches {
            this.follow(watch);
        }
        this
    }

    pub fn name(&self) -> &'static str {
        self.controller.name()
    }
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    fn follow(self: &Arc<Self>, watch: Watch) {
        let cache = self.caches.declare(watch.codec);
        let source = Arc::downgrade(&cache);
        // Weak: the handler lives as long as the caches, which may be shared with others.
        let this = Arc::downgrade(self);
        cache.on_change(Arc::new(move |changes| {
            if let (Some(this), Some(cache)) = (this.upgrade(), source.upgrade()) {
                this.on_changes(&watch, &cache, changes);
            }
        }));
    }

    fn on_changes(&self, watch: &Watch, cache: &KindCache, changes: &[Change]) {
        let meta = cache.codec().meta;
        let mut keys = self.fence.on_changes(&watch.kind(), cache.revision(), changes, meta);
        for change in changes {
            match &watch.maps {
                Maps::Nothing => {}
                Maps::Itself => keys.push(change.key.clone()),
                Maps::Controller(owner) => {
                    let of = |o: &AnyObject| meta(o).and_then(|m| controller_of(m, owner));
                    let (new, old) = (change.new.as_ref().and_then(of), change.old.as_ref().and_then(of));
                    if old != new {
                        keys.extend(old);
                    }
                    keys.extend(new);
                }
                Maps::By(map) => {
                    let objects = change.old.iter().chain(&change.new);
                    keys.extend(objects.flat_map(|o| map(&self.caches, o)));
                }
                Maps::ByMetadata(map) => {
                    let metas = change.old.iter().chain(&change.new).filter_map(meta);
                    keys.extend(metas.flat_map(|m| map(&self.caches, m)));
                }
            }
        }
        if !keys.is_empty() {
            self.queue.extend(keys);
        }
    }

    /// Starts the workers; they work while `leads` is true and end with [`Self::stop`].
    pub fn start(self: &Arc<Self>, tasks: &TaskTracker, leads: &watch::Receiver<bool>) {
        for _ in 0..WORKERS {
            let (this, mut leads) = (self.clone(), leads.clone());
            tasks.spawn(async move {
                this.caches.synced().await;
                while leads.wait_for(|l| *l).await.is_ok() {
                    let Some(key) = this.queue.next().await else { return };
                    if *leads.borrow() {
                        this.work(&key).await;
                    } else {
                        this.queue.add(key.clone());
                    }
                    this.queue.done(&key);
                }
            });
        }
    }

    pub fn stop(&self) {
        self.queue.close();
    }

    async fn work(&self, key: &ObjectKey) {
        if let Some(wait) = self.fence.check(key) {
            // Comes back when its writes are seen, or at the latest then.
            self.queue.add_after(key.clone(), wait);
            return;
        }
        self.counters.reconciles.fetch_add(1, Ordering::Relaxed);
        let started = std::time::Instant::now();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            self.controller.decide(&self.caches, key, (self.clock)(), &mut RandomEntropy)
        }));
        add_elapsed(&self.counters.deciding_ns, started);
        let Decided { plan, refused } = match decided {
            Ok(Some(decided)) => decided,
            Ok(None) => return self.queue.forget(key),
            Err(_) => {
                error!(controller = self.name(), %key, "the controller panicked on this object");
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                self.queue.add_rate_limited(key.clone());
                return;
            }
        };
        let requeue = plan.requeue;
        let started = std::time::Instant::now();
        let mut execution = self.executor.execute(plan).await;
        if let Err(Failure::Refused { action, error }) = &execution.result {
            let message = match error {
                Error::Api { message, .. } => message.clone(),
                other => other.to_string(),
            };
            let plan = refused(&Refusal { action, message: &message }, (self.clock)());
            execution.wrote.extend(self.executor.execute(plan).await.wrote);
        }
        drop(refused);
        add_elapsed(&self.counters.executing_ns, started);
        self.counters.writes.fetch_add(execution.wrote.len() as u64, Ordering::Relaxed);
        if !execution.wrote.is_empty() {
            self.fence.hold(key, execution.wrote, &self.caches);
        }
        self.after(key, execution.result, requeue);
    }

    fn after(&self, key: &ObjectKey, result: Result<(), Failure>, requeue: Option<Duration>) {
        let controller = self.name();
        match result {
            Ok(()) => {
                self.queue.forget(key);
                if let Some(after) = requeue {
                    self.queue.add_after(key.clone(), after);
                }
            }
            Err(Failure::Remaining(what)) => {
                debug!(controller, %key, what, "waiting for the rest to go");
                self.queue.add_after(key.clone(), REMAINING_RETRY);
            }
            Err(Failure::LookAgain(why)) => {
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                let delay = self.queue.add_rate_limited(key.clone());
                debug!(controller, %key, why, ?delay, "the view was old; looking again");
            }
            Err(Failure::Refused { action, error }) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                let delay = self.queue.add_rate_limited(key.clone());
                warn!(controller, %key, %action, %error, ?delay, "the plan failed; trying again");
            }
        }
    }
}

fn add_elapsed(counter: &AtomicU64, since: std::time::Instant) {
    counter.fetch_add(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The key of the controlling owner, if it is of this kind.
fn controller_of(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    owner: &KindRef,
) -> Option<ObjectKey> {
    let reference = meta.owner_references.as_ref()?.iter().find(|r| r.controller == Some(true))?;
    let group = reference.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if reference.kind != owner.kind || group != owner.group {
        return None;
    }
    let namespace = if owner.namespaced { meta.namespace.clone().unwrap_or_default() } else { String::new() };
    Some(ObjectKey::new(namespace, reference.name.clone()))
}
