//! The loop around the scheduler's decisions: caches feed its snapshot and queue, batches are decided, decisions are
//! carried out.
//!
//! What must stay true: a pod whose binding fails gives its room back and is tried again; a pod that is bound stays in
//! flight until the cache shows it, so that it is never decided twice. At most [`BINDINGS_MAX`] bindings are under way;
//! deciding waits for room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    node::v1::RuntimeClass,
};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use skiff_client::{Change, Clock, Recorder, Regarding, Rest, SharedCache};
use skiff_reconcile::{EventType, KindRef, ObjectKey, ViewExt};
use skiff_scheduler::{
    DEFAULT_SCHEDULER, Decision, Events, Outcome, PodInfo, Profile, Queue, Rejection, ScoringStrategy, Snapshot,
    default_profile, schedule,
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// Pods decided together.
pub const BATCH_MAX: usize = 256;
/// Bindings and status writes under way at the same time.
pub const BINDINGS_MAX: usize = 64;

#[derive(Default)]
struct State {
    queue: Queue,
    snapshot: Snapshot,
}

pub struct SchedulerLoop {
    rest: Rest,
    caches: SharedCache,
    recorder: Recorder,
    clock: Clock,
    profile: Profile,
    state: Mutex<State>,
    wake: Notify,
    room: Arc<Semaphore>,
    pub bound: AtomicU64,
    pub unschedulable: AtomicU64,
}

impl SchedulerLoop {
    pub fn new(rest: Rest, caches: SharedCache, recorder: Recorder, clock: Clock) -> Arc<Self> {
        let this = Arc::new(Self {
            rest,
            caches,
            recorder,
            clock,
            profile: default_profile(ScoringStrategy::LeastAllocated),
            state: Mutex::default(),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(BINDINGS_MAX)),
            bound: AtomicU64::new(0),
            unschedulable: AtomicU64::new(0),
        });
        this.follow(this.caches.declare_kind::<Node>(), Self::on_node);
        this.follow(this.caches.declare_kind::<RuntimeClass>(), Self::on_runtime_class);
        this.follow(this.caches.declare_kind::<Pod>(), Self::on_pod);
        this
    }

    fn follow(self: &Arc<Self>, cache: Arc<skiff_client::KindCache>, on: fn(&Self, &mut State, &Change)) {
        let weak = Arc::downgrade(self);
        cache.on_change(Arc::new(move |changes| {
            let Some(this) = weak.upgrade() else { return };
            if changes.is_empty() {
                return;
            }
            let mut state = this.state.lock();
            changes.iter().for_each(|change| on(&this, &mut state, change));
            // Also when nothing is ready: the time to wake up may have changed.
            this.wake.notify_one();
        }));
    }

    fn on_node(&self, state: &mut State, change: &Change) {
        let events = match change.new.as_ref().and_then(|o| o.downcast_ref::<Node>()) {
            Some(node) => state.snapshot.upsert_node(node),
            None => {
                state.snapshot.remove_node(&change.key.name);
                Events::NONE
            }
        };
        state.queue.on_events(events, (self.clock)());
    }

    /// Waiting pods that name the class look different now.
    fn on_runtime_class(&self, state: &mut State, change: &Change) {
        let now = (self.clock)();
        for pod in self.caches.list::<Pod>(None) {
            let class = pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref());
            if class == Some(change.key.name.as_str()) && is_ours_to_schedule(&pod) {
                state.queue.add(self.info(&pod), now);
            }
        }
        state.queue.on_events(Events::RUNTIME_CLASS, now);
    }

    fn on_pod(&self, state: &mut State, change: &Change) {
        let now = (self.clock)();
        let pod = |o: &Option<skiff_reconcile::AnyObject>| o.clone().and_then(|o| o.downcast::<Pod>().ok());
        let (old, new) = (pod(&change.old), pod(&change.new));
        let uid = |p: &Option<Arc<Pod>>| p.as_ref().and_then(|p| p.metadata.uid.clone());
        let mut events = Events::NONE;
        if let Some(gone) = uid(&old).filter(|gone| uid(&new).as_ref() != Some(gone)) {
            state.queue.remove(&gone);
            events |= state.snapshot.remove_pod(&gone);
        }
        if let (Some(pod), Some(uid)) = (&new, uid(&new)) {
            events |= state.snapshot.upsert_pod(pod, |class| self.handler_of(class));
            if is_ours_to_schedule(pod) {
                state.queue.add(self.info(pod), now);
            } else {
                state.queue.remove(&uid);
            }
        }
        state.queue.on_events(events, now);
    }

    fn info(&self, pod: &Pod) -> PodInfo {
        PodInfo::new(pod, |class| self.handler_of(class))
    }
    fn handler_of(&self, class: &str) -> Option<String> {
        self.caches.get::<RuntimeClass>(&ObjectKey::new("", class)).map(|c| c.handler.clone())
    }

    pub fn start(self: &Arc<Self>, tasks: &TaskTracker, leads: &watch::Receiver<bool>, stop: &CancellationToken) {
        let (this, mut leads, stop, bindings) = (self.clone(), leads.clone(), stop.clone(), tasks.clone());
        tasks.spawn(async move {
            let run = async {
                this.caches.synced().await;
                while leads.wait_for(|l| *l).await.is_ok() {
                    this.round(&bindings).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = run => {}
            }
        });
    }

    /// Decides a batch, or waits until there could be one.
    async fn round(self: &Arc<Self>, tasks: &TaskTracker) {
        let now = (self.clock)();
        let (decisions, wakeup) = {
            let mut state = self.state.lock();
            let batch: Vec<PodInfo> = state.queue.pop_batch(BATCH_MAX, now).into_iter().map(|q| q.pod).collect();
            let decisions = schedule(&batch, &mut state.snapshot, &self.profile);
            (decisions, state.queue.next_wakeup())
        };
        if decisions.is_empty() {
            let woken = self.wake.notified();
            match wakeup {
                None => woken.await,
                Some(at) => {
                    let ms = (at.as_millisecond() - now.as_millisecond()).max(1);
                    let _ = tokio::time::timeout(Duration::from_millis(ms.unsigned_abs()), woken).await;
                }
            }
            return;
        }
        for decision in decisions {
            // Never closed, so this only waits for room.
            let room = self.room.clone().acquire_owned().await;
            let this = self.clone();
            tasks.spawn(async move {
                this.carry_out(decision).await;
                drop(room);
            });
        }
    }

    async fn carry_out(&self, decision: Decision) {
        let Decision { pod, outcome } = decision;
        match outcome {
            Outcome::Bind { node, binding } => self.bind(&pod, &node, &binding).await,
            Outcome::Placed { .. } => self.state.lock().queue.remove(&pod.uid),
            Outcome::Unschedulable(rejection) => self.reject(&pod, &rejection).await,
            // No plugin of the profile holds pods yet, so none would let this one go: the hold runs out.
            Outcome::Wait { timeout, plugin, .. } => {
                tokio::time::sleep(timeout).await;
                debug!(pod = %key(&pod), plugin, "nobody permitted the pod in time");
                self.give_up(&pod);
            }
        }
    }

    async fn bind(&self, pod: &PodInfo, node: &str, binding: &Value) {
        let kind = KindRef::of::<Pod>();
        let posted = self.rest.create_sub::<IgnoredAny>(&kind, &key(pod), "binding", binding).await;
        match posted {
            Ok(_) => {
                self.bound.fetch_add(1, Ordering::Relaxed);
                let message = format!("Successfully assigned {} to {node}", key(pod));
                self.recorder.event(regarding(pod), EventType::Normal, "Scheduled", message);
            }
            Err(error) => {
                if error.is_not_found() || error.is_conflict() {
                    debug!(pod = %key(pod), %error, "the pod changed before it was bound");
                } else {
                    warn!(pod = %key(pod), node, %error, "cannot bind");
                    let message = format!("binding rejected: {error}");
                    self.recorder.event(regarding(pod), EventType::Warning, "FailedScheduling", message);
                }
                self.give_up(pod);
            }
        }
    }

    fn give_up(&self, pod: &PodInfo) {
        let now = (self.clock)();
        let mut state = self.state.lock();
        let events = state.snapshot.forget(&pod.uid);
        state.queue.requeue(&pod.uid, now);
        state.queue.on_events(events, now);
        self.wake.notify_one();
    }

    async fn reject(&self, pod: &PodInfo, rejection: &Rejection) {
        self.unschedulable.fetch_add(1, Ordering::Relaxed);
        let now = (self.clock)();
        self.recorder.event(regarding(pod), EventType::Warning, "FailedScheduling", rejection.message.clone());
        let mut condition = rejection.condition(now);
        let there = self.caches.get::<Pod>(&key(pod));
        let conditions = there.as_ref().and_then(|p| p.status.as_ref()?.conditions.as_ref());
        let old = conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled");
        let mut changed = true;
        if let Some(old) = old.filter(|old| old.status == "False") {
            changed =
                old.message.as_deref() != Some(&rejection.message) || old.reason.as_deref() != Some("Unschedulable");
            if let Some(since) = &old.last_transition_time {
                condition["lastTransitionTime"] = json!(since);
            }
        }
        if changed {
            let patch = json!({ "metadata": { "uid": &*pod.uid }, "status": { "conditions": [condition] } });
            let kind = KindRef::of::<Pod>();
            let written = self.rest.strategic_patch::<IgnoredAny>(&kind, &key(pod), Some("status"), &patch).await;
            if let Err(error) = written.map(drop)
                && !error.is_not_found()
                && !error.is_conflict()
            {
                warn!(pod = %key(pod), %error, "cannot write the pod's condition");
            }
        }
        let mut state = self.state.lock();
        state.queue.unschedulable(&pod.uid, rejection, (self.clock)());
        self.wake.notify_one();
    }
}

fn key(pod: &PodInfo) -> ObjectKey {
    ObjectKey::new(&*pod.namespace, &*pod.name)
}

fn regarding(pod: &PodInfo) -> Regarding {
    Regarding {
        kind: KindRef::of::<Pod>(),
        key: key(pod),
        uid: pod.uid.to_string(),
        resource_version: String::new(),
        field_path: String::new(),
    }
}

/// It has no node, is not ending, and names this scheduler.
fn is_ours_to_schedule(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let placed = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
    let scheduler = spec.and_then(|s| s.scheduler_name.as_deref()).filter(|n| !n.is_empty());
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    !placed
        && pod.metadata.deletion_timestamp.is_none()
        && scheduler.unwrap_or(DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
        && !matches!(phase, Some("Succeeded" | "Failed"))
}
