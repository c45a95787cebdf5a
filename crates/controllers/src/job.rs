//! Job: runs pods until enough of them have succeeded.
//!
//! Every pod carries a finalizer, so that none disappears before it is counted. Counting takes two writes: the UIDs of
//! ended pods are recorded in `uncountedTerminatedPods`, then the finalizers of the recorded pods are removed, and in
//! the next status write those without finalizer move to the counters. One status write covers all pods of a look.
//!
//! What must stay true: no pod is counted twice, whenever a process stops; no more pods are started than completions
//! are missing; a Job is Complete or Failed only when all its pods have ended and are counted.

mod conditions;
mod failure;
mod indexes;
mod orphans;
mod pods_of;
mod tracking;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};
use skiff_api::selector::LabelSelector;
use skiff_reconcile::{Action, Controller, Entropy, EventType, ObjectKey, Plan, Refusal, View, ViewExt, Watch};

use crate::objects::{
    Guard, adopt, controller_of, delete, event, has_finalizer, is_controlled_by, is_deleting, release,
    remove_finalizer, seconds, sooner, status_patch, uid, until,
};
use conditions::{Ending, SUSPENDED};
pub use orphans::JobOrphansController;
use pods_of::Pods;

pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Who runs a Job whose `spec.managedBy` is set.
const CONTROLLER_NAME: &str = "kubernetes.io/job-controller";

#[derive(Debug, Default)]
pub struct JobController;

#[derive(Debug)]
pub struct Observed {
    job: Arc<Job>,
    own: Vec<Arc<Pod>>,
    /// Only looked for with `manualSelector`: a generated selector matches no other pods.
    orphans: Vec<Arc<Pod>>,
    strangers: Vec<Arc<Pod>>,
}

impl Controller for JobController {
    type Observed = Observed;
    const NAME: &'static str = "job-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![Watch::itself::<Job>(), Watch::controlled_by::<Pod, Job>()]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let job: Arc<Job> = view.get(key)?;
        let selector = spec(&job).selector.as_ref().map(|s| LabelSelector::from_typed(Some(s)));
        let matches = |p: &Arc<Pod>| selector.as_ref().is_none_or(|s| s.matches_map(p.metadata.labels.as_ref()));
        let own_uid = uid(&job.metadata);
        let (own, strangers): (Vec<_>, Vec<_>) = view
            .owned::<Pod>(own_uid)
            .into_iter()
            .filter(|p| is_controlled_by(&p.metadata, own_uid))
            .partition(matches);
        let mut orphans = Vec::new();
        if spec(&job).manual_selector == Some(true) && selector.is_some() && !is_deleting(&job.metadata) {
            orphans = view.list::<Pod>(Some(&key.namespace));
            orphans.retain(|p| controller_of(&p.metadata).is_none() && !is_deleting(&p.metadata) && matches(p));
        }
        Some(Observed { job, own, orphans, strangers })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, entropy: &mut dyn Entropy) -> Plan {
        let job = &*observed.job;
        let managed_by = spec(job).managed_by.as_deref();
        let known_mode = matches!(spec(job).completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed"));
        if managed_by.is_some_and(|m| m != CONTROLLER_NAME) || !known_mode {
            return Plan::default();
        }
        if let Some(at) = conditions::finished_at(job) {
            return finished(observed, at, now);
        }
        let mut plan = claim(observed);
        if plan.is_empty() {
            Look::new(observed, now).run(&mut plan, entropy);
        }
        plan
    }

    fn refused(&self, observed: &Observed, refusal: &Refusal<'_>, _: Timestamp) -> Plan {
        let (reason, verb) = match refusal.action {
            Action::Create { .. } => ("FailedCreate", "creating"),
            Action::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return Plan::default(),
        };
        let message = format!("Error {verb}: {}", refusal.message);
        let events = vec![event::<Job>(&observed.job.metadata, EventType::Warning, reason, message)];
        Plan { events, ..Plan::default() }
    }
}

