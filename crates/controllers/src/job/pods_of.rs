//! The pods of a Job, sorted once, and which to create or delete.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};
use skiff_reconcile::{Entropy, EventType, Plan};

use super::{
    COMPLETION_INDEX, TRACKING_FINALIZER,
    conditions::Ending,
    failure::{self, INDEX_FAILURES, INDEX_IGNORED_FAILURES, Verdict, index_failures, is_failed},
    indexes::Indexes,
    is_indexed, is_suspended, spec,
};
use crate::{
    objects::{annotation, delete, event, has_finalizer, name, remove_finalizer, uid, until},
    pods,
};

/// Pods created or deleted by one plan; the rest follows in the next.
const PODS_PER_PLAN_MAX: usize = 500;
/// Events per plan about single pods: beyond it they would only say the same again.
const EVENTS_MAX: usize = 10;

/// How a pod stands with the counting.
pub struct Tracked<'a> {
    pub pod: &'a Arc<Pod>,
    /// Of an Indexed Job; `None` when missing or out of range.
    pub index: Option<i32>,
    pub failed: bool,
}

pub struct Pods<'a> {
    pub all: &'a [Arc<Pod>],
    pub active: Vec<Arc<Pod>>,
    /// With the finalizer: not counted for good.
    pub tracked: Vec<Tracked<'a>>,
    pub terminating: i32,
    /// Counted, recorded or seen.
    pub succeeded: i32,
    pub failed: i32,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Option<Indexes>,
    /// With a back-off limit per index: the failed pod that its replacement takes the count from.
    pub to_replace: BTreeMap<i32, &'a Arc<Pod>>,
    pub failed_job_message: Option<String>,
}

/// What the status will say.
pub struct Counts {
    pub active: i32,
    pub ready: i32,
    pub terminating: i32,
}
impl Counts {
    pub fn lose(&mut self, pod: &Pod) {
        self.active -= 1;
        self.terminating += 1;
        self.ready -= i32::from(pods::is_ready(pod));
    }
}

impl<'a> Pods<'a> {
    pub fn sort(job: &Job, all: &'a [Arc<Pod>]) -> Self {
        let status = job.status.as_ref();
        let uncounted = status.and_then(|s| s.uncounted_terminated_pods.as_ref());
        let recorded_succeeded = set(uncounted.and_then(|u| u.succeeded.as_deref()));
        let recorded_failed = set(uncounted.and_then(|u| u.failed.as_deref()));
        let indexed = is_indexed(job);
        let completions = spec(job).completions.unwrap_or(0);
        let mut this = Self {
            all,
            active: all.iter().filter(|p| pods::is_active(p)).cloned().collect(),
            tracked: Vec::new(),
            terminating: all.iter().filter(|p| pods::is_terminating(p)).count() as i32,
            succeeded: status.and_then(|s| s.succeeded).unwrap_or(0) + recorded_succeeded.len() as i32,
            failed: status.and_then(|s| s.failed).unwrap_or(0) + recorded_failed.len() as i32,
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            to_replace: BTreeMap::new(),
            failed_job_message: None,
        };
        for pod in all.iter().filter(|p| has_finalizer(&p.metadata, TRACKING_FINALIZER)) {
            let index = if indexed { completion_index(pod).filter(|i| *i < completions) } else { None };
            let failed = is_failed(job, pod);
            let valid = !indexed || index.is_some();
            let verdict = if failed { failure::verdict(job, pod) } else { Verdict::Count };
            // A pod that was recorded as deleted may still succeed: the record stands.
            let id = uid(&pod.metadata);
            let open = valid && !recorded_failed.contains(id) && !recorded_succeeded.contains(id);
            if open && failed && verdict != Verdict::Ignore {
                this.failed += 1;
            }
            if open && pods::is_succeeded(pod) {
                this.succeeded += 1;
            }
            if let Verdict::FailJob(message) = verdict {
                this.failed_job_message.get_or_insert(message);
            }
            this.tracked.push(Tracked { pod, index, failed });
        }
        if indexed {
            this.sort_indexes(job, completions);
        }
        this
    }

    fn sort_indexes(&mut self, job: &Job, completions: i32) {
        let status = job.status.as_ref();
        let read = |text: Option<&String>| Indexes::parse(text.map(String::as_str).unwrap_or_default(), completions);
        self.succeeded_indexes = read(status.and_then(|s| s.completed_indexes.as_ref()));
        for tracked in self.tracked.iter().filter(|t| pods::is_succeeded(t.pod)) {
            tracked.index.into_iter().for_each(|i| self.succeeded_indexes.insert(i));
        }
        self.succeeded = self.succeeded_indexes.total();
        let Some(limit) = spec(job).backoff_limit_per_index else { return };
        let mut failed_indexes = read(status.and_then(|s| s.failed_indexes.as_ref()));
        for tracked in self.tracked.iter().filter(|t| t.failed) {
            let over = match failure::verdict(job, tracked.pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                _ => index_failures(tracked.pod).0 >= limit,
            };
            tracked.index.into_iter().filter(|_| over).for_each(|i| failed_indexes.insert(i));
        }
        let active: HashSet<i32> = self.active.iter().filter_map(|p| completion_index(p)).collect();
        for tracked in self.tracked.iter().filter(|t| t.failed) {
            let Some(index) = tracked.index else { continue };
            if self.succeeded_indexes.contains(index) || failed_indexes.contains(index) || active.contains(&index) {
                continue;
            }
            let rank = |p: &Pod| (index_failures(p), pods::finished_at(p));
            let last = self.to_replace.entry(index).or_insert(tracked.pod);
            if rank(last) <= rank(tracked.pod) {
                *last = tracked.pod;
            }
        }
        self.failed_indexes = Some(failed_indexes);
    }

