//! One pod on this node: plan, carry out, tell the API, wait for news.

mod status;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use skiff_client::Error as ApiError;
use skiff_lifecycle::{Command, Outcome, PodObserved, VolumesState, plan};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use self::status::Writer;
use crate::{
    agent::Agent,
    execute::PodContext,
    mailbox::{News, PodHandle},
    probes::Prober,
    volumes,
};

pub struct Worker {
    ctx: Arc<PodContext>,
    pod: Arc<Pod>,
    observed: PodObserved,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Jobs under way that may be short: all but stops. (A pull may be long: [`status::HOLD`] bounds what that delays.)
    quick: usize,
    /// Containers that events spoke of before their start was known.
    early: BTreeSet<Arc<str>>,
    writer: Writer,
    prober: Prober,
    /// The pod is to be deleted from the API once its status is written.
    delete: Option<Command>,
    wake: Option<Instant>,
    /// Its volumes are to be made again, and are being made again.
    stale: bool,
    refreshing: bool,
}

enum Done {
    Job { quick: bool, outcomes: Vec<Outcome> },
    Written { status: Arc<PodStatus>, result: Result<u64, ApiError> },
    Refreshed,
}

impl Worker {
    pub fn new(ctx: Arc<PodContext>, pod: Arc<Pod>, observed: PodObserved) -> Self {
        let told = Arc::new(pod.status.clone().unwrap_or_default());
        let prober = Prober::new(ctx.clone());
        Self {
            ctx,
            pod,
            observed,
            jobs: FuturesUnordered::new(),
            quick: 0,
            early: BTreeSet::new(),
            writer: Writer::new(told),
            prober,
            delete: None,
            wake: None,
            stale: false,
            refreshing: false,
        }
    }

    fn agent(&self) -> &Arc<Agent> {
        &self.ctx.agent
    }

    fn handle(&self) -> &Arc<PodHandle> {
        &self.ctx.handle
    }

    /// Until nothing of the pod is left, or the node stops.
    pub async fn run(mut self) {
        let (handle, stop) = (self.handle().clone(), self.agent().stop.clone());
        self.end_start();
        while self.step() {
            let wake = self.wake;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.done(done),
                () = handle.mailbox.wait() => self.news(handle.mailbox.take()),
                () = until(wake) => {}
            }
        }
        self.forget().await;
    }

    /// Plans and sets going what is to be done. False when nothing of the pod is left.
    fn step(&mut self) -> bool {
        let now = self.agent().now();
        let plan = plan(&self.pod, &self.observed, now);
        self.publish(plan.status);
        if plan.done {
            return false;
        }
        for command in plan.commands {
            self.observed.begin(&command, now);
            match command {
                Command::DeletePodFromApi { .. } => self.delete = Some(command),
                command => self.set_going(command),
            }
        }
        self.handle().waiting.store(self.observed.waits(), std::sync::atomic::Ordering::Relaxed);
        self.prober.follow(&self.pod, &self.observed);
        self.wake = plan.requeue.map(|at| instant_of(at, now));
        self.refresh(now);
        self.write();
        true
    }

    fn set_going(&mut self, command: Command) {
        let quick = !matches!(command, Command::StopContainer { .. });
        self.quick += usize::from(quick);
        let work = self.ctx.clone().execute(self.pod.clone(), command);
        self.jobs.push(Box::pin(async move { Done::Job { quick, outcomes: work.await } }));
    }

    /// Makes the volumes again if what they are made of has changed, or a token in them is old.
    fn refresh(&mut self, now: jiff::Timestamp) {
        if self.observed.volumes != VolumesState::Ready || self.refreshing {
            return;
        }
        match self.handle().volumes.renew() {
            Some(at) if now >= at => self.stale = true,
            Some(at) => self.wake = Some(self.wake.map_or(instant_of(at, now), |other| other.min(instant_of(at, now)))),
            None => {}
        }
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.refreshing = true;
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        self.jobs.push(Box::pin(async move {
            volumes::refresh(&ctx.agent, &pod, &ctx.handle).await;
            Done::Refreshed
        }));
    }

    fn news(&mut self, news: News) {
        if let Some(pod) = news.pod {
            self.pod_changed(pod);
        }
        self.observed.gone |= news.gone;
        self.end_start();
        self.stale |= news.volumes_stale;
        if news.retry {
            self.observed.apply(Outcome::RetryNow, self.agent().now());
        }
        for (container, attempt, kind, ok) in news.probes {
            self.observed.apply(Outcome::Probe { container, attempt, kind, ok }, self.agent().now());
        }
        for id in news.touched {
            self.look(id);
        }
        if news.resync {
            let running: Vec<Arc<str>> =
                self.observed.containers.iter().filter(|r| r.running()).map(|r| r.id.as_str().into()).collect();
            running.into_iter().for_each(|id| self.look(id));
        }
    }

    fn pod_changed(&mut self, pod: Arc<Pod>) {
        let version = pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
        // What the API had before our own last write says nothing new about the status.
        if !self.writer.busy && version > self.writer.revision {
            self.writer.told = Arc::new(pod.status.clone().unwrap_or_default());
        }
        let of = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        self.stale |= volumes::shows_itself(&pod) && of(&pod) != of(&self.pod);
        self.pod = pod;
    }

    /// What a pod that is to end still does to start, it need not finish.
    fn end_start(&self) {
        if self.observed.gone || self.pod.metadata.deletion_timestamp.is_some() {
            self.ctx.ending.cancel();
        }
    }

    /// Asks the runtime about a container that something happened to.
    fn look(&mut self, id: Arc<str>) {
        let Some(record) = self.observed.containers.iter().find(|r| *r.id == *id) else {
            if !self.observed.starting.is_empty() {
                self.early.insert(id);
            }
            return;
        };
        if record.exit().is_some() {
            return;
        }
        let (ctx, pod, name) = (self.ctx.clone(), self.pod.clone(), record.name.clone());
        self.quick += 1;
        self.jobs.push(Box::pin(async move {
            let outcome = ctx.look(&pod, &name, id.to_string()).await;
            Done::Job { quick: true, outcomes: vec![outcome] }
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Job { quick, outcomes } => {
                self.quick -= usize::from(quick);
                for outcome in outcomes {
                    let started = match &outcome {
                        Outcome::Started(record) => Some(Arc::<str>::from(record.id.as_str())),
                        _ => None,
                    };
                    self.observed.apply(outcome, self.agent().now());
                    if let Some(id) = started.filter(|id| self.early.remove(id)) {
                        self.look(id);
                    }
                }
            }
            Done::Written { status, result } => self.written(status, result),
            Done::Refreshed => self.refreshing = false,
        }
    }

    /// The pod's directories go last: nobody can ask for its logs any more.
    async fn forget(self) {
        let (dirs, handle) = (self.agent().dirs.clone(), self.handle().clone());
        // What is still under way is about a pod that is gone.
        drop(self);
        for path in [dirs.pod(&handle.uid), dirs.pod_logs(&handle.key, &handle.uid)] {
            match tokio::fs::remove_dir_all(&path).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    warn!(error = %e, path = %path.display(), "directory of a deleted pod not removed");
                }
                _ => {}
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The clock's time as a time to sleep until; a millisecond later, so that the clock has certainly reached it.
fn instant_of(at: jiff::Timestamp, now: jiff::Timestamp) -> Instant {
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Instant::now() + wait.min(Duration::from_secs(24 * 3600)) + Duration::from_millis(1)
}
