//! A pod that must end, and how: main containers first, sidecars after them in reverse order, the sandbox and the
//! volumes when nothing runs, the object in the API last.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::{
    Command, Draft,
    backoff::later,
    observed::{ContainerRecord, DeleteState, PodObserved, SandboxState, VolumesState},
    restart::{is_sidecar, should_restart},
    seconds,
    start::image_changed,
};

/// The reason of a container's exit and of its pod's failure.
pub(crate) const EVICTED: &str = "Evicted";

/// Why a pod must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All of its containers ended for good, or an init container failed for good.
    Finished,
    DeadlineExceeded,
    /// A container took more of the disk than it may.
    Evicted,
    /// It is deleted, but for its containers.
    Deleted,
}

pub(crate) fn ending(pod: &Pod, spec: &PodSpec, observed: &PodObserved, now: Timestamp) -> Option<Ending> {
    if observed.gone || pod.metadata.deletion_timestamp.is_some() {
        return Some(Ending::Deleted);
    }
    let (phase, reason) = last_phase(pod, observed);
    if matches!(phase, "Failed" | "Succeeded") {
        return Some(match reason {
            "DeadlineExceeded" => Ending::DeadlineExceeded,
            EVICTED => Ending::Evicted,
            _ => Ending::Finished,
        });
    }
    if eviction(observed).is_some() {
        return Some(Ending::Evicted);
    }
    if finished(spec, observed) {
        return Some(Ending::Finished);
    }
    deadline(pod, spec, observed).is_some_and(|at| now >= at).then_some(Ending::DeadlineExceeded)
}

/// Why the runtime asks for the pod to be evicted, if it does.
pub(crate) fn eviction(observed: &PodObserved) -> Option<&str> {
    let exits = observed.containers.iter().filter_map(ContainerRecord::exit);
    exits.filter(|exit| exit.reason == EVICTED).map(|exit| exit.message.as_str()).next()
}

/// The phase and reason that were told last: a terminal one stays, whoever set it.
pub(crate) fn last_phase<'a>(pod: &'a Pod, observed: &'a PodObserved) -> (&'a str, &'a str) {
    let terminal =
        |s: &&k8s_openapi::api::core::v1::PodStatus| matches!(s.phase.as_deref(), Some("Failed" | "Succeeded"));
    let api = pod.status.as_ref();
    let own = observed.status.as_deref().or(api);
    let status = own.filter(terminal).or(api.filter(terminal)).or(own);
    let text = |v: Option<&'a String>| v.map_or("", String::as_str);
    (text(status.and_then(|s| s.phase.as_ref())), text(status.and_then(|s| s.reason.as_ref())))
}

/// When the pod's activeDeadlineSeconds are over.
pub(crate) fn deadline(pod: &Pod, spec: &PodSpec, observed: &PodObserved) -> Option<Timestamp> {
    let limit = u64::try_from(spec.active_deadline_seconds?).ok()?;
    let status = observed.status.as_deref().or(pod.status.as_ref())?;
    Some(later(status.start_time.as_ref()?.0, limit))
}

/// Nothing of it will run again by its own restart policies.
fn finished(spec: &PodSpec, observed: &PodObserved) -> bool {
    if !observed.starting.is_empty() {
        return false;
    }
    init_failed(spec, observed) || mains_ended(spec, observed)
}

fn init_failed(spec: &PodSpec, observed: &PodObserved) -> bool {
    let ended_for_good = |c: &Container| {
        let exit = observed.newest(&c.name).and_then(ContainerRecord::exit);
        exit.is_some_and(|e| e.code != 0 && !should_restart(c, spec, e.code, true))
    };
    spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c)).any(ended_for_good)
}

fn mains_ended(spec: &PodSpec, observed: &PodObserved) -> bool {
    let ended_for_good = |c: &Container| {
        let record = observed.newest(&c.name);
        let same = record.filter(|r| !image_changed(c, r));
        same.and_then(ContainerRecord::exit).is_some_and(|e| !should_restart(c, spec, e.code, false))
    };
    !spec.containers.is_empty() && spec.containers.iter().all(ended_for_good)
}

pub(crate) fn steps(
    pod: &Pod,
    spec: &PodSpec,
    observed: &PodObserved,
    ending: Ending,
    now: Timestamp,
    draft: &mut Draft,
) {
    stop_containers(pod, spec, observed, ending, now, draft);
    if alive(observed) {
        return;
    }
    clean(pod, observed, now, draft);
}

