//! From an image to a container that runs.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_lifecycle::{ContainerRecord, Outcome, RecordState, TerminatedState};
use skiff_reconcile::EventType::{Normal, Warning};
use skiff_runtime::ContainerState;

use super::{PodContext, container_of};
use crate::images::{self, Found};

impl PodContext {
    pub(super) async fn ensure_image(&self, pod: &Pod, container: String, attempt: u32, image: String) -> Outcome {
        let failed = |reason: &str, message| Outcome::ImageFailed {
            container: container.clone(),
            image: image.clone(),
            reason: reason.to_owned(),
            message,
        };
        let Some(spec) = container_of(pod, &container) else {
            return failed("ImageInspectError", format!("the pod has no container {container:?}"));
        };
        let order = match self.order(pod, spec).await {
            Ok(order) => order,
            Err(message) => return failed("ErrImagePull", message),
        };
        match images::ensure(&self.agent, pod, spec, &order).await {
            Err(e) => failed(e.reason, e.message),
            Ok(found) => {
                let id = found.image.id.clone();
                self.placed.lock().images.insert(container.clone(), found);
                Outcome::ImagePresent { container, attempt, image, id }
            }
        }
    }

    /// A container counts as started after its postStart.
    pub(super) async fn create_and_start(&self, pod: &Arc<Pod>, container: String, attempt: u32) -> Outcome {
        let started = self.create_and_begin(pod, &container, attempt).await;
        let (Outcome::Started(mut record), Some(spec)) = (started.clone(), container_of(pod, &container)) else {
            return started;
        };
        if !record.running() {
            return started;
        }
        let Err(why) = self.post_start(pod, spec, &record.id).await else { return started };
        let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let (id, grace_s) = (record.id.clone(), u64::try_from(grace).unwrap_or(0));
        let message = "FailedPostStartHook".to_owned();
        match self.stop(pod, &container, id, grace_s, message).await {
            Outcome::State { state, .. } => record.state = state,
            // It is there and could not be stopped: the next look says what became of it.
            _ => return Outcome::Started(record),
        }
        Outcome::StartedAndFailed { record, reason: "PostStartHookError".to_owned(), message: why }
    }

    async fn create_and_begin(&self, pod: &Arc<Pod>, container: &str, attempt: u32) -> Outcome {
        // The semaphore is never closed; if it were, starts would merely not be bounded.
        let _permit = self.agent.starts.acquire().await;
        let not_created = |reason: &str, message: String| {
            self.agent.event(pod, Some(container), Warning, "Failed", format!("Error: {message}"));
            Outcome::NotCreated { container: container.to_owned(), reason: reason.to_owned(), message }
        };
        let spec = container_of(pod, container);
        let found = self.placed.lock().images.get(container).cloned();
        let sandbox_attempt = self.placed.lock().sandboxes.last().map(|(_, s)| s.attempt);
        let (Some(spec), Some(found), Some(sandbox_attempt)) = (spec, found, sandbox_attempt) else {
            return not_created("CreateContainerError", "its image or sandbox went away".to_owned());
        };
        let sandbox = match self.sandbox_in(found.runtime, pod, sandbox_attempt).await {
            Ok(sandbox) => sandbox,
            Err(e) => return not_created("CreateContainerError", e.to_string()),
        };
        let config = match self.container_config(pod, spec, attempt, &found, &sandbox).await {
            Ok(config) => config,
            Err(message) => return not_created("CreateContainerConfigError", message),
        };
        let runtime = self.runtime(found.runtime);
        let id = match runtime.create_container(&sandbox.id, config).await {
            Ok(id) => id,
            Err(e) => return not_created("CreateContainerError", e.to_string()),
        };
        self.placed.lock().containers.insert(id.clone(), found.runtime);
        self.agent.event(pod, Some(container), Normal, "Created", "Container created".to_owned());
        self.start(pod, spec, attempt, sandbox_attempt, &found, id).await
    }

    async fn start(
        &self,
        pod: &Pod,
        spec: &Container,
        attempt: u32,
        sandbox_attempt: u32,
        found: &Found,
        id: Arc<str>,
    ) -> Outcome {
        let runtime = self.runtime(found.runtime);
        let started = runtime.start_container(&id).await;
        let status = runtime.container_status(&id).await;
        let now = self.agent.now();
        let state = match (&started, status) {
            (_, Ok(status)) if status.state == ContainerState::Exited => self.state(spec, &status).await,
            (Ok(()), Ok(status)) => RecordState::Running { started: status.started.unwrap_or(now) },
            (Ok(()), Err(_)) => RecordState::Running { started: now },
            (Err(e), _) => RecordState::Exited(TerminatedState {
                code: 128,
                reason: "StartError".to_owned(),
                message: e.to_string(),
                started: None,
                finished: Some(now),
            }),
        };
        let scheme = runtime.capabilities().scheme;
        let image_spec = spec.image.clone().unwrap_or_default();
        let record = ContainerRecord {
            name: spec.name.clone(),
            attempt,
            id: id.to_string(),
            api_id: format!("{scheme}://{id}"),
            sandbox: Some(sandbox_attempt),
            state,
            image: found.image.tags.first().cloned().unwrap_or_else(|| image_spec.clone()),
            image_id: found.image.digests.first().cloned().unwrap_or_else(|| found.image.id.clone()),
            image_spec,
            kill_at: None,
        };
        match started {
            Ok(()) => {
                self.agent.event(pod, Some(&spec.name), Normal, "Started", "Container started".to_owned());
                Outcome::Started(record)
            }
            Err(e) => {
                self.agent.event(pod, Some(&spec.name), Warning, "Failed", format!("Error: {e}"));
                Outcome::StartedAndFailed { record, reason: "RunContainerError".to_owned(), message: e.to_string() }
            }
        }
    }
}
