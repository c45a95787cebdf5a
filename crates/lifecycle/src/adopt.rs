//! What a node that has just started knows of a pod that ran before: the runtime's containers and the status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use crate::{
    observed::{ContainerRecord, PodObserved, RecordState, TerminatedState, VolumesState},
    outcome::{UNKNOWN_MESSAGE, UNKNOWN_REASON},
};

/// Begins with the attempts that the runtime still has (`found`); what only the status remembers counts as ended, with
/// 137 if it was running: restart counts go on from there, and restart policies hold across restarts of the node.
pub fn adopt(pod: &Pod, found: Vec<ContainerRecord>, now: Timestamp) -> PodObserved {
    let mut by_key: BTreeMap<(String, u32), ContainerRecord> = BTreeMap::new();
    let status = pod.status.as_ref();
    let inits = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    let mains = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    for container in inits.chain(mains) {
        for record in remembered(pod, container, now) {
            by_key.insert((record.name.clone(), record.attempt), record);
        }
    }
    for record in found {
        by_key.insert((record.name.clone(), record.attempt), record);
    }
    let ran = !by_key.is_empty();
    let terminal = matches!(status.and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"));
    PodObserved {
        containers: by_key.into_values().collect(),
        // A finished pod's volumes may still lie there: unmounting is idempotent.
        volumes: if ran && terminal { VolumesState::Ready } else { VolumesState::None },
        ..PodObserved::default()
    }
}

/// The last attempt and the one before it, as the status has them.
fn remembered(pod: &Pod, status: &ContainerStatus, now: Timestamp) -> Vec<ContainerRecord> {
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    let state = status.state.as_ref();
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let mut records = vec![];
    let current = state.and_then(|s| current(s, now));
    match (current, last) {
        (Some(exit), last) => {
            if let (Some(last), Some(before)) = (last, attempt.checked_sub(1)) {
                records.push(record(pod, status, before, terminated(last)));
            }
            records.push(record(pod, status, attempt, exit));
        }
        // Waiting to be started again: the last attempt is the one that counts.
        (None, Some(last)) => records.push(record(pod, status, attempt, terminated(last))),
        (None, None) => {}
    }
    records
}

fn current(state: &ContainerState, now: Timestamp) -> Option<TerminatedState> {
    if let Some(exit) = &state.terminated {
        return Some(terminated(exit));
    }
    state.running.as_ref().map(|running| TerminatedState {
        code: 137,
        reason: UNKNOWN_REASON.to_owned(),
        message: UNKNOWN_MESSAGE.to_owned(),
        started: running.started_at.as_ref().map(|t| t.0),
        finished: Some(now),
    })
}

fn terminated(exit: &ContainerStateTerminated) -> TerminatedState {
    TerminatedState {
        code: exit.exit_code,
        reason: exit.reason.clone().unwrap_or_default(),
        message: exit.message.clone().unwrap_or_default(),
        started: exit.started_at.as_ref().map(|t| t.0),
        finished: exit.finished_at.as_ref().map(|t| t.0),
    }
}

fn record(pod: &Pod, status: &ContainerStatus, attempt: u32, exit: TerminatedState) -> ContainerRecord {
    let spec = pod.spec.as_ref();
    let inits = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
    let mains = spec.into_iter().flat_map(|s| &s.containers);
    let image_spec = inits.chain(mains).find(|c| c.name == status.name).and_then(|c| c.image.clone());
    ContainerRecord {
        name: status.name.clone(),
        attempt,
        id: String::new(),
        api_id: status.container_id.clone().unwrap_or_default(),
        sandbox: None,
        state: RecordState::Exited(exit),
        image_spec: image_spec.unwrap_or_default(),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        kill_at: None,
    }
}
