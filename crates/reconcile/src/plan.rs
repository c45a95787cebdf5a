//! The result of a reconciliation: a value with named buckets and a printable form, so that a test can say
//! `check(observed, "create Pod default/web-1\nstatus Deployment default/web replicas=1")`.

use std::{fmt, time::Duration};

use serde_json::Value;

use crate::{KindRef, ObjectKey};

/// Guards of a write; the executor turns a failed one into "look again".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// One write to the API. Bodies are whole JSON objects or JSON merge patches.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create {
        kind: KindRef,
        namespace: String,
        body: Value,
    },
    /// A JSON merge patch of the main resource or, with `subresource`, of `status`, `scale`.
    Patch {
        kind: KindRef,
        key: ObjectKey,
        subresource: Option<&'static str>,
        patch: Value,
        preconditions: Preconditions,
    },
    /// Replaces the whole object (its resource version in the body is the precondition).
    Update {
        kind: KindRef,
        key: ObjectKey,
        subresource: Option<&'static str>,
        body: Value,
    },
    Delete {
        kind: KindRef,
        key: ObjectKey,
        /// `Background`, `Foreground`, `Orphan`; `None` for the kind's default.
        propagation: Option<&'static str>,
        grace_seconds: Option<i64>,
        preconditions: Preconditions,
    },
    /// Deletes everything of a kind in a namespace. The step fails, and ends the plan, while anything remains.
    DeleteCollection {
        kind: KindRef,
        namespace: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// An Event about an object, as `kubectl describe` shows it; the recorder aggregates repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedEvent {
    pub kind: KindRef,
    pub key: ObjectKey,
    pub uid: String,
    pub event_type: EventType,
    pub reason: &'static str,
    pub message: String,
}

/// What to do now, and when to look again even if nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Run in order; independent ones (creates, deletes) in parallel up to the executor's limit. The first failure
    /// of a kind of step ends the plan and the key is retried with back-off.
    pub actions: Vec<Action>,
    /// The status write of the primary object: run after `actions`, also when one of them failed.
    pub status: Option<Action>,
    pub events: Vec<PlannedEvent>,
    pub requeue: Option<Duration>,
}

impl Plan {
    /// Nothing to write (events and requeue do not count as writes).
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.status.is_none()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sub = |s: &Option<&'static str>| s.map(|s| format!("/{s}")).unwrap_or_default();
        match self {
            Action::Create { kind, namespace, body } => {
                let meta = &body["metadata"];
                let name = meta["name"].as_str().map(String::from);
                let name = name.unwrap_or_else(|| format!("{}*", meta["generateName"].as_str().unwrap_or("")));
                write!(f, "create {} {namespace}/{name}", kind.kind)
            }
            Action::Patch { kind, key, subresource, patch, .. } => {
                write!(f, "patch {}{} {key} {patch}", kind.kind, sub(subresource))
            }
            Action::Update { kind, key, subresource, .. } => {
                write!(f, "update {}{} {key}", kind.kind, sub(subresource))
            }
            Action::Delete { kind, key, propagation, .. } => {
                write!(f, "delete {} {key}", kind.kind)?;
                propagation.map_or(Ok(()), |p| write!(f, " {p}"))
            }
            Action::DeleteCollection { kind, namespace } => write!(f, "delete all {} {namespace}", kind.plural),
        }
    }
}

/// One line per write and event, in order.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in self.actions.iter().chain(&self.status) {
            writeln!(f, "{action}")?;
        }
        for event in &self.events {
            writeln!(f, "event {:?} {} {}: {}", event.event_type, event.reason, event.key, event.message)?;
        }
        if let Some(after) = self.requeue {
            writeln!(f, "requeue {after:?}")?;
        }
        Ok(())
    }
}
