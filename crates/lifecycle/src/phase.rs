//! The pod's phase from the statuses of its containers: the kubelet's rules.

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodSpec, PodStatus};

use crate::{
    observed::PodObserved,
    restart::{is_sidecar, should_restart},
    start::image_changed,
};

#[derive(Debug, Default)]
struct Counts {
    init_pending: u32,
    init_failed: u32,
    sidecars_pending: u32,
    waiting: u32,
    running: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

/// `ended`: the pod must end and nothing of it runs any more.
pub(crate) fn of(spec: &PodSpec, observed: &PodObserved, status: &PodStatus, ended: bool) -> &'static str {
    let counts = count(spec, observed, status);
    let initialized = spec.containers.iter().any(|c| observed.active(&c.name).is_some());
    if counts.init_failed > 0 {
        return "Failed";
    }
    let starting = counts.init_pending > 0 || (counts.sidecars_pending > 0 && !initialized) || counts.waiting > 0;
    if starting {
        // A pod that is deleted before it ran has failed.
        return if ended { "Failed" } else { "Pending" };
    }
    if counts.running > 0 {
        return "Running";
    }
    if counts.stopped == 0 {
        return if ended { "Failed" } else { "Pending" };
    }
    if !ended && counts.stopped != counts.stopped_for_good {
        return "Running";
    }
    if counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" }
}

fn count(spec: &PodSpec, observed: &PodObserved, status: &PodStatus) -> Counts {
    let mut counts = Counts::default();
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    for (container, status) in spec.init_containers.iter().flatten().zip(init) {
        if is_sidecar(container) {
            count_sidecar(status, &mut counts);
        } else {
            count_init(container, spec, status, &mut counts);
        }
    }
    let mains = status.container_statuses.as_deref().unwrap_or_default();
    for (container, status) in spec.containers.iter().zip(mains) {
        let replaced = observed.newest(&container.name).is_some_and(|r| image_changed(container, r));
        count_main(container, spec, status, replaced, &mut counts);
    }
    counts
}

fn count_init(container: &Container, spec: &PodSpec, status: &ContainerStatus, counts: &mut Counts) {
    match ended(status) {
        Some(end) if end.exit_code == 0 => {}
        Some(end) if !should_restart(container, spec, end.exit_code, true) => counts.init_failed += 1,
        // Failed and to be started again: the pod still initializes.
        _ => counts.init_pending += 1,
    }
}

fn count_sidecar(status: &ContainerStatus, counts: &mut Counts) {
    let Some(state) = &status.state else { return };
    if state.running.is_some() {
        counts.running += 1;
        counts.sidecars_pending += u32::from(status.started != Some(true));
    } else if state.waiting.is_some() && ended(status).is_none() {
        counts.sidecars_pending += 1;
        counts.waiting += 1;
    }
}

fn count_main(container: &Container, spec: &PodSpec, status: &ContainerStatus, replaced: bool, counts: &mut Counts) {
    if status.state.as_ref().is_some_and(|s| s.running.is_some()) {
        counts.running += 1;
        return;
    }
    let Some(end) = ended(status) else {
        counts.waiting += 1;
        return;
    };
    counts.stopped += 1;
    counts.stopped_for_good += u32::from(!replaced && !should_restart(container, spec, end.exit_code, false));
    let over = status.state.as_ref().is_some_and(|s| s.terminated.is_some());
    counts.succeeded += u32::from(over && end.exit_code == 0);
}

/// How the container ended, now or before it waits to be started again.
fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let state = status.state.as_ref()?;
    match (&state.terminated, &state.waiting) {
        (Some(end), _) => Some(end),
        (None, Some(_)) => status.last_state.as_ref().and_then(|s| s.terminated.as_ref()),
        _ => None,
    }
}