pub(crate) fn spec(job: &Job) -> &JobSpec {
    static EMPTY: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
    job.spec.as_ref().unwrap_or(&EMPTY)
}
fn is_indexed(job: &Job) -> bool {
    spec(job).completion_mode.as_deref() == Some("Indexed")
}
fn is_suspended(job: &Job) -> bool {
    spec(job).suspend == Some(true)
}

/// Adopts and releases pods; what follows depends on which are ours.
fn claim(observed: &Observed) -> Plan {
    let meta = &observed.job.metadata;
    let finalizer = Some(TRACKING_FINALIZER);
    let adopted = observed.orphans.iter().map(|p| adopt::<Pod, Job>(&p.metadata, meta, finalizer));
    let released = observed.strangers.iter().map(|p| release::<Pod>(&p.metadata, uid(meta), finalizer));
    Plan { actions: adopted.chain(released).collect(), ..Plan::default() }
}

/// A finished Job lets go of its pods, and goes itself when its time is over.
fn finished(observed: &Observed, at: Option<Timestamp>, now: Timestamp) -> Plan {
    let job = &*observed.job;
    let held = observed.own.iter().filter(|p| has_finalizer(&p.metadata, TRACKING_FINALIZER));
    let mut plan = Plan {
        actions: held.map(|p| remove_finalizer::<Pod>(&p.metadata, TRACKING_FINALIZER)).collect(),
        ..Plan::default()
    };
    let ttl = spec(job).ttl_seconds_after_finished.map(|s| SignedDuration::from_secs(s.into()));
    let expires = at.zip(ttl).and_then(|(at, ttl)| at.checked_add(ttl).ok());
    match expires.filter(|_| !is_deleting(&job.metadata)) {
        Some(expires) if expires <= now => plan.actions.push(delete::<Job>(&job.metadata, Some("Foreground"))),
        Some(expires) => plan.requeue = Some(until(expires, now)),
        None => {}
    }
    plan
}

/// One look at a Job that has not ended.
struct Look<'a> {
    observed: &'a Observed,
    job: &'a Job,
    now: Timestamp,
    pods: Pods<'a>,
    status: JobStatus,
    requeue: Option<Duration>,
}

impl<'a> Look<'a> {
    fn new(observed: &'a Observed, now: Timestamp) -> Self {
        let job = &*observed.job;
        let status = job.status.clone().unwrap_or_default();
        Self { observed, job, now, pods: Pods::sort(job, &observed.own), status, requeue: None }
    }

    fn run(mut self, plan: &mut Plan, entropy: &mut dyn Entropy) {
        if self.status.start_time.is_none() && !is_suspended(self.job) {
            self.status.start_time = Some(seconds(self.now));
        }
        let mut ending = self.ending();
        let deleting = is_deleting(&self.job.metadata);
        let mut counts = self.pods.counts();
        if ending.is_some() {
            for pod in &self.pods.active {
                plan.actions.push(delete::<Pod>(&pod.metadata, None));
                counts.lose(pod);
            }
        } else if !deleting {
            let more = pods_of::manage(self.job, &self.pods, &mut counts, self.now, plan, entropy);
            self.requeue = sooner(self.requeue, more);
            ending = self.completed(counts.active);
            if ending.is_none() {
                self.note_suspension(plan);
            }
        }
        tracking::track(self.job, &self.pods, ending.as_ref(), &mut self.status, plan);
        self.status.active = (counts.active > 0).then_some(counts.active);
        self.status.ready = Some(counts.ready);
        self.status.terminating = Some(counts.terminating);
        if let Some(ending) = &ending {
            self.finish(ending, &counts, plan);
        }
        plan.requeue = self.requeue;
        let meta = &self.job.metadata;
        // Adds to counters: only on top of what was seen.
        plan.status = status_patch::<Job, _>(meta, self.job.status.as_ref(), &self.status, Guard::Unchanged);
    }