fn stop_containers(
    pod: &Pod,
    spec: &PodSpec,
    observed: &PodObserved,
    ending: Ending,
    now: Timestamp,
    draft: &mut Draft,
) {
    let grace = grace_s(pod, spec, ending, observed);
    let sidecars: Vec<&str> =
        spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let is_side = |r: &ContainerRecord| sidecars.contains(&r.name.as_str());
    let mut main_alive = !observed.starting.is_empty();
    for record in observed.containers.iter().filter(|r| r.running() && !is_side(r)) {
        main_alive = true;
        stop(record, grace, format!("Stopping container {}", record.name), now, draft);
    }
    if main_alive && grace > 0 {
        return;
    }
    // What is left of the grace period that the main containers began.
    let begun = observed.containers.iter().filter_map(|r| r.kill_at).max();
    let left = begun.map_or(grace, |at| seconds_until(at, now).min(grace));
    for name in sidecars.iter().rev() {
        let Some(record) = observed.newest(name).filter(|r| r.running()) else { continue };
        stop(record, left, format!("Stopping container {name}"), now, draft);
        if grace > 0 {
            return;
        }
    }
}

/// The grace period in seconds.
fn grace_s(pod: &Pod, spec: &PodSpec, ending: Ending, observed: &PodObserved) -> u64 {
    let of_spec = spec.termination_grace_period_seconds.unwrap_or(30);
    let of_deletion = pod.metadata.deletion_grace_period_seconds;
    let grace = match ending {
        Ending::Deleted if observed.gone || of_deletion.is_some() => of_deletion.unwrap_or(of_spec),
        // As the kubelet's, for who is over a limit of its own.
        Ending::Evicted => of_spec.min(1),
        _ => of_spec,
    };
    u64::try_from(grace).unwrap_or(0)
}

/// Asks once, and again only if there is less time than it was told the first time.
pub(crate) fn stop(record: &ContainerRecord, grace_s: u64, message: String, now: Timestamp, draft: &mut Draft) {
    let told = record.kill_at;
    if told.is_some_and(|at| at <= later(now, grace_s)) {
        return;
    }
    let (container, attempt, id) = (record.name.clone(), record.attempt, record.id.clone());
    draft.push(Command::StopContainer { container, attempt, id, grace_s, message });
}

fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(at.duration_since(now).as_secs()).unwrap_or(0)
}

/// Nothing runs: the sandbox and the volumes go, then the object if it was deleted.
fn clean(pod: &Pod, observed: &PodObserved, now: Timestamp, draft: &mut Draft) {
    let sandbox_gone = match &observed.sandbox {
        SandboxState::Ready { attempt, id, .. } | SandboxState::NotReady { attempt, id } => {
            draft.push(Command::RemoveSandbox { attempt: *attempt, id: id.clone() });
            false
        }
        SandboxState::Starting { .. } | SandboxState::Removing { .. } => false,
        SandboxState::None | SandboxState::Failed { .. } => true,
    };
    if !sandbox_gone {
        return;
    }
    match &observed.volumes {
        VolumesState::None | VolumesState::Gone => {}
        VolumesState::Mounting | VolumesState::Unmounting => return,
        VolumesState::Ready | VolumesState::Failed { .. } => return draft.push(Command::UnmountVolumes),
    }
    if observed.gone || pod.metadata.deletion_timestamp.is_none() {
        return;
    }
    let delete = Command::DeletePodFromApi { uid: pod.metadata.uid.clone().unwrap_or_default() };
    match observed.delete {
        DeleteState::No => draft.push(delete),
        DeleteState::RetryAt(at) if now >= at => draft.push(delete),
        DeleteState::RetryAt(at) => draft.wake(at),
        DeleteState::Asked => {}
    }
}

/// Nothing is left on the node, and the object is gone.
pub(crate) fn done(observed: &PodObserved) -> bool {
    let quiet = !alive(observed);
    let sandbox = matches!(observed.sandbox, SandboxState::None | SandboxState::Failed { .. });
    let volumes = matches!(observed.volumes, VolumesState::None | VolumesState::Gone);
    observed.gone && quiet && sandbox && volumes
}

/// Whether anything of the pod may still run. (What was made and never started goes with the sandbox.)
pub(crate) fn alive(observed: &PodObserved) -> bool {
    !observed.starting.is_empty() || observed.containers.iter().any(ContainerRecord::running)
}

pub(crate) fn whole(at: Option<Timestamp>) -> Option<Timestamp> {
    at.map(seconds)
}
