//! What a failed pod means for its Job: the pod failure policy, and how long to wait before the next pod.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement},
    core::v1::{ContainerStatus, Pod},
};

use super::spec;
use crate::{
    objects::{annotation, is_deleting, name, namespace},
    pods,
};

const BACKOFF_INITIAL: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(10);
/// Failures of the pods that this one replaces: counted ones, and those that the policy ignored.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counts towards the back-off limit.
    Count,
    /// Does not count; the pod is replaced.
    Ignore,
    /// Its index is not tried again.
    FailIndex,
    /// The whole Job fails, with this message.
    FailJob(String),
}

/// Replace a pod only when it has ended, not already when it is asked to.
pub fn only_replaces_failed(job: &Job) -> bool {
    spec(job).pod_replacement_policy.as_deref() == Some("Failed")
}

pub fn is_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // Its node may be gone: a deleted pod might never get a phase.
        _ => is_deleting(&pod.metadata) && !only_replaces_failed(job),
    }
}

/// The first rule that matches decides.
pub fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let Some(policy) = &spec(job).pod_failure_policy else { return Verdict::Count };
    let who = || format!("{}/{}", namespace(&pod.metadata), name(&pod.metadata));
    for (at, rule) in policy.rules.iter().enumerate() {
        let matched = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => matching_container(pod, codes).map(|(container, code)| {
                format!("Container {container} for pod {} failed with exit code {code}", who())
            }),
            (None, Some(patterns)) => {
                let wanted = |type_: &str, status: &str| {
                    patterns.iter().any(|p| p.type_ == type_ && p.status.as_deref().unwrap_or("True") == status)
                };
                let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
                let found = conditions.iter().find(|c| wanted(&c.type_, &c.status));
                found.map(|c| format!("Pod {} has condition {}", who(), c.type_))
            }
            (None, None) => None,
        };
        let Some(what) = matched else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matching_container<'a>(pod: &'a Pod, rule: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let matches = |c: &&ContainerStatus| {
        let code = exit_code(c).filter(|code| *code != 0);
        rule.container_name.as_ref().is_none_or(|n| *n == c.name)
            && code.is_some_and(|code| match rule.operator.as_str() {
                "In" => rule.values.contains(&code),
                "NotIn" => !rule.values.contains(&code),
                _ => false,
            })
    };
    let containers = status.container_statuses.iter().flatten();
    let found = containers.chain(status.init_container_statuses.iter().flatten()).find(matches)?;
    Some((&found.name, exit_code(found)?))
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// With restartPolicy OnFailure the restarts of running pods count towards the limit.
pub fn restarts_exceed_limit(job: &Job, pods: &[Arc<Pod>], limit: i32) -> bool {
    if spec(job).template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = pods.iter().filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
    let restarts: i64 = running.map(|p| pods::restarts(p)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= i64::from(limit) }
}

/// When the next pod may be made: 10 s after a failure, doubling with each one since the last success.
pub fn next_start(job: &Job, pods: &[Arc<Pod>]) -> Option<Timestamp> {
    let mut failures: Vec<Timestamp> =
        pods.iter().filter(|p| is_failed(job, p)).filter_map(|p| pods::finished_at(p)).collect();
    if failures.is_empty() {
        return None;
    }
    let last_success = pods.iter().filter(|p| pods::is_succeeded(p)).filter_map(|p| pods::finished_at(p)).max();
    failures.retain(|at| last_success.is_none_or(|success| *at > success));
    after(failures.len() as i32, failures.into_iter().max()?)
}

/// The same for one index, after the pod that failed last.
pub fn next_start_of_index(failed: &Pod) -> Option<Timestamp> {
    let (counted, ignored) = index_failures(failed);
    after(counted.saturating_add(ignored).saturating_add(1), pods::finished_at(failed)?)
}

fn after(failures: i32, last: Timestamp) -> Option<Timestamp> {
    let doublings = failures.saturating_sub(1).clamp(0, 16);
    last.checked_add((BACKOFF_INITIAL * (1 << doublings)).min(BACKOFF_MAX)).ok()
}

/// Failures before this pod: (counted, ignored).
pub fn index_failures(pod: &Pod) -> (i32, i32) {
    let read = |key| annotation(&pod.metadata, key).and_then(|n| n.parse().ok()).unwrap_or(0);
    (read(INDEX_FAILURES), read(INDEX_IGNORED_FAILURES))
}
