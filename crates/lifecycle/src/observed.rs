//! What a node knows of one pod. Everything is plain data: a test writes it down, a node keeps it up to date through
//! [`PodObserved::begin`] and [`PodObserved::apply`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObserved {
    /// The last status that this node made; without one, the pod's own counts.
    pub status: Option<Arc<PodStatus>>,
    pub sandbox: SandboxState,
    /// The attempt that the next sandbox will have.
    pub sandbox_next: u32,
    pub sandbox_failures: u32,
    pub volumes: VolumesState,
    pub volumes_failures: u32,
    /// All attempts that are known, of all containers; per container in the order of attempts.
    pub containers: Vec<ContainerRecord>,
    /// Containers that are being created and started right now.
    pub starting: BTreeSet<String>,
    /// By container.
    pub images: BTreeMap<String, ImageState>,
    /// By container; cleared when it starts.
    pub start_failures: BTreeMap<String, StartFailure>,
    /// By container; why its newest attempt did not stay, if that is more than its exit says.
    pub run_failures: BTreeMap<String, RunFailure>,
    pub probes: BTreeMap<String, ProbeResults>,
    pub backoff: BTreeMap<String, Backoff>,
    /// The node's own addresses.
    pub host_ips: Vec<String>,
    /// The object is no longer in the API.
    pub gone: bool,
    /// The delete request is under way, or the time before which it is not repeated.
    pub delete: DeleteState,
    /// The node is going down: nothing is started or reported any more; containers resume by policy afterwards.
    pub shutting_down: bool,
    pub limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeleteState {
    #[default]
    No,
    Asked,
    RetryAt(Timestamp),
}

/// Waiting times in seconds. The defaults are the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub restart_initial_s: u64,
    pub restart_max_s: u64,
    pub image_initial_s: u64,
    pub image_max_s: u64,
    /// Between attempts to make a container whose configuration is wrong, or a sandbox.
    pub retry_s: u64,
    pub volumes_initial_s: u64,
    pub volumes_max_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            restart_initial_s: 10,
            restart_max_s: 300,
            image_initial_s: 10,
            image_max_s: 300,
            retry_s: 10,
            volumes_initial_s: 1,
            volumes_max_s: 122,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SandboxState {
    #[default]
    None,
    Starting {
        attempt: u32,
    },
    Ready {
        attempt: u32,
        id: String,
        ips: Vec<String>,
    },
    /// It is there but cannot be used any more.
    NotReady {
        attempt: u32,
        id: String,
    },
    Removing {
        attempt: u32,
        id: String,
    },
    Failed {
        message: String,
        at: Timestamp,
    },
}

impl SandboxState {
    /// The attempt of the sandbox that containers can live in.
    pub fn current(&self) -> Option<u32> {
        match self {
            Self::Ready { attempt, .. } => Some(*attempt),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VolumesState {
    #[default]
    None,
    Mounting,
    Ready,
    Failed {
        message: String,
        at: Timestamp,
        /// Something changed that it may have waited for.
        retry: bool,
    },
    Unmounting,
    /// Unmounted after use.
    Gone,
}

/// One attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    pub name: String,
    /// From 0; the restart count.
    pub attempt: u32,
    /// The runtime's id, without scheme; empty if it is known from the status alone.
    pub id: String,
    /// `wasm://ID`, as the API has it.
    pub api_id: String,
    /// The attempt of the sandbox it lives in; `None` if that is gone.
    pub sandbox: Option<u32>,
    pub state: RecordState,
    /// As the pod named it when the container was made.
    pub image_spec: String,
    /// As the runtime calls it.
    pub image: String,
    pub image_id: String,
    /// A stop is under way; it is killed at this time.
    pub kill_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordState {
    Created,
    Running { started: Timestamp },
    Exited(TerminatedState),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminatedState {
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
}

impl ContainerRecord {
    pub fn exit(&self) -> Option<&TerminatedState> {
        match &self.state {
            RecordState::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    pub fn running(&self) -> bool {
        matches!(self.state, RecordState::Running { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// `failed` keeps what the status shows while another try is under way.
    Ensuring {
        attempt: u32,
        image: String,
        failed: Option<ImageFailure>,
    },
    Present {
        attempt: u32,
        image: String,
        id: String,
    },
    Failed {
        image: String,
        failure: ImageFailure,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFailure {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
    /// In a row.
    pub failures: u32,
    /// Something changed that it may have waited for.
    pub retry: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// `CreateContainerConfigError` or `CreateContainerError`.
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
    pub failures: u32,
    /// Something changed that it may have waited for.
    pub retry: bool,
}

/// An attempt that was made and ended by what the node did or could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    pub attempt: u32,
    /// `RunContainerError` or `PostStartHookError`.
    pub reason: String,
    pub message: String,
}

/// The restart back-off of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub delay_s: u64,
    pub updated: Timestamp,
}

/// What probes say of one attempt; `None` means not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    pub attempt: u32,
    pub startup: Option<bool>,
    pub readiness: Option<bool>,
    pub liveness: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// What came of a command, or what happened by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    VolumesReady,
    VolumesFailed {
        message: String,
    },
    VolumesGone,
    SandboxReady {
        attempt: u32,
        id: String,
        ips: Vec<String>,
    },
    SandboxFailed {
        message: String,
    },
    SandboxRemoved,
    /// The runtime no longer has the sandbox, or it is not ready.
    SandboxLost {
        attempt: u32,
    },
    ImagePresent {
        container: String,
        attempt: u32,
        image: String,
        id: String,
    },
    ImageFailed {
        container: String,
        image: String,
        reason: String,
        message: String,
    },
    Started(ContainerRecord),
    /// It was made and then could not be started, or its postStart failed: an attempt that ended at once.
    StartedAndFailed {
        record: ContainerRecord,
        reason: String,
        message: String,
    },
    NotCreated {
        container: String,
        reason: String,
        message: String,
    },
    /// The container's state as the runtime tells it now.
    State {
        id: String,
        state: RecordState,
    },
    /// The runtime does not know the container any more.
    Lost {
        id: String,
    },
    /// Stopping failed; it will be tried again.
    StopFailed {
        id: String,
    },
    Probe {
        container: String,
        attempt: u32,
        kind: ProbeKind,
        ok: bool,
    },
    Deleted,
    DeleteFailed,
    /// A ConfigMap, Secret or image arrived: try what failed for the lack of one.
    RetryNow,
}

impl PodObserved {
    /// The newest attempt of a container.
    pub fn newest(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().rev().find(|r| r.name == name)
    }

    /// The attempt before the newest one.
    pub fn previous(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().rev().filter(|r| r.name == name).nth(1)
    }

    /// The newest attempt, if it lives in the current sandbox.
    pub fn active(&self, name: &str) -> Option<&ContainerRecord> {
        let current = self.sandbox.current()?;
        self.newest(name).filter(|r| r.sandbox == Some(current))
    }

    /// Something failed that [`Outcome::RetryNow`] may help.
    pub fn waits(&self) -> bool {
        let image = |i: &ImageState| matches!(i, ImageState::Failed { .. });
        !self.start_failures.is_empty()
            || self.images.values().any(image)
            || matches!(self.volumes, VolumesState::Failed { .. })
    }

    /// A probe's results for the attempt that is running now.
    pub fn probe(&self, record: &ContainerRecord) -> ProbeResults {
        let known = self.probes.get(&record.name).filter(|p| p.attempt == record.attempt);
        known.copied().unwrap_or(ProbeResults { attempt: record.attempt, ..ProbeResults::default() })
    }
}
