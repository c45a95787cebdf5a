//! The pod state machine of a node as pure functions: spec + observed + now → commands + status.
//!
//! [`plan`] is total and has no clock: it says what to do next and what to tell the API. Whoever executes a command
//! first calls [`PodObserved::begin`], and afterwards [`PodObserved::apply`] with what came of it. Planning again with
//! nothing new gives no commands (the fixpoint), and the status that it gave before.
//!
//! What must stay true:
//! - at no time do two attempts of one container run;
//! - a container is started again only as its restart policy and the back-off allow;
//! - a terminal pod (Succeeded, Failed) never leaves that phase, and nothing of it is started again;
//! - a pod that is deleted, gone, over its deadline or finished ends with no container, no sandbox and no volume.

pub mod adopt;
pub mod backoff;
pub mod command;
mod conditions;
mod containers;
pub mod hooks;
pub mod observed;
mod outcome;
mod phase;
pub mod restart;
mod start;
mod status;
mod terminate;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

pub use adopt::adopt;
pub use command::Command;
pub use observed::{
    Backoff, ContainerRecord, ImageState, Limits, Outcome, PodObserved, ProbeKind, ProbeResults, RecordState,
    RunFailure, SandboxState, StartFailure, TerminatedState, VolumesState,
};

/// What to do now, what to tell the API, and when to look again if nothing else happens.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    pub commands: Vec<Command>,
    pub status: PodStatus,
    pub requeue: Option<Timestamp>,
    /// Nothing of the pod is left on the node, and it is gone from the API: forget it.
    pub done: bool,
}

/// What one step of planning collects.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub commands: Vec<Command>,
    pub requeue: Option<Timestamp>,
}

impl Draft {
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Look again at `at` at the latest.
    pub fn wake(&mut self, at: Timestamp) {
        self.requeue = Some(self.requeue.map_or(at, |t| t.min(at)));
    }
}

/// The next commands for a pod on this node, and its status.
///
/// Total: a pod without a spec (which the API server never lets through) gets an empty plan.
pub fn plan(pod: &Pod, observed: &PodObserved, now: Timestamp) -> PodPlan {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut draft = Draft::default();
    let ending = terminate::ending(pod, spec, observed, now);
    if observed.shutting_down {
        let status = observed.status.as_deref().cloned().or_else(|| pod.status.clone()).unwrap_or_default();
        return PodPlan { commands: vec![], status, requeue: None, done: false };
    }
    match ending {
        Some(ending) => terminate::steps(pod, spec, observed, ending, now, &mut draft),
        None => start::steps(pod, spec, observed, now, &mut draft),
    }
    start::sweep(observed, &mut draft);
    let done = terminate::done(observed);
    let status = status::of(pod, spec, observed, ending, now);
    PodPlan { commands: draft.commands, status, requeue: draft.requeue, done }
}

/// The API tells times in whole seconds; so do we, or a status would never equal the one read back.
pub(crate) fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `NAME_NAMESPACE(UID)`, as the kubelet names a pod in messages.
pub fn pod_name(pod: &Pod) -> String {
    let m = &pod.metadata;
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    format!("{}_{}({})", text(&m.name), text(&m.namespace), text(&m.uid))
}
