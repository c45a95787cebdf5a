//! A pod that should run: volumes, sandbox, init containers in order, sidecars, main containers, restarts.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::{
    Command, Draft,
    backoff::{self, Restart, delay_s, later},
    observed::{
        ContainerRecord, ImageFailure, ImageState, PodObserved, RecordState, RunFailure, SandboxState, VolumesState,
    },
    restart::{is_sidecar, should_restart},
    terminate,
};

pub(crate) fn steps(pod: &Pod, spec: &PodSpec, observed: &PodObserved, now: Timestamp, draft: &mut Draft) {
    let ctx = Start { spec, observed, now };
    if let Some(at) = terminate::deadline(pod, spec, observed) {
        draft.wake(at);
    }
    if ctx.volumes(draft) && ctx.sandbox(draft) && ctx.init(draft) {
        for container in &spec.containers {
            ctx.main(container, draft);
        }
    }
}

/// Dead attempts older than the last two are of no use to anybody.
pub(crate) fn sweep(observed: &PodObserved, draft: &mut Draft) {
    for (at, record) in observed.containers.iter().enumerate() {
        let newer = observed.containers[at + 1..].iter().filter(|r| r.name == record.name).count();
        if newer >= 2 && record.exit().is_some() {
            let (container, id) = (record.name.clone(), record.id.clone());
            draft.push(Command::RemoveContainer { container, attempt: record.attempt, id });
        }
    }
}

struct Start<'a> {
    spec: &'a PodSpec,
    observed: &'a PodObserved,
    now: Timestamp,
}