    pub fn counts(&self) -> Counts {
        let ready = self.active.iter().filter(|p| pods::is_ready(p)).count() as i32;
        Counts { active: self.active.len() as i32, ready, terminating: self.terminating }
    }

    /// Some ended pod still has its finalizer.
    pub fn tracked_ended(&self) -> bool {
        self.tracked.iter().any(|t| t.failed || pods::is_succeeded(t.pod))
    }

    /// Endings that only Indexed Jobs have.
    pub fn index_ending(&self, job: &Job) -> Option<Ending> {
        let spec = spec(job);
        let completions = spec.completions.filter(|_| is_indexed(job))?;
        if let Some(failed) = &self.failed_indexes {
            if spec.max_failed_indexes.is_some_and(|max| failed.total() > max) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(Ending::failure("MaxFailedIndexesExceeded", message));
            }
            if !failed.is_empty() && failed.total() + self.succeeded_indexes.total() >= completions {
                return Some(Ending::failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        let rules = spec.success_policy.as_ref().map(|p| &p.rules)?;
        let met = rules.iter().position(|rule| match &rule.succeeded_indexes {
            Some(wanted) => {
                let wanted = Indexes::parse(wanted, completions);
                let there = wanted.overlap(&self.succeeded_indexes);
                !wanted.is_empty() && (there == wanted.total() || rule.succeeded_count.is_some_and(|c| there >= c))
            }
            None => rule.succeeded_count.is_some_and(|c| self.succeeded_indexes.total() >= c),
        })?;
        Some(Ending::success("SuccessPolicy", format!("Matched rules at index {met}")))
    }
}

/// Creates or deletes pods so that as many run as should. Returns when to look again for a back-off's sake.
pub fn manage(
    job: &Job,
    pods: &Pods<'_>,
    counts: &mut Counts,
    now: Timestamp,
    plan: &mut Plan,
    entropy: &mut dyn Entropy,
) -> Option<Duration> {
    let parallelism = spec(job).parallelism.unwrap_or(1).max(0);
    let wanted = match spec(job).completions {
        _ if is_suspended(job) => 0,
        None if pods.succeeded > 0 => counts.active,
        None => parallelism,
        Some(completions) => (completions - pods.succeeded).clamp(0, parallelism),
    };
    let surplus = surplus(job, pods, (counts.active - wanted).max(0) as usize, now);
    if !surplus.is_empty() {
        remove(job, &surplus, counts, plan);
        return None;
    }
    let reserved = if failure::only_replaces_failed(job) { counts.terminating } else { 0 };
    let missing = (wanted - reserved - counts.active).max(0) as usize;
    if missing == 0 {
        return None;
    }
    let per_index = spec(job).backoff_limit_per_index.is_some();
    if !per_index && let Some(at) = failure::next_start(job, pods.all).filter(|at| *at > now) {
        return Some(until(at, now));
    }
    let missing = missing.min(PODS_PER_PLAN_MAX);
    if !is_indexed(job) {
        create(job, pods, &vec![None; missing], counts, plan, entropy);
        return None;
    }
    let pending = pending_indexes(job, pods, missing);
    let start = |index: &i32| pods.to_replace.get(index).and_then(|p| failure::next_start_of_index(p));
    let (waiting, ready): (Vec<i32>, Vec<i32>) =
        pending.into_iter().partition(|index| start(index).is_some_and(|at| at > now));
    let ready: Vec<Option<i32>> = ready.into_iter().map(Some).collect();
    create(job, pods, &ready, counts, plan, entropy);
    waiting.iter().filter_map(start).min().map(|at| until(at, now))
}

/// At least this many active pods too many; of an Indexed Job also those without or with a repeated index.
fn surplus(job: &Job, pods: &Pods<'_>, at_least: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    let mut left = pods.active.clone();
    let mut out = Vec::new();
    if is_indexed(job) {
        pods::rank_for_deletion(&mut left, &BTreeMap::new(), now);
        let completions = spec(job).completions.unwrap_or(0);
        let mut seen = HashSet::new();
        // From the one most worth keeping.
        for at in (0..left.len()).rev() {
            let index = completion_index(&left[at]).filter(|i| *i < completions);
            if !index.is_some_and(|i| seen.insert(i)) {
                out.push(left.remove(at));
            }
        }
    } else if at_least > 0 {
        pods::rank_for_deletion(&mut left, &BTreeMap::new(), now);
    }
    let more = at_least.saturating_sub(out.len()).min(left.len());
    out.extend(left.drain(..more));
    out.truncate(PODS_PER_PLAN_MAX);
    out
}

/// Pods that are given up are not counted: their finalizers go first.
fn remove(job: &Job, surplus: &[Arc<Pod>], counts: &mut Counts, plan: &mut Plan) {
    let held = surplus.iter().filter(|p| has_finalizer(&p.metadata, TRACKING_FINALIZER));
    plan.actions.extend(held.map(|p| remove_finalizer::<Pod>(&p.metadata, TRACKING_FINALIZER)));
    for (at, pod) in surplus.iter().enumerate() {
        plan.actions.push(delete::<Pod>(&pod.metadata, None));
        counts.lose(pod);
        if at < EVENTS_MAX {
            let message = format!("Deleted pod: {}", name(&pod.metadata));
            plan.events.push(event::<Job>(&job.metadata, EventType::Normal, "SuccessfulDelete", message));
        }
    }
}

/// The lowest indexes that nothing has succeeded, failed for good or is working on.
fn pending_indexes(job: &Job, pods: &Pods<'_>, count: usize) -> Vec<i32> {
    let replaces_only_failed = failure::only_replaces_failed(job);
    let working = pods.all.iter().filter(|p| pods::is_active(p) || (replaces_only_failed && pods::is_terminating(p)));
    let working: HashSet<i32> = working.filter_map(|p| completion_index(p)).collect();
    let failed = |index: i32| pods.failed_indexes.as_ref().is_some_and(|f| f.contains(index));
    let free = |index: &i32| !working.contains(index) && !pods.succeeded_indexes.contains(*index) && !failed(*index);
    (0..spec(job).completions.unwrap_or(0)).filter(free).take(count).collect()
}

fn create(
    job: &Job,
    pods: &Pods<'_>,
    indexes: &[Option<i32>],
    counts: &mut Counts,
    plan: &mut Plan,
    entropy: &mut dyn Entropy,
) {
    if indexes.is_empty() {
        return;
    }
    let template = template(job);
    let names = pods::Names::of(pods.all);
    for (at, index) in indexes.iter().enumerate() {
        let (body, base) = match index {
            None => (template.clone(), format!("{}-", name(&job.metadata))),
            Some(index) => {
                let base = format!("{}-{index}-", name(&job.metadata));
                (with_index(job, template.clone(), *index, pods.to_replace.get(index).copied()), base)
            }
        };
        let pod_name = names.next(&base, entropy);
        plan.actions.push(pods::create(body, &base, &pod_name, &job.metadata));
        counts.active += 1;
        if at < EVENTS_MAX {
            let message = format!("Created pod: {pod_name}");
            plan.events.push(event::<Job>(&job.metadata, EventType::Normal, "SuccessfulCreate", message));
        }
    }
}

fn template(job: &Job) -> Value {
    let mut body = pods::from_template::<Job>(&spec(job).template, &job.metadata);
    let mut finalizers = body["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == TRACKING_FINALIZER) {
        finalizers.push(json!(TRACKING_FINALIZER));
    }
    body["metadata"]["finalizers"] = json!(finalizers);
    if is_indexed(job) {
        for list in ["initContainers", "containers"] {
            for container in body["spec"][list].as_array_mut().into_iter().flatten() {
                add_index_variable(container);
            }
        }
    }
    body
}

fn add_index_variable(container: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    if env.iter().all(|v| v["name"] != NAME) {
        let path = format!("metadata.labels['{COMPLETION_INDEX}']");
        env.push(json!({ "name": NAME, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        container["env"] = json!(env);
    }
}

fn with_index(job: &Job, mut body: Value, index: i32, replaces: Option<&Arc<Pod>>) -> Value {
    body["metadata"]["labels"][COMPLETION_INDEX] = json!(index.to_string());
    body["metadata"]["annotations"][COMPLETION_INDEX] = json!(index.to_string());
    body["spec"]["hostname"] = json!(format!("{}-{index}", name(&job.metadata)));
    if spec(job).backoff_limit_per_index.is_some() {
        let (mut counted, mut ignored) = replaces.map_or((0, 0), |p| index_failures(p));
        match replaces.map(|p| failure::verdict(job, p)) {
            None => {}
            Some(Verdict::Ignore) => ignored += 1,
            Some(_) => counted += 1,
        }
        body["metadata"]["annotations"][INDEX_FAILURES] = json!(counted.to_string());
        if ignored > 0 {
            body["metadata"]["annotations"][INDEX_IGNORED_FAILURES] = json!(ignored.to_string());
        }
    }
    body
}

pub fn completion_index(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, COMPLETION_INDEX)?.parse().ok().filter(|i| *i >= 0)
}

fn set(uids: Option<&[String]>) -> HashSet<&str> {
    uids.unwrap_or_default().iter().map(String::as_str).collect()
}
