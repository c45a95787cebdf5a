//! Keeps one cache equal to what the API holds: list, then watch from the list's revision, resume where it stopped.
//!
//! What must stay true: no event is skipped. One that does not decode, or a revision that is no longer served (410),
//! leads to a new list. A watch that ends by itself is resumed at once; errors wait, from [`BACKOFF_MS_MIN`] to
//! [`BACKOFF_MS_MAX`], doubling.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use http::{Request, header};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use skiff_reconcile::codec::{Page, WatchEvent};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::{
    Error, KindCache, Scope,
    rest::{collect, collection_path, open},
};

pub const BACKOFF_MS_MIN: u64 = 50;
pub const BACKOFF_MS_MAX: u64 = 30_000;
/// One event of a watch may be this long; an object is at most 3 MiB.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// Objects per page of a list.
pub const PAGE_LIMIT: usize = 1000;
/// Events that are applied together: bounds how long the cache is locked.
const BATCH_MAX: usize = 256;
/// The server ends a watch after this long; the spread keeps the watches of a process from ending together.
const WATCH_SECONDS: u64 = 300;
const WATCH_SECONDS_SPREAD: u64 = 290;
/// How long after that a silent connection counts as dead.
const SILENCE_SECONDS: u64 = 30;

pub(crate) struct Reflector {
    pub client: Client,
    pub cache: Arc<KindCache>,
    pub scope: Scope,
}

impl Reflector {
    /// Until the task is dropped.
    pub async fn run(self) {
        let mut backoff_ms = BACKOFF_MS_MIN;
        let mut position: Option<String> = None;
        loop {
            let before = self.cache.revision();
            let ended = self.follow(&mut position).await;
            if self.cache.revision() != before {
                backoff_ms = BACKOFF_MS_MIN;
            }
            match ended {
                Ok(()) => debug!(kind = self.kind(), "watch ended; resuming"),
                Err(e) if e.is_gone() => {
                    debug!(kind = self.kind(), error = %e, "revision is no longer served; listing again");
                    position = None;
                    if self.cache.revision() != before {
                        continue;
                    }
                }
                Err(e) => {
                    warn!(kind = self.kind(), error = %describe(&e), backoff_ms, "cannot follow; trying again");
                    if !matches!(e, Error::Transport(_) | Error::Body(_) | Error::Silent { .. }) {
                        position = None;
                    }
                }
            }
            // Also after a clean end: a server that ends every watch at once must not be hammered.
            tokio::time::sleep(Duration::from_millis(backoff_ms)).await;
            backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
        }
    }