impl Start<'_> {
    /// Whether the volumes are ready.
    fn volumes(&self, draft: &mut Draft) -> bool {
        match &self.observed.volumes {
            VolumesState::Ready => return true,
            VolumesState::None => draft.push(Command::MountVolumes),
            VolumesState::Failed { at, retry, .. } => {
                let limits = &self.observed.limits;
                let delay = delay_s(self.observed.volumes_failures, limits.volumes_initial_s, limits.volumes_max_s);
                self.again(*retry, later(*at, delay), Command::MountVolumes, draft);
            }
            VolumesState::Mounting | VolumesState::Unmounting | VolumesState::Gone => {}
        }
        false
    }

    /// Whether there is a sandbox to start containers in.
    fn sandbox(&self, draft: &mut Draft) -> bool {
        let run = Command::RunSandbox { attempt: self.observed.sandbox_next };
        match &self.observed.sandbox {
            SandboxState::Ready { .. } => return true,
            SandboxState::None => draft.push(run),
            SandboxState::NotReady { attempt, id } => {
                draft.push(Command::RemoveSandbox { attempt: *attempt, id: id.clone() });
            }
            SandboxState::Failed { at, .. } => {
                self.again(false, later(*at, self.observed.limits.retry_s), run, draft);
            }
            SandboxState::Starting { .. } | SandboxState::Removing { .. } => {}
        }
        false
    }

    /// Whether initialization is over, so that the main containers may run.
    fn init(&self, draft: &mut Draft) -> bool {
        let initialized = self.initialized();
        for container in self.spec.init_containers.iter().flatten() {
            let sidecar = is_sidecar(container);
            if initialized && !sidecar {
                continue;
            }
            let active = self.observed.active(&container.name);
            match active {
                Some(record) if record.running() && sidecar => {
                    self.health(container, record, draft);
                    if !initialized && !started(container, record, self.observed) {
                        return false;
                    }
                }
                Some(record) if record.exit().is_some_and(|e| e.code == 0) && !sidecar => {}
                Some(record) if record.running() => return false,
                _ => {
                    self.run(container, active, draft);
                    if !initialized {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A main container was made in this sandbox: so its initialization is over.
    fn initialized(&self) -> bool {
        self.spec.containers.iter().any(|c| self.observed.active(&c.name).is_some())
    }

    fn main(&self, container: &Container, draft: &mut Draft) {
        let Some(record) = self.observed.newest(&container.name) else {
            return self.run(container, None, draft);
        };
        match &record.state {
            RecordState::Running { .. } => self.health(container, record, draft),
            RecordState::Created => self.run(container, Some(record), draft),
            RecordState::Exited(exit) => {
                let changed = image_changed(container, record);
                if changed || should_restart(container, self.spec, exit.code, false) {
                    self.run(container, Some(record), draft);
                }
            }
        }
    }

    /// Stops a container whose definition changed or whose probes say that it is beyond help.
    fn health(&self, container: &Container, record: &ContainerRecord, draft: &mut Draft) {
        let probes = self.observed.probe(record);
        let name = &container.name;
        let (why, probe) = if image_changed(container, record) {
            (format!("Container {name} definition changed, will be restarted"), None)
        } else if probes.startup == Some(false) {
            (format!("Container {name} failed startup probe, will be restarted"), container.startup_probe.as_ref())
        } else if probes.liveness == Some(false) {
            (format!("Container {name} failed liveness probe, will be restarted"), container.liveness_probe.as_ref())
        } else {
            return;
        };
        let grace = probe.and_then(|p| p.termination_grace_period_seconds);
        let grace = grace.or(self.spec.termination_grace_period_seconds).unwrap_or(30);
        terminate::stop(record, u64::try_from(grace).unwrap_or(0), why, self.now, draft);
    }

    /// Starts the next attempt after `last`, once its image is here and its back-off is over.
    fn run(&self, container: &Container, last: Option<&ContainerRecord>, draft: &mut Draft) {
        let observed = self.observed;
        if observed.starting.contains(&container.name) {
            return;
        }
        let newest = last.or_else(|| observed.newest(&container.name));
        if newest.is_some_and(ContainerRecord::running) {
            return;
        }
        let limits = &observed.limits;
        let mut backoff_s = limits.restart_initial_s;
        if let Some(finished) = newest.and_then(|r| r.exit()).and_then(|e| e.finished) {
            let entry = observed.backoff.get(&container.name);
            match backoff::restart(entry, finished, self.now, limits.restart_initial_s, limits.restart_max_s) {
                Restart::Now { next_s } => backoff_s = next_s,
                Restart::Wait { until, .. } => {
                    let told = newest.and_then(|r| run_failure(observed, r)).map(|(_, until)| until);
                    if let Some(at) = told.filter(|at| *at > self.now) {
                        draft.wake(at);
                    }
                    return draft.wake(until);
                }
            }
        }
        let attempt = newest.map_or(0, |r| r.attempt + 1);
        let Some(image_id) = self.image(container, attempt, draft) else { return };
        let name = container.name.clone();
        let start = Command::CreateAndStart { container: name, attempt, image_id, backoff_s };
        match observed.start_failures.get(&container.name) {
            None => draft.push(start),
            Some(failure) => {
                let delay = if failure.reason == "CreateContainerConfigError" {
                    limits.retry_s
                } else {
                    delay_s(failure.failures, limits.retry_s, limits.restart_max_s)
                };
                self.again(failure.retry, later(failure.at, delay), start, draft);
            }
        }
    }

    /// The id of the container's image, once it is here.
    fn image(&self, container: &Container, attempt: u32, draft: &mut Draft) -> Option<String> {
        let wanted = container.image.clone().unwrap_or_default();
        let name = container.name.clone();
        let ensure = Command::EnsureImage { container: name, attempt, image: wanted.clone() };
        match self.observed.images.get(&container.name) {
            Some(ImageState::Present { attempt: of, image, id }) if *of == attempt && *image == wanted => {
                return Some(id.clone());
            }
            Some(ImageState::Ensuring { .. }) => {}
            Some(ImageState::Failed { image, failure }) if *image == wanted => {
                if let Some(at) = image_flip(failure).filter(|at| *at > self.now) {
                    draft.wake(at);
                }
                self.again(failure.retry, self.image_retry(failure), ensure, draft);
            }
            _ => draft.push(ensure),
        }
        None
    }

    fn image_retry(&self, failure: &ImageFailure) -> Timestamp {
        let limits = &self.observed.limits;
        match failure.reason.as_str() {
            "ErrImagePull" => later(failure.at, delay_s(failure.failures, limits.image_initial_s, limits.image_max_s)),
            // No try can help, but another image name (which is looked at as soon as it is there).
            "InvalidImageName" => Timestamp::MAX,
            _ => later(failure.at, limits.retry_s),
        }
    }

    /// `command` now if it is time, else a timer for it.
    fn again(&self, retry: bool, due: Timestamp, command: Command, draft: &mut Draft) {
        if retry || self.now >= due {
            draft.push(command);
        } else if due != Timestamp::MAX {
            draft.wake(due);
        }
    }
}

/// A failed pull is told as ErrImagePull first, and from this time on as ImagePullBackOff.
pub(crate) fn image_flip(failure: &ImageFailure) -> Option<Timestamp> {
    (failure.reason == "ErrImagePull").then(|| later(failure.at, 1))
}

/// What an attempt that ended failed by, and until when that is told instead of its back-off: as the kubelet, until it looks at
/// the container the next time.
pub(crate) fn run_failure<'o>(
    observed: &'o PodObserved,
    record: &ContainerRecord,
) -> Option<(&'o RunFailure, Timestamp)> {
    let failure = observed.run_failures.get(&record.name).filter(|f| f.attempt == record.attempt)?;
    Some((failure, later(record.exit()?.finished?, observed.limits.retry_s / 2)))
}

/// Whether a running container counts as started: its startup probe, if it has one, succeeded.
pub(crate) fn started(container: &Container, record: &ContainerRecord, observed: &PodObserved) -> bool {
    record.running() && (container.startup_probe.is_none() || observed.probe(record).startup == Some(true))
}

/// A container made from another image than the pod names now is replaced, whatever its restart policy.
pub(crate) fn image_changed(container: &Container, record: &ContainerRecord) -> bool {
    !record.image_spec.is_empty() && container.image.as_ref().is_some_and(|i| *i != record.image_spec)
}
