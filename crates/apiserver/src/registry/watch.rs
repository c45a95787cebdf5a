//! Watches: every event of a kind from a revision on, in order, or an error event that says to list again.
//!
//! A bookmark carries the revision that was delivered, never a later one. A watcher with a selector sees an object
//! come (ADDED) and go (DELETED), whatever happened to it in the store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use skiff_api::Status;
use skiff_store::{Entry, Event, ListRequest, Revision, Store, Watch, WatchItem};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Resource, filter::Filter};
use crate::{
    encode,
    http::{
        errors,
        negotiate::Accepted,
        present::Presenter,
        query::{ListOptions, Query},
    },
    limits::Permit,
};

/// How long a watch lasts that names no time-out: as upstream, half an hour and up to as much again.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);

/// A frame is handed on when it has grown to this size, so that a big initial state is not one block.
const CHUNK_BYTES: usize = 256 << 10;

/// What the stream of one watch needs.
pub(crate) struct Request {
    pub resource: Arc<Resource>,
    pub filter: Filter,
    pub options: ListOptions,
    pub accepted: Accepted,
    pub query: Query,
    pub shutdown: CancellationToken,
    /// Counts against the limit on watches until the client goes.
    pub _permit: Permit,
}

impl Request {
    pub(crate) fn presenter(&self) -> Result<Presenter<'_>, Status> {
        Presenter::new(&self.resource, self.accepted, &self.query, crate::clock::now())
    }
}

struct Watcher {
    request: Request,
    events: Watch,
    /// What existed at the start, until it is delivered.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// An `initial-events-end` bookmark is due after them.
    end_due: bool,
    delivered: Revision,
    deadline: std::pin::Pin<Box<Sleep>>,
    shutdown: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

/// # Errors
/// Only for what upstream answers with an error status: a bad selector came before. An old revision is an error event.
pub(crate) async fn watch(
    store: &dyn Store,
    request: Request,
) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + use<>, Status> {
    Ok(match start(store, &request).await {
        Ok((events, initial, revision)) => {
            let watcher = Watcher {
                end_due: request.options.send_initial_events == Some(true),
                deadline: Box::pin(tokio::time::sleep_until(Instant::now() + timeout(&request.options))),
                shutdown: Box::pin(request.shutdown.clone().cancelled_owned()),
                initial: initial.into_iter(),
                delivered: revision,
                events,
                request,
                over: false,
            };
            stream::unfold(watcher, Watcher::next).left_stream()
        }
        Err(status) if status.code != 410 => return Err(status),
        Err(status) => {
            let mut out = Vec::new();
            request.presenter()?.error(&status, &mut out);
            stream::iter([Ok(Bytes::from(out))]).right_stream()
        }
    })
}

fn timeout(options: &ListOptions) -> Duration {
    match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => TIMEOUT_MIN.mul_f64(1.0 + rand::random::<f64>()),
    }
}

/// The events to deliver, the state to begin with, and the revision of that state.
async fn start(store: &dyn Store, request: &Request) -> Result<(Watch, Vec<Arc<Entry>>, Revision), Status> {
    let options = &request.options;
    let asked = options.resource_version.filter(|rv| *rv != 0);
    let current = store.revision();
    if let Some(asked) = asked.filter(|asked| *asked > current) {
        return Err(errors::too_large_revision(asked, current));
    }
    let with_state = match options.send_initial_events {
        Some(send) => send,
        None => asked.is_none(),
    };
    let prefix = request.filter.prefix.clone();
    if !with_state {
        let after = asked.unwrap_or(current);
        let events = store.watch(prefix, after).map_err(errors::of_store)?;
        return Ok((events, Vec::new(), after));
    }
    let list = ListRequest { prefix: prefix.clone(), start: std::ops::Bound::Unbounded, limit: 0, at: None };
    let listing = store.list(list).await.map_err(errors::of_store)?;
    let events = store.watch(prefix, listing.revision).map_err(errors::of_store)?;
    let mut entries = listing.entries;
    entries.retain(|e| request.filter.matches(&request.resource, e));
    Ok((events, entries, listing.revision))
}

type Step = Option<(Result<Bytes, std::convert::Infallible>, Watcher)>;

impl Watcher {
    /// The next bytes for the client; `None` when the watch is over.
    async fn next(mut self) -> Step {
        loop {
            if self.over {
                return None;
            }
            let mut out = Vec::new();
            if self.initial.len() > 0 || self.end_due {
                self.initial_state(&mut out);
            } else {
                tokio::select! {
                    item = self.events.next() => self.item(item, &mut out),
                    () = self.deadline.as_mut() => self.over = true,
                    () = self.shutdown.as_mut() => self.over = true,
                }
            }
            if !out.is_empty() {
                return Some((Ok(out.into()), self));
            }
        }
    }

    fn initial_state(&mut self, out: &mut Vec<u8>) {
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.initial.next() else { break };
            let sent = self.request.presenter().and_then(|p| p.event("ADDED", &entry.value, entry.revision, out));
            if let Err(status) = sent {
                return self.fail(&status, out);
            }
        }
        if self.initial.len() == 0 && self.end_due {
            self.end_due = false;
            let sent = self.request.presenter().and_then(|p| p.bookmark(self.delivered, true, out));
            if let Err(status) = sent {
                self.fail(&status, out);
            }
        }
    }

    fn item(&mut self, item: Option<Result<WatchItem, skiff_store::Error>>, out: &mut Vec<u8>) {
        match item {
            None => self.over = true,
            Some(Err(skiff_store::Error::Closed)) => self.over = true,
            Some(Err(error)) => self.fail(&errors::of_store(error), out),
            Some(Ok(WatchItem::Progress(revision))) => {
                self.delivered = self.delivered.max(revision);
                if !self.request.options.bookmarks {
                    return;
                }
                let sent = self.request.presenter().and_then(|p| p.bookmark(self.delivered, false, out));
                if let Err(status) = sent {
                    self.fail(&status, out);
                }
            }
            Some(Ok(WatchItem::Events(events))) => {
                for event in events.iter() {
                    if let Err(status) = self.event(event, out) {
                        return self.fail(&status, out);
                    }
                    self.delivered = event.entry().revision;
                }
            }
        }
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), Status> {
        let Request { resource, filter, .. } = &self.request;
        let matches = |entry: &Entry| filter.matches(resource, entry);
        // What is not for this watcher costs it a look and nothing else.
        let (kind, value, revision) = match event {
            Event::Put { entry, previous } => {
                let before = previous.as_deref().is_some_and(matches);
                match (before, matches(entry)) {
                    (false, true) => ("ADDED", entry.value.clone(), entry.revision),
                    (true, true) => ("MODIFIED", entry.value.clone(), entry.revision),
                    (true, false) => {
                        let last = previous.as_ref().map_or(&entry.value, |p| &p.value);
                        let gone = encode::with_revision(last, &resource.stored_envelope, entry.revision);
                        ("DELETED", gone, entry.revision)
                    }
                    (false, false) => return Ok(()),
                }
            }
            Event::Delete { entry, previous } if matches(previous) => ("DELETED", entry.value.clone(), entry.revision),
            Event::Delete { .. } => return Ok(()),
        };
        self.request.presenter()?.event(kind, &value, revision, out)
    }

    fn fail(&mut self, status: &Status, out: &mut Vec<u8>) {
        if let Ok(presenter) = self.request.presenter() {
            presenter.error(status, out);
        }
        self.over = true;
    }
}