    fn kind(&self) -> &'static str {
        self.cache.codec().kind.kind
    }

    /// Lists if there is no position to resume from, then watches until the watch ends.
    async fn follow(&self, position: &mut Option<String>) -> Result<(), Error> {
        let from = match position.take() {
            Some(from) => from,
            None => self.list().await?,
        };
        *position = Some(from.clone());
        self.watch(&from, position).await
    }

    async fn list(&self) -> Result<String, Error> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let page = self.page(&token).await?;
            items.extend(page.items);
            if page.continue_token.is_empty() {
                let revision = page.resource_version.parse().unwrap_or(1);
                self.cache.replace(items, revision);
                return Ok(page.resource_version);
            }
            token = page.continue_token;
        }
    }

    async fn page(&self, token: &str) -> Result<Page, Error> {
        let mut query = vec![("limit", PAGE_LIMIT.to_string())];
        if !token.is_empty() {
            query.push(("continue", token.to_owned()));
        }
        let (uri, request) = self.request(query, "List")?;
        let bytes = collect(open(&self.client, request).await?, &uri).await?;
        (self.cache.codec().page)(&bytes).map_err(|source| Error::Decode { what: uri, source })
    }

    async fn watch(&self, from: &str, position: &mut Option<String>) -> Result<(), Error> {
        let spread = self.kind().bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let seconds = WATCH_SECONDS + spread % WATCH_SECONDS_SPREAD;
        let query = vec![
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("timeoutSeconds", seconds.to_string()),
            ("resourceVersion", from.to_owned()),
        ];
        let (uri, request) = self.request(query, "")?;
        let mut body = open(&self.client, request).await?;
        let patience = Duration::from_secs(seconds + SILENCE_SECONDS);
        let mut buffer = BytesMut::new();
        loop {
            let frame = timeout(patience, body.frame()).await.map_err(|_| Error::Silent { what: uri.clone() })?;
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.map_err(Error::Body)?.into_data() else { continue };
            // Most frames of the in-process transport are whole lines: those are not copied.
            let mut rest: &[u8] = &data;
            if buffer.is_empty() {
                rest = self.lines(rest, &uri, position)?;
                buffer.extend_from_slice(rest);
            } else {
                buffer.extend_from_slice(rest);
                let left = self.lines(&buffer, &uri, position)?.len();
                buffer.advance(buffer.len() - left);
            }
            if buffer.len() > EVENT_BYTES_MAX {
                return Err(Error::TooLarge { what: uri, limit_bytes: EVENT_BYTES_MAX });
            }
        }
    }

    /// Applies all whole lines; returns what is left.
    fn lines<'a>(&self, mut bytes: &'a [u8], uri: &str, position: &mut Option<String>) -> Result<&'a [u8], Error> {
        let mut batch = Vec::new();
        let mut failed = None;
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if line.is_empty() {
                continue;
            }
            match (self.cache.codec().event)(line) {
                Ok(WatchEvent::Error { code, message }) => {
                    failed = Some(Error::Api { code, reason: String::new(), message });
                    break;
                }
                Ok(event) => batch.push(event),
                Err(source) => {
                    failed = Some(Error::Decode { what: uri.to_owned(), source });
                    break;
                }
            }
            if batch.len() == BATCH_MAX {
                self.apply(std::mem::take(&mut batch), position);
            }
        }
        if !batch.is_empty() {
            self.apply(batch, position);
        }
        failed.map_or(Ok(bytes), Err)
    }

    fn apply(&self, batch: Vec<WatchEvent>, position: &mut Option<String>) {
        let last = batch.last().and_then(|event| match event {
            WatchEvent::Changed(o) | WatchEvent::Deleted(o) => {
                (self.cache.codec().meta)(o).and_then(|m| m.resource_version.clone())
            }
            WatchEvent::Bookmark { resource_version } => Some(resource_version.clone()),
            WatchEvent::Error { .. } => None,
        });
        self.cache.apply(batch);
        if last.is_some() {
            *position = last;
        }
    }

    fn request(&self, query: Vec<(&str, String)>, list: &str) -> Result<(String, Request<Body>), Error> {
        let codec = self.cache.codec();
        let mut uri = collection_path(&codec.kind, &self.scope.namespace);
        let selectors = [("fieldSelector", &self.scope.fields), ("labelSelector", &self.scope.labels)];
        let selectors = selectors.into_iter().filter(|(_, s)| !s.is_empty()).map(|(n, s)| (n, s.clone()));
        for (at, (name, value)) in query.into_iter().chain(selectors).enumerate() {
            uri.push(if at == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            encode(&value, &mut uri);
        }
        let accept = if codec.metadata_only {
            format!("application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json")
        } else {
            "application/json".to_owned()
        };
        let request = Request::get(&uri).header(header::ACCEPT, accept).body(Body::empty());
        request.map(|r| (uri.clone(), r)).map_err(|source| Error::Request { what: uri, source })
    }
}

/// Percent-encodes a query value.
fn encode(value: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b.into());
        } else {
            out.push('%');
            out.push(HEX[usize::from(b >> 4)].into());
            out.push(HEX[usize::from(b & 15)].into());
        }
    }
}

fn describe(error: &Error) -> String {
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}
