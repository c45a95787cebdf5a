//! How what a node knows of a pod changes: when a command begins, and when something came of it.

use jiff::Timestamp;

use crate::{
    Command,
    backoff::later,
    observed::{
        Backoff, ContainerRecord, DeleteState, ImageFailure, ImageState, Outcome, PodObserved, ProbeKind, RecordState,
        RunFailure, SandboxState, StartFailure, TerminatedState, VolumesState,
    },
};

/// As the kubelet explains a container that it cannot find.
pub const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
pub const UNKNOWN_MESSAGE: &str = "The container could not be located when the pod was terminated";

impl PodObserved {
    /// Marks a command as under way, so that it is not planned again.
    pub fn begin(&mut self, command: &Command, now: Timestamp) {
        match command {
            Command::MountVolumes => self.volumes = VolumesState::Mounting,
            Command::UnmountVolumes => self.volumes = VolumesState::Unmounting,
            Command::RunSandbox { attempt } => {
                self.sandbox = SandboxState::Starting { attempt: *attempt };
                self.sandbox_next = self.sandbox_next.max(attempt + 1);
            }
            Command::RemoveSandbox { attempt, id } => {
                self.sandbox = SandboxState::Removing { attempt: *attempt, id: id.clone() };
            }
            Command::EnsureImage { container, attempt, image } => self.begin_image(container, *attempt, image),
            Command::CreateAndStart { container, backoff_s, .. } => {
                self.starting.insert(container.clone());
                if self.newest(container).is_some_and(|r| r.exit().is_some()) {
                    self.backoff.insert(container.clone(), Backoff { delay_s: *backoff_s, updated: now });
                }
            }
            Command::StopContainer { id, grace_s, .. } => {
                if let Some(record) = self.by_id(id) {
                    record.kill_at = Some(later(now, *grace_s));
                }
            }
            Command::RemoveContainer { container, attempt, .. } => {
                self.containers.retain(|r| r.name != *container || r.attempt != *attempt);
            }
            Command::DeletePodFromApi { .. } => self.delete = DeleteState::Asked,
        }
    }

    fn begin_image(&mut self, container: &str, attempt: u32, image: &str) {
        let failed = match self.images.remove(container) {
            Some(ImageState::Failed { image: old, failure }) if old == image => Some(failure),
            _ => None,
        };
        let state = ImageState::Ensuring { attempt, image: image.to_owned(), failed };
        self.images.insert(container.to_owned(), state);
    }

