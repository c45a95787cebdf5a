//! What a node can be told to do for a pod. Each is executed once, after [`crate::PodObserved::begin`].

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make the pod's directories and volumes.
    MountVolumes,
    RunSandbox {
        attempt: u32,
    },
    /// See to it that the image is here, as the container's pull policy says.
    EnsureImage {
        container: String,
        attempt: u32,
        image: String,
    },
    /// `backoff_s` is the delay that the next restart will have to wait for.
    CreateAndStart {
        container: String,
        attempt: u32,
        image_id: String,
        backoff_s: u64,
    },
    /// Ask it to end and kill it after the grace period; `message` is for the Killing event.
    StopContainer {
        container: String,
        attempt: u32,
        id: String,
        grace_s: u64,
        message: String,
    },
    /// Forget a dead attempt that nobody can ask for any more, and its log.
    RemoveContainer {
        container: String,
        attempt: u32,
        id: String,
    },
    /// Stop and forget the sandbox with what is left in it.
    RemoveSandbox {
        attempt: u32,
        id: String,
    },
    UnmountVolumes,
    /// Write the final status, then delete the object with grace period 0 and this uid as precondition.
    DeletePodFromApi {
        uid: String,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountVolumes => write!(f, "mount volumes"),
            Self::RunSandbox { attempt } => write!(f, "run sandbox {attempt}"),
            Self::EnsureImage { container, attempt, image } => {
                write!(f, "ensure image {image} for {container}/{attempt}")
            }
            Self::CreateAndStart { container, attempt, .. } => write!(f, "start {container}/{attempt}"),
            Self::StopContainer { container, attempt, grace_s, .. } => {
                write!(f, "stop {container}/{attempt} within {grace_s}s")
            }
            Self::RemoveContainer { container, attempt, .. } => write!(f, "remove {container}/{attempt}"),
            Self::RemoveSandbox { attempt, .. } => write!(f, "remove sandbox {attempt}"),
            Self::UnmountVolumes => write!(f, "unmount volumes"),
            Self::DeletePodFromApi { .. } => write!(f, "delete pod from api"),
        }
    }
}
