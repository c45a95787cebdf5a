//! A container that was made: stopping it, looking at it, removing it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_lifecycle::{Outcome, RecordState, TerminatedState};
use skiff_reconcile::EventType::Normal;
use skiff_runtime::{ContainerState, ContainerStatus, Error};
use tracing::warn;

use super::{CLEAN_RETRY, PodContext, container_of};
use crate::logs;

impl PodContext {
    pub(super) async fn stop(&self, pod: &Pod, container: &str, id: String, grace_s: u64, message: String) -> Outcome {
        self.agent.event(pod, Some(container), Normal, "Killing", message);
        let grace_s = match container_of(pod, container) {
            Some(spec) => self.pre_stop(pod, spec, &id, grace_s).await,
            None => grace_s,
        };
        let runtime = self.runtime(self.runtime_of(&id));
        match runtime.stop_container(&id, Duration::from_secs(grace_s)).await {
            Ok(()) => self.look(pod, container, id).await,
            Err(Error::NotFound { .. }) => Outcome::Lost { id },
            Err(error) => {
                warn!(%error, pod = %self.handle.key, container, "container not stopped, trying again");
                tokio::time::sleep(CLEAN_RETRY).await;
                Outcome::StopFailed { id }
            }
        }
    }

    /// What the runtime says of a container now.
    pub async fn look(&self, pod: &Pod, container: &str, id: String) -> Outcome {
        let runtime = self.runtime(self.runtime_of(&id));
        match runtime.container_status(&id).await {
            Ok(status) => {
                let empty = Container::default();
                let spec = container_of(pod, container).unwrap_or(&empty);
                let state = self.state(spec, &status).await;
                Outcome::State { id, state }
            }
            Err(Error::NotFound { .. }) => Outcome::Lost { id },
            Err(error) => {
                warn!(%error, pod = %self.handle.key, container, "container's state is not known, trying again");
                tokio::time::sleep(CLEAN_RETRY).await;
                Outcome::StopFailed { id }
            }
        }
    }

    pub(super) async fn state(&self, spec: &Container, status: &ContainerStatus) -> RecordState {
        let mut state = record_state(status);
        if let RecordState::Exited(exit) = &mut state {
            let fallback = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
            if fallback && exit.code != 0 && exit.message.is_empty() {
                exit.message = logs::tail_message(&status.log_path).await;
            }
        }
        state
    }

    pub(super) async fn remove_container(&self, container: &str, attempt: u32, id: &str) {
        if !id.is_empty() {
            let runtime = self.runtime(self.runtime_of(id));
            if let Err(error) = runtime.remove_container(id).await {
                warn!(%error, pod = %self.handle.key, container, "old container not removed");
            }
            self.placed.lock().containers.remove(id);
            self.hooks.forget(id);
        }
        logs::remove(&self.log_path(container, attempt)).await;
    }
}

pub fn record_state(status: &ContainerStatus) -> RecordState {
    match status.state {
        ContainerState::Created => RecordState::Created,
        ContainerState::Running => RecordState::Running { started: status.started.unwrap_or(status.created) },
        ContainerState::Exited => {
            let exit = status.exit.clone();
            RecordState::Exited(TerminatedState {
                code: exit.as_ref().map_or(137, |e| e.code),
                reason: exit.as_ref().map_or("ContainerStatusUnknown", |e| e.reason).to_owned(),
                message: exit.map(|e| e.message).unwrap_or_default(),
                started: status.started,
                finished: status.finished.or(status.started).or(Some(status.created)),
            })
        }
    }
}
