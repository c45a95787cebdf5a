//! A pod's status on its way to others: shown in this process at once, written to the API when that pays.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodStatus;
use skiff_client::{Error as ApiError, rest::Written};
use skiff_reconcile::EventType;
use skiff_runtime::EVICTED;
use tokio::time::Instant;
use tracing::warn;

use super::{Done, Worker};
use crate::{agent::pods, events, mailbox::Snapshot, status_writer};

/// How long a pod that is being started may keep the API waiting for its first status, so that one write tells all.
pub(super) const HOLD: Duration = Duration::from_millis(100);
/// Before a status write that failed is tried again.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// What the API knows, and what is on its way there.
pub(super) struct Writer {
    pub(super) told: Arc<PodStatus>,
    pub(super) revision: u64,
    pub(super) busy: bool,
    dirty_since: Option<Instant>,
    not_before: Option<Instant>,
}

impl Writer {
    pub(super) fn new(told: Arc<PodStatus>) -> Self {
        Self { told, revision: 0, busy: false, dirty_since: None, not_before: None }
    }
}

impl Worker {
    /// Shows others the new status, and says what there is to say about the change.
    pub(super) fn publish(&mut self, status: PodStatus) {
        let running: Vec<_> = self.observed.containers.iter().filter(|r| r.running()).collect();
        let running: Vec<_> = running
            .into_iter()
            .map(|r| (r.name.clone(), self.ctx.runtime_of(&r.id), Arc::<str>::from(r.id.as_str())))
            .collect();
        let before = self.observed.status.clone().unwrap_or_else(|| self.writer.told.clone());
        // One copy for all who look at it.
        let status = if *before == status { before.clone() } else { Arc::new(status) };
        if !Arc::ptr_eq(&before, &status) {
            for (container, type_, reason, message) in events::of_change(&self.pod, &before, &status) {
                self.agent().event(&self.pod, Some(&container), type_, reason, message);
            }
        }
        if status.reason.as_deref() == Some(EVICTED) && before.reason != status.reason {
            let message = status.message.clone().unwrap_or_default();
            self.agent().event(&self.pod, None, EventType::Warning, EVICTED, message);
        }
        self.observed.status = Some(status.clone());
        let pod = &self.pod;
        self.handle().snapshot.send_if_modified(|s| {
            if Arc::ptr_eq(&s.status, &status) && Arc::ptr_eq(&s.pod, pod) && s.running == running {
                return false;
            }
            *s = Snapshot { pod: pod.clone(), status, running };
            true
        });
    }

    pub(super) fn written(&mut self, status: Arc<PodStatus>, result: Result<u64, ApiError>) {
        self.writer.busy = false;
        match result {
            Ok(revision) => {
                self.writer.revision = self.writer.revision.max(revision);
                self.writer.told = status;
            }
            // Gone, or another pod of this name: the watch will tell.
            Err(e) if e.is_not_found() || e.is_conflict() => self.writer.told = status,
            Err(error) => {
                warn!(%error, pod = %self.handle().key, "status not written, trying again");
                self.writer.not_before = Some(Instant::now() + WRITE_RETRY);
            }
        }
    }

    /// Writes the status if the API does not have it; afterwards deletes the pod, if that is what comes next.
    pub(super) fn write(&mut self) {
        if self.writer.busy || self.observed.gone {
            return;
        }
        let Some(status) = self.observed.status.clone().filter(|s| *s != self.writer.told) else {
            self.writer.dirty_since = None;
            if let Some(command) = self.delete.take() {
                self.set_going(command);
            }
            return;
        };
        let now = Instant::now();
        let since = *self.writer.dirty_since.get_or_insert(now);
        let starting = status.phase.as_deref() == Some("Pending") && self.quick > 0;
        let due = if starting { since + HOLD } else { since };
        let due = self.writer.not_before.map_or(due, |at| at.max(due));
        if now < due {
            self.wake = Some(self.wake.map_or(due, |at| at.min(due)));
            return;
        }
        let Some(patch) = status_writer::patch(&self.handle().uid, &self.writer.told, &status) else {
            self.writer.told = status;
            return self.write();
        };
        self.writer.busy = true;
        self.writer.dirty_since = None;
        self.writer.not_before = None;
        let ctx = self.ctx.clone();
        self.jobs.push(Box::pin(async move {
            let _permit = ctx.agent.writes.acquire().await;
            let rest = &ctx.agent.rest;
            let result = rest.strategic_patch::<Written>(&pods(), &ctx.handle.key, Some("status"), &patch).await;
            Done::Written { status, result: result.map(|w| w.metadata.revision()) }
        }));
    }
}
