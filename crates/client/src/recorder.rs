//! Writes Events, as `kubectl describe` shows them: core/v1, with source, count and first and last time.
//!
//! What must stay true: recording never waits and never fails its caller. [`QUEUE_MAX`] notes wait at most, newer ones
//! are dropped and counted; one writer sends at most [`PER_SECOND`] per second in the long run, [`BURST`] at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Event;
use kube::Client;
use serde_json::{Value, json};
use skiff_reconcile::{EventType, KindRef, Object, ObjectKey, PlannedEvent};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::debug;

use crate::{
    Clock, Rest,
    correlator::{Correlator, Subject, Verdict},
    rest::Written,
};

pub const QUEUE_MAX: usize = 1000;
pub const PER_SECOND: u32 = 50;
pub const BURST: u32 = 200;
/// Upstream's limit on `message`.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    pub kind: KindRef,
    pub key: ObjectKey,
    pub uid: String,
    /// Empty when the writer does not know it.
    pub resource_version: String,
    /// `spec.containers{web}`; mostly empty.
    pub field_path: String,
}

impl Regarding {
    pub fn of<K: Object>(object: &K) -> Self {
        let meta = object.metadata();
        Self {
            kind: KindRef::of::<K>(),
            key: ObjectKey::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            field_path: String::new(),
        }
    }
    pub fn at(mut self, field_path: impl Into<String>) -> Self {
        self.field_path = field_path.into();
        self
    }
}

struct Note {
    regarding: Regarding,
    event_type: EventType,
    reason: String,
    message: String,
}

/// Cheap to clone. The writer ends when the last clone is dropped and everything noted is written.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// `component` and `host` become the event's source. Needs a tokio runtime.
    pub fn start(client: Client, component: impl Into<String>, host: impl Into<String>, clock: Clock) -> Self {
        let (notes, inbox) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            rest: Rest::new(client),
            component: component.into(),
            host: host.into(),
            clock,
            correlator: Correlator::default(),
        };
        tokio::spawn(writer.run(inbox));
        Self { notes, dropped: Arc::default() }
    }

    pub fn event(
        &self,
        regarding: Regarding,
        event_type: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let note = Note { regarding, event_type, reason: reason.into(), message: message.into() };
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn planned(&self, event: PlannedEvent) {
        let regarding = Regarding {
            kind: event.kind,
            key: event.key,
            uid: event.uid,
            resource_version: String::new(),
            field_path: String::new(),
        };
        self.event(regarding, event.event_type, event.reason, event.message);
    }

    /// How many notes were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Writer {
    rest: Rest,
    component: String,
    host: String,
    clock: Clock,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Note>) {
        // A token bucket: the time at which it would be full again.
        let step = Duration::from_secs(1) / PER_SECOND;
        let mut full_at = Instant::now();
        while let Some(note) = inbox.recv().await {
            let now = Instant::now();
            full_at = full_at.max(now);
            sleep_until(full_at.checked_sub(step * (BURST - 1)).unwrap_or(now)).await;
            if self.write(note).await {
                full_at += step;
            }
        }
    }

    /// Whether a request was sent.
    async fn write(&mut self, note: Note) -> bool {
        let now = (self.clock)();
        let r = &note.regarding;
        let subject = Subject {
            object: format!("{}/{}/{}/{}", r.kind.kind, r.key, r.uid, r.field_path),
            warning: note.event_type == EventType::Warning,
            reason: note.reason.clone(),
        };
        let events = KindRef::of::<Event>();
        let namespace = event_namespace(&r.key);
        let time = now.strftime("%FT%TZ").to_string();
        let written = match self.correlator.observe(&subject, &r.key.name, &note.message, now) {
            Verdict::Drop => return false,
            Verdict::Create { name, message } => {
                let body = self.body(&note, &name, &message, &time);
                self.rest.create::<Written>(&events, namespace, &body).await.map_err(|e| (name, e))
            }
            Verdict::Repeat { name, message, count } => {
                let key = ObjectKey::new(namespace, name.clone());
                let patch = json!({ "count": count, "lastTimestamp": time, "message": cut(&message) });
                match self.rest.merge_patch::<Written>(&events, &key, None, &patch).await {
                    // It has expired meanwhile: say it anew.
                    Err(e) if e.is_not_found() => {
                        self.correlator.forget(&name);
                        let body = self.body(&note, &format!("{name}-{count}"), &message, &time);
                        self.rest.create::<Written>(&events, namespace, &body).await.map_err(|e| (name, e))
                    }
                    other => other.map_err(|e| (name, e)),
                }
            }
        };
        if let Err((name, error)) = written {
            // Events are best effort: one about an object in a namespace that is going away is refused.
            debug!(error = %error, event = name, "event not written");
            self.correlator.forget(&name);
        }
        true
    }

    fn body(&self, note: &Note, name: &str, message: &str, time: &str) -> Value {
        let r = &note.regarding;
        let mut involved = json!({
            "kind": r.kind.kind, "apiVersion": r.kind.api_version(), "name": r.key.name, "uid": r.uid,
        });
        for (field, value) in
            [("namespace", &r.key.namespace), ("resourceVersion", &r.resource_version), ("fieldPath", &r.field_path)]
        {
            if !value.is_empty() {
                involved[field] = json!(value);
            }
        }
        let mut source = json!({ "component": self.component });
        if !self.host.is_empty() {
            source["host"] = json!(self.host);
        }
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": event_namespace(&r.key) },
            "involvedObject": involved,
            "reason": note.reason,
            "message": cut(message),
            "source": source,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1,
            "type": match note.event_type { EventType::Normal => "Normal", EventType::Warning => "Warning" },
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        })
    }
}

/// Events about cluster-scoped objects live in `default`.
fn event_namespace(key: &ObjectKey) -> &str {
    if key.namespace.is_empty() { "default" } else { &key.namespace }
}

/// At most [`MESSAGE_BYTES_MAX`], on a character's boundary.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