    /// Takes in what happened. An outcome about something that is no longer there changes nothing.
    pub fn apply(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::VolumesReady => {
                self.volumes_failures = 0;
                self.volumes = VolumesState::Ready;
            }
            Outcome::VolumesFailed { message } => {
                self.volumes_failures += 1;
                self.volumes = VolumesState::Failed { message, at: now, retry: false };
            }
            Outcome::VolumesGone => self.volumes = VolumesState::Gone,
            Outcome::SandboxReady { attempt, id, ips } => {
                self.sandbox_failures = 0;
                self.sandbox_next = self.sandbox_next.max(attempt + 1);
                self.sandbox = SandboxState::Ready { attempt, id, ips };
            }
            Outcome::SandboxFailed { message } => {
                self.sandbox_failures += 1;
                self.sandbox = SandboxState::Failed { message, at: now };
            }
            Outcome::SandboxRemoved => self.sandbox_gone(now),
            Outcome::SandboxLost { attempt } => self.sandbox_lost(attempt, now),
            Outcome::ImagePresent { container, attempt, image, id } => {
                self.images.insert(container, ImageState::Present { attempt, image, id });
            }
            Outcome::ImageFailed { container, image, reason, message } => {
                self.image_failed(container, image, reason, message, now);
            }
            Outcome::Started(record) => self.started(record),
            Outcome::StartedAndFailed { record, reason, message } => {
                let (name, attempt) = (record.name.clone(), record.attempt);
                self.started(record);
                self.run_failures.insert(name, RunFailure { attempt, reason, message });
            }
            Outcome::NotCreated { container, reason, message } => self.not_created(container, reason, message, now),
            Outcome::State { id, state } => {
                if let Some(record) = self.by_id(&id).filter(|r| r.exit().is_none()) {
                    record.state = state;
                }
            }
            Outcome::Lost { id } => {
                if let Some(record) = self.by_id(&id) {
                    lose(record, now);
                }
            }
            Outcome::StopFailed { id } => {
                if let Some(record) = self.by_id(&id) {
                    record.kill_at = None;
                }
            }
            Outcome::Probe { container, attempt, kind, ok } => self.probed(container, attempt, kind, ok),
            Outcome::Deleted => self.gone = true,
            Outcome::DeleteFailed => self.delete = DeleteState::RetryAt(later(now, 1)),
            Outcome::RetryNow => self.retry_now(),
        }
    }

    fn by_id(&mut self, id: &str) -> Option<&mut ContainerRecord> {
        self.containers.iter_mut().find(|r| r.id == id && !id.is_empty())
    }

    fn sandbox_gone(&mut self, now: Timestamp) {
        self.sandbox = SandboxState::None;
        for record in &mut self.containers {
            lose(record, now);
            record.sandbox = None;
        }
    }

    fn sandbox_lost(&mut self, attempt: u32, now: Timestamp) {
        if let SandboxState::Ready { attempt: current, id, .. } = &self.sandbox
            && *current == attempt
        {
            self.sandbox = SandboxState::NotReady { attempt, id: id.clone() };
            self.containers.iter_mut().filter(|r| r.sandbox == Some(attempt)).for_each(|r| lose(r, now));
        }
    }

    fn image_failed(&mut self, container: String, image: String, reason: String, message: String, now: Timestamp) {
        let before = match self.images.get(&container) {
            Some(ImageState::Ensuring { failed: Some(f), .. } | ImageState::Failed { failure: f, .. }) => f.failures,
            _ => 0,
        };
        let failure = ImageFailure { reason, message, at: now, failures: before + 1, retry: false };
        self.images.insert(container, ImageState::Failed { image, failure });
    }

    fn started(&mut self, record: ContainerRecord) {
        self.starting.remove(&record.name);
        self.start_failures.remove(&record.name);
        self.run_failures.remove(&record.name);
        self.probes.remove(&record.name);
        self.containers.retain(|r| r.name != record.name || r.attempt != record.attempt);
        self.containers.push(record);
    }

    fn not_created(&mut self, container: String, reason: String, message: String, now: Timestamp) {
        self.starting.remove(&container);
        let failures = self.start_failures.get(&container).map_or(0, |f| f.failures) + 1;
        let failure = StartFailure { reason, message, at: now, failures, retry: false };
        self.start_failures.insert(container, failure);
    }

    fn probed(&mut self, container: String, attempt: u32, kind: ProbeKind, ok: bool) {
        let results = self.probes.entry(container).or_default();
        if results.attempt != attempt {
            *results = crate::ProbeResults { attempt, ..Default::default() };
        }
        match kind {
            ProbeKind::Startup => results.startup = Some(ok),
            ProbeKind::Readiness => results.readiness = Some(ok),
            ProbeKind::Liveness => results.liveness = Some(ok),
        }
    }

    fn retry_now(&mut self) {
        for failure in self.start_failures.values_mut() {
            failure.retry = true;
        }
        for image in self.images.values_mut() {
            if let ImageState::Failed { failure, .. } = image {
                failure.retry = true;
            }
        }
        if let VolumesState::Failed { retry, .. } = &mut self.volumes {
            *retry = true;
        }
    }
}

/// A container that was there and cannot be found ended in a way that nobody saw.
fn lose(record: &mut ContainerRecord, now: Timestamp) {
    let started = match &record.state {
        RecordState::Exited(_) => return,
        RecordState::Running { started } => Some(*started),
        RecordState::Created => None,
    };
    record.state = RecordState::Exited(TerminatedState {
        code: 137,
        reason: UNKNOWN_REASON.to_owned(),
        message: UNKNOWN_MESSAGE.to_owned(),
        started,
        finished: Some(now),
    });
}
