//! Executes plans: writes in order, independent ones in parallel, and says what the fence must wait for.
//!
//! What must stay true: actions run in the order of the plan; neighbours of the same sort (creates, deletes, patches
//! of pods) run together, at most [`IN_FLIGHT_MAX`] at a time. When one fails no further one is started, those in flight are
//! awaited. The status is written also when an action failed.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use skiff_client::{
    Error, Recorder, Rest,
    rest::{Written, delete_options},
};
use skiff_reconcile::{Action, KindRef, Plan, Preconditions};
use tokio::task::JoinSet;

use crate::fence::Condition;

/// Writes of one plan that are under way at the same time.
pub const IN_FLIGHT_MAX: usize = 32;

/// What came of a plan.
#[derive(Debug)]
pub struct Execution {
    pub wrote: Vec<Condition>,
    pub result: Result<(), Failure>,
}

#[derive(Debug)]
pub enum Failure {
    /// The view was old: the object has changed, exists already or is gone. Nothing to complain about.
    LookAgain(String),
    /// Something of a collection remains; it goes when its finalizers are done.
    Remaining(String),
    /// The API refused the action, or was not reached.
    Refused { action: Box<Action>, error: Error },
}

#[derive(Clone)]
pub struct Executor {
    rest: Rest,
    recorder: Recorder,
}

type Outcome = Result<Option<Condition>, Failure>;

impl Executor {
    pub fn new(rest: Rest, recorder: Recorder) -> Self {
        Self { rest, recorder }
    }

    pub async fn execute(&self, plan: Plan) -> Execution {
        let mut execution = Execution { wrote: Vec::new(), result: Ok(()) };
        let mut actions = plan.actions.into_iter().peekable();
        while let Some(first) = actions.next() {
            let mut together = vec![first];
            while let Some(next) = actions.next_if(|next| independent(&together[0], next)) {
                together.push(next);
            }
            self.group(together, &mut execution).await;
            if execution.result.is_err() {
                break;
            }
        }
        if let Some(status) = plan.status {
            let written = self.write(status).await;
            note(&mut execution, written);
        }
        for event in plan.events {
            self.recorder.planned(event);
        }
        execution
    }

    async fn group(&self, mut together: Vec<Action>, execution: &mut Execution) {
        if together.len() == 1 {
            if let Some(only) = together.pop() {
                let written = self.write(only).await;
                note(execution, written);
            }
            return;
        }
        // Tasks of their own, because in process it is the caller's task that does the server's work.
        let mut flying = JoinSet::new();
        let mut waiting = together.into_iter();
        loop {
            while flying.len() < IN_FLIGHT_MAX && execution.result.is_ok() {
                let Some(action) = waiting.next() else { break };
                let executor = self.clone();
                flying.spawn(async move { executor.write(action).await });
            }
            match flying.join_next().await {
                None => return,
                Some(Ok(written)) => note(execution, written),
                Some(Err(e)) => note(execution, Err(Failure::LookAgain(format!("a write was abandoned: {e}")))),
            }
        }
    }

    async fn write(&self, action: Action) -> Outcome {
        match self.send(&action).await {
            Ok(written) => Ok(written),
            Err(Sent::Remains(what)) => Err(Failure::Remaining(what)),
            Err(Sent::Failed(e)) if e.is_conflict() || e.is_already_exists() || e.is_not_found() => {
                Err(Failure::LookAgain(e.to_string()))
            }
            Err(Sent::Failed(error)) => Err(Failure::Refused { action: Box::new(action), error }),
        }
    }

    async fn send(&self, action: &Action) -> Result<Option<Condition>, Sent> {
        let rest = &self.rest;
        match action {
            Action::Create { kind, namespace, body } => Ok(reached(*kind, &rest.create(kind, namespace, body).await?)),
            Action::Patch { kind, key, subresource, patch, preconditions } => {
                let mut patch = patch.clone();
                guard(&mut patch, preconditions);
                Ok(reached(*kind, &rest.merge_patch(kind, key, *subresource, &patch).await?))
            }
            Action::Update { kind, key, subresource, body } => {
                Ok(reached(*kind, &rest.update(kind, key, *subresource, body).await?))
            }
            Action::Delete { kind, key, propagation, grace_seconds, preconditions } => {
                let options = delete_options(*propagation, *grace_seconds, preconditions);
                match rest.delete::<Value>(kind, key, &options).await {
                    Ok(_) => {
                        let uid = preconditions.uid.clone();
                        Ok(uid.map(|uid| Condition::Going { kind: *kind, key: key.clone(), uid }))
                    }
                    Err(e) if e.is_not_found() => Ok(None),
                    Err(e) => Err(e.into()),
                }
            }
            Action::DeleteCollection { kind, namespace } => self.delete_all(kind, namespace).await,
        }
    }

    async fn delete_all(&self, kind: &KindRef, namespace: &str) -> Result<Option<Condition>, Sent> {
        let options = delete_options(Some("Background"), None, &Preconditions::default());
        let remains = async {
            if !self.rest.any(kind, namespace).await? {
                return Ok(false);
            }
            self.rest.delete_collection(kind, namespace, &options).await?;
            self.rest.any(kind, namespace).await
        };
        match remains.await {
            Ok(false) => Ok(None),
            Ok(true) => Err(Sent::Remains(format!("{} in {namespace}", kind.plural))),
            // A kind that this server does not have, or does not let be deleted, has nothing to delete.
            Err(e) if e.is_not_found() || e.code() == Some(405) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

enum Sent {
    Remains(String),
    Failed(Error),
}
impl From<Error> for Sent {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn independent(first: &Action, next: &Action) -> bool {
    match (first, next) {
        (Action::Create { kind: a, .. }, Action::Create { kind: b, .. })
        | (Action::Delete { kind: a, .. }, Action::Delete { kind: b, .. }) => a == b,
        // A thousand finalizers. What other kinds' patches mean to each other only their controller knows.
        (Action::Patch { kind: a, subresource: None, .. }, Action::Patch { kind: b, subresource: None, .. }) => {
            a == b && *a == KindRef::of::<Pod>()
        }
        (Action::DeleteCollection { .. }, Action::DeleteCollection { .. }) => true,
        _ => false,
    }
}

/// Preconditions of a patch are fields of its body.
pub(crate) fn guard(patch: &mut Value, preconditions: &Preconditions) {
    if let Some(uid) = &preconditions.uid {
        patch["metadata"]["uid"] = json!(uid);
    }
    if let Some(version) = &preconditions.resource_version {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
}

fn reached(kind: KindRef, written: &Written) -> Option<Condition> {
    Some(Condition::Reached { kind, revision: written.metadata.revision() })
}

/// The first failure counts; a refusal more than an old view.
fn note(execution: &mut Execution, written: Outcome) {
    match written {
        Ok(condition) => execution.wrote.extend(condition),
        Err(failure) => match (&execution.result, &failure) {
            (Ok(()), _) | (Err(Failure::LookAgain(_) | Failure::Remaining(_)), Failure::Refused { .. }) => {
                execution.result = Err(failure);
            }
            _ => {}
        },
    }
}
