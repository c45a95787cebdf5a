//! Counting ended pods, each exactly once.
//!
//! A pod is first recorded by UID (or, when it succeeded in an Indexed Job, by its index); only what the API has
//! recorded loses its finalizer; only a recorded pod without finalizer moves to the counters.

use std::collections::HashSet;

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus, UncountedTerminatedPods},
    core::v1::Pod,
};
use skiff_reconcile::Plan;

use super::{
    TRACKING_FINALIZER,
    conditions::{self, Ending},
    failure::{self, Verdict},
    indexes::Indexes,
    is_indexed,
    pods_of::{Pods, Tracked},
    spec,
};
use crate::{
    objects::{is_deleting, remove_finalizer, uid},
    pods,
};

/// UIDs recorded at a time, so that the status stays small; the others wait for the next look.
const UNCOUNTED_MAX: usize = 500;

/// What becomes of one pod that has its finalizer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It has not ended, or its count is still needed.
    Keep,
    /// Its UID is to be recorded: succeeded or failed.
    Record { failed: bool },
    /// It is recorded, or does not count.
    LetGo,
}

pub fn track(job: &Job, pods: &Pods<'_>, ending: Option<&Ending>, status: &mut JobStatus, plan: &mut Plan) {
    let before = job.status.as_ref().and_then(|s| s.uncounted_terminated_pods.clone()).unwrap_or_default();
    let held: HashSet<&str> = pods.tracked.iter().map(|t| uid(&t.pod.metadata)).collect();
    let seen = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect::<HashSet<String>>();
    let (seen_succeeded, seen_failed) = (seen(&before.succeeded), seen(&before.failed));
    let (mut succeeded, counted) = settle(before.succeeded, &held);
    if !is_indexed(job) {
        add(&mut status.succeeded, counted);
    }
    let (mut failed, counted) = settle(before.failed, &held);
    add(&mut status.failed, counted);

    let recorded_indexes = recorded_indexes(job);
    for tracked in &pods.tracked {
        let id = uid(&tracked.pod.metadata);
        let recorded = seen_succeeded.contains(id)
            || seen_failed.contains(id)
            || (pods::is_succeeded(tracked.pod) && tracked.index.is_some_and(|i| recorded_indexes.contains(i)));
        match next(job, pods, tracked, recorded, ending) {
            Next::Keep => {}
            Next::LetGo => plan.actions.push(remove_finalizer::<Pod>(&tracked.pod.metadata, TRACKING_FINALIZER)),
            Next::Record { .. } if succeeded.len() + failed.len() >= UNCOUNTED_MAX => {}
            Next::Record { failed: true } => failed.push(id.to_owned()),
            Next::Record { failed: false } => succeeded.push(id.to_owned()),
        }
    }
    if is_indexed(job) {
        let total = pods.succeeded_indexes.total();
        status.succeeded = (total > 0 || status.succeeded.is_some()).then_some(total);
        status.completed_indexes = Some(pods.succeeded_indexes.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = pods.failed_indexes.as_ref().map(Indexes::to_string);
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { failed: some(failed), succeeded: some(succeeded) });
}

fn next(job: &Job, pods: &Pods<'_>, tracked: &Tracked<'_>, recorded: bool, ending: Option<&Ending>) -> Next {
    let pod = tracked.pod;
    let indexed = is_indexed(job);
    if recorded || is_deleting(&job.metadata) {
        // A Job that is being deleted waits for nothing.
        return Next::LetGo;
    }
    if indexed && tracked.index.is_none() && (tracked.failed || pods::is_succeeded(pod)) {
        return Next::LetGo;
    }
    if pods::is_succeeded(pod) {
        // The status of this look records the index; the look after it lets go.
        return if indexed { Next::Keep } else { Next::Record { failed: false } };
    }
    if tracked.failed {
        let delayed = tracked
            .index
            .is_some_and(|i| pods.to_replace.get(&i).is_some_and(|p| uid(&p.metadata) == uid(&pod.metadata)));
        if delayed && ending.is_none() {
            return Next::Keep;
        }
        return match failure::verdict(job, pod) {
            Verdict::Ignore => Next::LetGo,
            _ => Next::Record { failed: true },
        };
    }
    match ending {
        // Whoever still runs when the Job fails has failed; when it succeeded, they do not matter any more. Either
        // is final only once the ending itself is on record.
        Some(ending) if !ending.success => Next::Record { failed: true },
        Some(ending) if decided(job, ending) => Next::LetGo,
        _ => Next::Keep,
    }
}

fn decided(job: &Job, ending: &Ending) -> bool {
    job.status.as_ref().is_some_and(|s| conditions::is_true(s, ending.interim()))
}

fn recorded_indexes(job: &Job) -> Indexes {
    let text = job.status.as_ref().and_then(|s| s.completed_indexes.as_deref()).unwrap_or_default();
    Indexes::parse(text, spec(job).completions.unwrap_or(0))
}

/// Splits recorded UIDs into those whose pods still have the finalizer, and the number of the others: they count now.
fn settle(recorded: Option<Vec<String>>, held: &HashSet<&str>) -> (Vec<String>, i32) {
    let recorded = recorded.unwrap_or_default();
    let before = recorded.len();
    let kept: Vec<String> = recorded.into_iter().filter(|id| held.contains(id.as_str())).collect();
    let counted = (before - kept.len()) as i32;
    (kept, counted)
}

fn add(counter: &mut Option<i32>, n: i32) {
    if n > 0 {
        *counter = Some(counter.unwrap_or(0) + n);
    }
}
