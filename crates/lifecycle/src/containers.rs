//! Container statuses: the newest attempt as `state`, the one before it as `lastState`, and why a container waits.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodSpec, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    backoff::{self, Restart},
    observed::{ContainerRecord, ImageState, PodObserved, RecordState, TerminatedState},
    outcome::{UNKNOWN_MESSAGE, UNKNOWN_REASON},
    pod_name,
    restart::{is_sidecar, should_restart},
    start,
    terminate::{self, Ending},
};

pub(crate) struct Context<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub observed: &'a PodObserved,
    pub ending: Option<Ending>,
    pub now: Timestamp,
}

impl Context<'_> {
    pub fn init(&self) -> Option<Vec<ContainerStatus>> {
        let containers = self.spec.init_containers.as_ref().filter(|c| !c.is_empty())?;
        Some(containers.iter().map(|c| self.one(c, true)).collect())
    }

    pub fn mains(&self) -> Vec<ContainerStatus> {
        self.spec.containers.iter().map(|c| self.one(c, false)).collect()
    }

    fn one(&self, container: &Container, init: bool) -> ContainerStatus {
        let record = self.observed.newest(&container.name);
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            volume_mounts: volume_mounts(container),
            started: Some(false),
            ..ContainerStatus::default()
        };
        if let Some(record) = record {
            self.fill(container, record, init, &mut status);
        } else if self.never_ran(init) {
            status.state = Some(terminated_state(&lost(), ""));
        } else {
            let (reason, message) = self.waiting(container).unwrap_or_else(|| (self.default_reason(), None));
            status.state = Some(waiting_state(reason, message));
        }
        if init && !is_sidecar(container) {
            let exit = record.and_then(ContainerRecord::exit);
            status.ready = exit.is_some_and(|e| e.code == 0);
        }
        status
    }

    fn fill(&self, container: &Container, record: &ContainerRecord, init: bool, status: &mut ContainerStatus) {
        status.restart_count = i32::try_from(record.attempt).unwrap_or(i32::MAX);
        status.container_id = (!record.api_id.is_empty()).then(|| record.api_id.clone());
        status.image.clone_from(&record.image);
        status.image_id.clone_from(&record.image_id);
        if let Some(resources) = &container.resources {
            status.allocated_resources.clone_from(&resources.requests);
            status.resources = Some(resources.clone());
        }
        let before = self.observed.previous(&container.name);
        let before = before.and_then(|r| r.exit().map(|e| terminated_state(e, &r.api_id)));
        status.last_state = Some(before.unwrap_or_default());
        match &record.state {
            RecordState::Created => status.state = Some(waiting_state(self.default_reason(), None)),
            RecordState::Running { started } => {
                status.state = Some(running_state(*started));
                let started = start::started(container, record, self.observed);
                status.started = Some(started);
                let probe = self.observed.probe(record).readiness == Some(true);
                status.ready = started && (container.readiness_probe.is_none() || probe);
            }
            RecordState::Exited(exit) => {
                let ended = terminated_state(exit, &record.api_id);
                match self.waits_to_restart(container, record, exit, init) {
                    Some((reason, message)) => {
                        status.state = Some(waiting_state(reason, message));
                        status.last_state = Some(ended);
                    }
                    None => status.state = Some(ended),
                }
            }
        }
    }

    /// Why a container that ended is not running again yet; `None` if it will not be, or will be at once.
    fn waits_to_restart(
        &self,
        container: &Container,
        record: &ContainerRecord,
        exit: &TerminatedState,
        init: bool,
    ) -> Option<(&'static str, Option<String>)> {
        if self.ending.is_some() || !should_restart(container, self.spec, exit.code, init) {
            return None;
        }
        let limits = &self.observed.limits;
        let entry = self.observed.backoff.get(&container.name);
        let finished = exit.finished?;
        let failure = start::run_failure(self.observed, record).filter(|(_, until)| self.now < *until);
        let failure = failure.map(|(failure, _)| (known_reason(&failure.reason), Some(failure.message.clone())));
        match backoff::restart(entry, finished, self.now, limits.restart_initial_s, limits.restart_max_s) {
            Restart::Now { .. } => self.waiting(container).or(failure),
            Restart::Wait { .. } if failure.is_some() => failure,
            Restart::Wait { delay_s, .. } => {
                let (delay, pod) = (backoff::text(delay_s), pod_name(self.pod));
                let message = format!("back-off {delay} restarting failed container={} pod={pod}", container.name);
                Some(("CrashLoopBackOff", Some(message)))
            }
        }
    }

    /// What keeps the next attempt from being made.
    fn waiting(&self, container: &Container) -> Option<(&'static str, Option<String>)> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let image = match self.observed.images.get(&container.name) {
            Some(ImageState::Failed { image, failure }) if image == wanted => Some(failure),
            Some(ImageState::Ensuring { image, failed: Some(failure), .. }) if image == wanted => Some(failure),
            _ => None,
        };
        if let Some(failure) = image {
            if start::image_flip(failure).is_some_and(|at| self.now >= at) {
                let message = format!("Back-off pulling image \"{wanted}\": ErrImagePull: {}", failure.message);
                return Some(("ImagePullBackOff", Some(message)));
            }
            return Some((known_reason(&failure.reason), Some(failure.message.clone())));
        }
        let failure = self.observed.start_failures.get(&container.name)?;
        Some((known_reason(&failure.reason), Some(failure.message.clone())))
    }

    fn default_reason(&self) -> &'static str {
        let has_init = self.spec.init_containers.as_ref().is_some_and(|c| !c.is_empty());
        if has_init { "PodInitializing" } else { "ContainerCreating" }
    }

    /// Once a pod has run and ended, a main container without any attempt is told as lost.
    fn never_ran(&self, init: bool) -> bool {
        let ran = self.spec.containers.iter().any(|c| self.observed.newest(&c.name).is_some());
        !init && ran && self.ending.is_some() && !terminate::alive(self.observed)
    }
}

/// Reasons as the API knows them.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 8] = [
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PostStartHookError",
    ];
    KNOWN.into_iter().find(|k| *k == reason).unwrap_or("CreateContainerError")
}

fn lost() -> TerminatedState {
    let (reason, message) = (UNKNOWN_REASON.to_owned(), UNKNOWN_MESSAGE.to_owned());
    TerminatedState { code: 137, reason, message, started: None, finished: None }
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn running_state(started: Timestamp) -> ContainerState {
    let running = ContainerStateRunning { started_at: terminate::whole(Some(started)).map(Time) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn terminated_state(exit: &TerminatedState, id: &str) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: (!id.is_empty()).then(|| id.to_owned()),
        exit_code: exit.code,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        signal: None,
        started_at: terminate::whole(exit.started).map(Time),
        finished_at: terminate::whole(exit.finished).map(Time),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(status).collect())
}
