//! Starts every controller, the garbage collector and the scheduler on one set of caches, and stops them.

use std::sync::{Arc, atomic::Ordering};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use skiff_client::{Clock, ElectionConfig, LeaderElection, Recorder, Rest, SharedCache};
use skiff_reconcile::{KindRef, ObjectKey};
use skiff_scheduler::DEFAULT_SCHEDULER;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    controller_loop::{AnyController, ControllerLoop},
    executor::Executor,
    garbage_loop::GarbageLoop,
    registry,
    scheduler_loop::SchedulerLoop,
};

pub struct ManagerConfig {
    /// The controllers' identity.
    pub client: Client,
    /// The scheduler's identity; the controllers' when `None`.
    pub scheduler_client: Option<Client>,
    /// Caches to share with others in the process; own ones when `None`.
    pub caches: Option<SharedCache>,
    /// Work only while holding the Leases `kube-controller-manager` and `kube-scheduler` in `kube-system`.
    pub leader_elect: bool,
    /// The cluster's CA for `kube-root-ca.crt`; no such ConfigMap when empty.
    pub root_ca_pem: String,
    pub clock: Clock,
}

pub struct Manager;

/// What one loop has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoopMetrics {
    pub name: &'static str,
    pub queued: usize,
    pub reconciles: u64,
    pub writes: u64,
    /// Plans made on a view that turned out to be old.
    pub stale: u64,
    pub errors: u64,
    pub deciding_us: u64,
    pub executing_us: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub controllers: Vec<LoopMetrics>,
    pub garbage_queued: usize,
    pub garbage_deleted: u64,
    pub pods_bound: u64,
    pub pods_rejected: u64,
    /// Events that were not written because too many were waiting.
    pub events_dropped: u64,
}

pub struct ManagerHandle {
    caches: SharedCache,
    controllers: Vec<Arc<ControllerLoop>>,
    garbage: Arc<GarbageLoop>,
    scheduler: Arc<SchedulerLoop>,
    recorders: Vec<Recorder>,
    elections: Vec<Arc<LeaderElection>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Manager {
    /// Returns at once; the loops work as soon as their caches are filled. Needs a tokio runtime.
    pub fn start(config: ManagerConfig) -> ManagerHandle {
        let controllers = registry::controllers(&config.root_ca_pem, (config.clock)());
        Self::start_with(config, controllers)
    }

    /// With other controllers than the registered ones.
    pub fn start_with(config: ManagerConfig, controllers: Vec<Box<dyn AnyController>>) -> ManagerHandle {
        let ManagerConfig { client, scheduler_client, caches, clock, leader_elect, .. } = config;
        let scheduler_client = scheduler_client.unwrap_or_else(|| client.clone());
        let caches = caches.unwrap_or_else(|| SharedCache::new(client.clone()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut elections = Vec::new();
        let mut elect = |lease: &str, client: &Client| {
            let (leads, election) = leadership(leader_elect, lease, client, &clock, &tasks, &stop);
            elections.extend(election);
            leads
        };
        let controllers_lead = elect("kube-controller-manager", &client);
        let scheduler_leads = elect("kube-scheduler", &scheduler_client);

        let mut recorders = Vec::new();
        let mut record = |client: &Client, component: &str| {
            let recorder = Recorder::start(client.clone(), component, "", clock.clone());
            recorders.push(recorder.clone());
            recorder
        };
        let rest = Rest::new(client.clone());
        // Whole kinds are declared before those of which metadata is enough.
        let scheduler = SchedulerLoop::new(
            Rest::new(scheduler_client.clone()),
            caches.clone(),
            record(&scheduler_client, DEFAULT_SCHEDULER),
            clock.clone(),
        );
        for watch in controllers.iter().flat_map(|c| c.watches()).filter(|w| !w.codec.metadata_only) {
            caches.declare(watch.codec);
        }
        let mut loops = Vec::new();
        for controller in controllers {
            let recorder = record(&client, controller.name());
            let executor = Executor::new(rest.clone(), recorder);
            loops.push(ControllerLoop::new(controller, caches.clone(), executor, clock.clone()));
        }
        let garbage = GarbageLoop::new(rest, caches.clone());
        loops.iter().for_each(|l| l.start(&tasks, &controllers_lead));
        garbage.start(&tasks, &controllers_lead);
        scheduler.start(&tasks, &scheduler_leads, &stop);
        ManagerHandle { caches, controllers: loops, garbage, scheduler, recorders, elections, tasks, stop }
    }
}

fn leadership(
    elected: bool,
    lease: &str,
    client: &Client,
    clock: &Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (watch::Receiver<bool>, Option<Arc<LeaderElection>>) {
    if !elected {
        // The channel outlives its sender with its last value, but `wait_for` would report it closed: keep it.
        let (sender, leads) = watch::channel(true);
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.cancelled().await;
            drop(sender);
        });
        return (leads, None);
    }
    let identity = format!("skiff_{}", uuid::Uuid::new_v4());
    let config = ElectionConfig::new(ObjectKey::new("kube-system", lease), identity);
    let (election, leads) = LeaderElection::new(client.clone(), config, clock.clone());
    let election = Arc::new(election);
    let (running, stop) = (election.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = running.run() => {}
        }
    });
    (leads, Some(election))
}

impl ManagerHandle {
    pub fn caches(&self) -> &SharedCache {
        &self.caches
    }

    /// Waits until every cache is filled.
    pub async fn synced(&self) {
        self.caches.synced().await;
    }

    /// What is under way is finished, nothing new is begun; leases are given up.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.controllers.iter().for_each(|c| c.stop());
        self.garbage.stop();
        self.tasks.close();
        self.tasks.wait().await;
        for election in &self.elections {
            election.release().await;
        }
    }

    pub fn metrics(&self) -> Metrics {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let of = |l: &Arc<ControllerLoop>| LoopMetrics {
            name: l.name(),
            queued: l.queue_len(),
            reconciles: read(&l.counters.reconciles),
            writes: read(&l.counters.writes),
            stale: read(&l.counters.stale),
            errors: read(&l.counters.errors),
            deciding_us: read(&l.counters.deciding_ns) / 1000,
            executing_us: read(&l.counters.executing_ns) / 1000,
        };
        Metrics {
            controllers: self.controllers.iter().map(of).collect(),
            garbage_queued: self.garbage.queue_len(),
            garbage_deleted: read(&self.garbage.deleted),
            pods_bound: read(&self.scheduler.bound),
            pods_rejected: read(&self.scheduler.unschedulable),
            events_dropped: self.recorders.iter().map(Recorder::dropped).sum(),
        }
    }

    /// Objects of a kind in the caches, for tests and gauges.
    pub fn cached_pods(&self) -> usize {
        self.caches.kind(&KindRef::of::<Pod>()).map_or(0, |c| c.len())
    }
}
