//! The status of a Deployment: counts from its ReplicaSets, conditions with upstream's reasons.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};

use super::{bounds, desired, spec};
use crate::objects::{name, seconds, until};

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub const PAUSED: &str = "DeploymentPaused";
pub const RESUMED: &str = "DeploymentResumed";

pub fn has_progress_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds.is_some_and(|s| s != i32::MAX)
}

pub fn condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

pub fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(type_))
}
pub fn reason<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a str> {
    get(status, type_).and_then(|c| c.reason.as_deref())
}

/// Sets a condition unless it says the same already; the time of transition only changes with the status.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let type_ = condition.type_.clone().unwrap_or_default();
    if let Some(old) = get(status, &type_) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(type_));
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

pub fn set_status(set: &ReplicaSet) -> ReplicaSetStatus {
    set.status.clone().unwrap_or_default()
}
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// Counts and the Available condition. `wanted_in_sets` is the sum of the sizes that the sets have been given.
pub fn counted(
    deployment: &Deployment,
    before: &DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    wanted_in_sets: i32,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSetStatus) -> i32| -> i32 { sets.iter().map(|s| of(&set_status(s))).sum() };
    let nonzero = |n: i32| (n > 0).then_some(n);
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(|s| s.replicas)),
        updated_replicas: nonzero(new.map_or(0, |s| set_status(s).replicas)),
        ready_replicas: nonzero(sum(|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero(wanted_in_sets - available),
        terminating_replicas: terminating(sets),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let enough = available >= desired(deployment) - bounds(deployment).1;
    set(
        &mut status,
        match enough {
            true => {
                condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
            }
            false => condition(
                AVAILABLE,
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
                now,
            ),
        },
    );
    status
}

/// Unknown when a set that was seen by its controller does not report it.
fn terminating(sets: &[&ReplicaSet]) -> Option<i32> {
    sets.iter().try_fold(0, |sum, set| {
        let status = set_status(set);
        match status.terminating_replicas {
            Some(n) => Some(sum + n),
            None if status.observed_generation.unwrap_or(0) == 0 => Some(sum),
            None => None,
        }
    })
}

pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = desired(deployment);
    [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|n| n.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

fn made_progress(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// The Progressing and ReplicaFailure conditions of a rollout. `old` is what the API has.
pub fn progressed(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let who = new.map_or_else(
        || format!("Deployment {:?}", name(&deployment.metadata)),
        |set| format!("ReplicaSet {:?}", name(&set.metadata)),
    );
    let current = get(old, PROGRESSING).cloned();
    let settled = status.replicas == status.updated_replicas && reason(old, PROGRESSING) == Some(NEW_SET_AVAILABLE);
    if !has_progress_deadline(spec(deployment)) {
        remove(status, PROGRESSING);
    } else if !settled {
        if is_complete(deployment, status) {
            let message = format!("{who} has successfully progressed.");
            set(status, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, &message, now));
        } else if made_progress(old, status) {
            let message = format!("{who} is progressing.");
            let mut progressing = condition(PROGRESSING, "True", "ReplicaSetUpdated", &message, now);
            if let Some(current) = current.filter(|c| c.status.as_deref() == Some("True")) {
                progressing.last_transition_time = current.last_transition_time;
            }
            // Also when the reason stays the same: the time of the update is what the deadline counts from.
            remove(status, PROGRESSING);
            set(status, progressing);
        } else if timed_out(deployment, status, now) {
            let message = format!("{who} has timed out progressing.");
            set(status, condition(PROGRESSING, "False", TIMED_OUT, &message, now));
        }
    }
    match replica_failure(sets, new) {
        Some(failure) => set(status, failure),
        None => remove(status, REPLICA_FAILURE),
    }
}

fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let limit = spec(deployment).progress_deadline_seconds.filter(|s| *s != i32::MAX)?;
    let from = get(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    from.checked_add(SignedDuration::from_secs(limit.into())).ok()
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    match reason(status, PROGRESSING) {
        None | Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        Some(_) => deadline(deployment, status).is_some_and(|at| at < now),
    }
}

/// When to look whether the deadline has passed.
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let waiting = !matches!(reason(status, PROGRESSING), None | Some(NEW_SET_AVAILABLE | TIMED_OUT | PAUSED));
    let at = deadline(deployment, status).filter(|_| waiting && !is_complete(deployment, status))?;
    // The deadline itself is still in time.
    Some(until(at, now) + Duration::from_secs(1))
}

/// That of the new set before that of others.
fn replica_failure(sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let conditions = new.into_iter().chain(sets.iter().copied()).flat_map(|s| s.status.iter());
    let failure =
        conditions.flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE))?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time.clone(),
    })
}

/// Pausing stops the clock of the deadline, resuming starts it anew; a lack of progress already reported stays.
pub fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let paused = spec(deployment).paused == Some(true);
    let noted = reason(status, PROGRESSING) == Some(PAUSED);
    if !has_progress_deadline(spec(deployment)) || reason(status, PROGRESSING) == Some(TIMED_OUT) || paused == noted {
        return;
    }
    let (reason, message) = match paused {
        true => (PAUSED, "Deployment is paused"),
        false => (RESUMED, "Deployment is resumed"),
    };
    set(status, condition(PROGRESSING, "Unknown", reason, message, now));
}