    /// Why the Job ends, in the order of precedence.
    fn ending(&mut self) -> Option<Ending> {
        Ending::decided(&self.status)
            .or_else(|| {
                self.pods.failed_job_message.clone().map(|message| Ending::failure("PodFailurePolicy", message))
            })
            .or_else(|| self.limits())
            .or_else(|| self.pods.index_ending(self.job))
    }

    fn limits(&mut self) -> Option<Ending> {
        let spec = spec(self.job);
        // With a limit per index, the default of the global one is out of reach.
        let limit = spec.backoff_limit.unwrap_or(if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 });
        if self.pods.failed > limit || failure::restarts_exceed_limit(self.job, &self.observed.own, limit) {
            return Some(Ending::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        let allowed = spec.active_deadline_seconds.filter(|_| !is_suspended(self.job))?;
        let started = self.status.start_time.as_ref()?.0;
        let deadline = started.checked_add(SignedDuration::from_secs(allowed)).ok()?;
        if deadline <= self.now {
            return Some(Ending::failure("DeadlineExceeded", "Job was active longer than specified deadline"));
        }
        self.requeue = sooner(self.requeue, Some(until(deadline, self.now)));
        None
    }

    fn completed(&self, active: i32) -> Option<Ending> {
        let enough = match spec(self.job).completions {
            // A work queue: one success says that the work is done.
            None => self.pods.succeeded > 0,
            Some(completions) => self.pods.succeeded >= completions,
        };
        let ending = || Ending::success("CompletionsReached", "Reached expected number of succeeded pods");
        (enough && active == 0).then(ending)
    }

    fn note_suspension(&mut self, plan: &mut Plan) {
        let suspended = is_suspended(self.job);
        let (reason, message) =
            if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        if !conditions::set(&mut self.status, SUSPENDED, suspended, reason, message, self.now) {
            return;
        }
        self.status.start_time = (!suspended).then(|| seconds(self.now));
        let reason = if suspended { "Suspended" } else { "Resumed" };
        plan.events.push(event::<Job>(&self.job.metadata, EventType::Normal, reason, message));
    }

    /// The interim condition now; the terminal one when nothing runs and nothing is uncounted.
    fn finish(&mut self, ending: &Ending, counts: &pods_of::Counts, plan: &mut Plan) {
        let (reason, message) = (&ending.reason, &ending.message);
        let decided = conditions::is_true(&self.status, ending.interim());
        conditions::set(&mut self.status, ending.interim(), true, reason, message, self.now);
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let open = uncounted.is_some_and(|u| {
            u.succeeded.as_ref().is_some_and(|l| !l.is_empty()) || u.failed.as_ref().is_some_and(|l| !l.is_empty())
        });
        let indexed_open = is_indexed(self.job) && self.pods.tracked_ended();
        if open || indexed_open && !decided || counts.active > 0 || counts.terminating > 0 {
            return;
        }
        conditions::set(&mut self.status, ending.terminal(), true, reason, message, self.now);
        let meta = &self.job.metadata;
        if ending.success {
            self.status.completion_time = Some(seconds(self.now));
            if spec(self.job).completions.is_some_and(|c| self.status.succeeded.unwrap_or(0) > c) {
                let message = "Too many succeeded pods running after completion count reached";
                plan.events.push(event::<Job>(meta, EventType::Warning, "TooManySucceededPods", message));
            }
            plan.events.push(event::<Job>(meta, EventType::Normal, "Completed", "Job completed"));
        } else {
            let reason = static_reason(reason);
            plan.events.push(event::<Job>(meta, EventType::Warning, reason, message.clone()));
        }
    }
}

/// Reasons of events are constants; a condition read back from the API is text.
fn static_reason(reason: &str) -> &'static str {
    const REASONS: [&str; 5] =
        ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];
    REASONS.into_iter().find(|r| *r == reason).unwrap_or("JobFailed")
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
