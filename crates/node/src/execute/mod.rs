//! Carrying out a pod's commands against a runtime. What comes of each goes back as outcomes; nothing here decides.

mod config;
mod containers;
mod sandbox;
mod start;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use skiff_client::rest::{Written, delete_options};
use skiff_lifecycle::{Command, Outcome};
use skiff_reconcile::{EventType::Warning, Preconditions};
use skiff_runtime::{ContainerStatus, Runtime, Sandbox, SandboxId};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use containers::record_state;

use crate::{
    agent::{Agent, pods},
    hooks::Begun,
    images::Found,
    mailbox::PodHandle,
    volumes,
};

/// Between tries of a clean-up that a runtime refused.
const CLEAN_RETRY: Duration = Duration::from_secs(1);

/// One pod's dealings with the runtimes.
pub struct PodContext {
    pub agent: Arc<Agent>,
    pub handle: Arc<PodHandle>,
    /// preStop hooks that have begun.
    pub hooks: Begun,
    /// Cancelled when the pod is to end: nothing of its start is waited for any more.
    pub ending: CancellationToken,
    placed: Mutex<Placed>,
}

#[derive(Default)]
struct Placed {
    /// A pod has a sandbox in each runtime that one of its containers went to.
    sandboxes: Vec<(usize, Sandbox)>,
    images: HashMap<String, Found>,
    /// Runtime by container id.
    containers: HashMap<Arc<str>, usize>,
}

impl PodContext {
    pub fn new(agent: Arc<Agent>, handle: Arc<PodHandle>) -> Self {
        let ending = CancellationToken::new();
        Self { agent, handle, hooks: Begun::default(), ending, placed: Mutex::default() }
    }

    /// Takes over what an earlier process left in a runtime.
    pub fn adopt(&self, runtime: usize, sandbox: Sandbox, containers: &[ContainerStatus]) {
        let mut placed = self.placed.lock();
        placed.sandboxes.push((runtime, sandbox));
        placed.containers.extend(containers.iter().map(|c| (c.id.clone(), runtime)));
    }

    pub fn runtime_of(&self, container: &str) -> usize {
        self.placed.lock().containers.get(container).copied().unwrap_or(0)
    }

    /// The pod's sandbox in a runtime.
    pub fn sandbox_id(&self, runtime: usize) -> Option<SandboxId> {
        let placed = self.placed.lock();
        placed.sandboxes.iter().rev().find(|(index, _)| *index == runtime).map(|(_, sandbox)| sandbox.id.clone())
    }

    pub fn sandbox_ip(&self, runtime: usize) -> Option<String> {
        let placed = self.placed.lock();
        let sandbox = placed.sandboxes.iter().rev().find(|(index, _)| *index == runtime);
        sandbox.and_then(|(_, sandbox)| sandbox.ips.first()).map(ToString::to_string)
    }

    fn runtime(&self, index: usize) -> &Arc<dyn Runtime> {
        self.agent.runtime(index)
    }

    fn log_path(&self, container: &str, attempt: u32) -> std::path::PathBuf {
        self.agent.dirs.container_log(&self.handle.key, &self.handle.uid, container, attempt)
    }

    /// Carries out one command.
    pub async fn execute(self: Arc<Self>, pod: Arc<Pod>, command: Command) -> Vec<Outcome> {
        match command {
            Command::MountVolumes => vec![self.mount(&pod).await],
            Command::UnmountVolumes => {
                volumes::unmount(&self.agent, &self.handle).await;
                vec![Outcome::VolumesGone]
            }
            Command::RunSandbox { attempt } => vec![self.run_sandbox(&pod, attempt).await],
            Command::RemoveSandbox { attempt, .. } => {
                self.remove_sandboxes(attempt).await;
                vec![Outcome::SandboxRemoved]
            }
            Command::EnsureImage { container, attempt, image } => {
                vec![self.ensure_image(&pod, container, attempt, image).await]
            }
            Command::CreateAndStart { container, attempt, .. } => {
                vec![self.create_and_start(&pod, container, attempt).await]
            }
            Command::StopContainer { container, id, grace_s, message, .. } => {
                vec![self.stop(&pod, &container, id, grace_s, message).await]
            }
            Command::RemoveContainer { container, attempt, id } => {
                self.remove_container(&container, attempt, &id).await;
                vec![]
            }
            Command::DeletePodFromApi { uid } => vec![self.delete(uid).await],
        }
    }

    async fn mount(&self, pod: &Arc<Pod>) -> Outcome {
        match volumes::mount(&self.agent, pod, &self.handle).await {
            Ok(()) => Outcome::VolumesReady,
            Err(message) => {
                self.agent.event(pod, None, Warning, "FailedMount", message.clone());
                Outcome::VolumesFailed { message }
            }
        }
    }

    async fn delete(&self, uid: String) -> Outcome {
        let options = delete_options(None, Some(0), &Preconditions { uid: Some(uid), ..Preconditions::default() });
        match self.agent.rest.delete::<Written>(&pods(), &self.handle.key, &options).await {
            Ok(_) => Outcome::Deleted,
            Err(e) if e.is_not_found() || e.is_conflict() => Outcome::Deleted,
            Err(error) => {
                warn!(%error, pod = %self.handle.key, "pod not deleted from the API, trying again");
                Outcome::DeleteFailed
            }
        }
    }
}

pub fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}
