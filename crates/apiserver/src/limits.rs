//! How much is served at the same time, and what happens at the limit.

use std::{sync::Arc, time::Duration};

use skiff_api::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of one API server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests that are worked on at once, watches and other streams aside. More wait for `queue_wait`, then get 429.
    pub requests_max: usize,
    /// How long a request waits for its turn.
    pub queue_wait: Duration,
    /// Watches and streams (logs that are followed, node proxies) at once; the next one gets 429.
    pub watches_max: usize,
    /// Network connections at once; further ones wait in the kernel's queue until one is free.
    pub connections_max: usize,
    /// How long a request may take, its body included; streams aside. Then it gets 504.
    pub request_timeout: Duration,
    /// How long a client may take to send the head of a request, and to finish the TLS handshake; then its connection is reset.
    /// As upstream longer than clients wait themselves (10 s): who gets no processor for that long is not cut off.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 1024,
            queue_wait: Duration::from_secs(15),
            watches_max: 50_000,
            connections_max: 8192,
            request_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(32),
        }
    }
}

pub(crate) type Permit = OwnedSemaphorePermit;

#[derive(Debug)]
pub(crate) struct Gates {
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    queue_wait: Duration,
}

impl Gates {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            queue_wait: limits.queue_wait,
        }
    }

    pub(crate) async fn request(&self) -> Result<Permit, Status> {
        let busy = || Status::too_many_requests("the server has too many requests in flight, please try again", 1);
        let waiting = tokio::time::timeout(self.queue_wait, self.requests.clone().acquire_owned());
        waiting.await.ok().and_then(Result::ok).ok_or_else(busy)
    }

    pub(crate) fn watch(&self) -> Result<Permit, Status> {
        let full = |_| Status::too_many_requests("the server has too many watches open, please try again later", 5);
        self.watches.clone().try_acquire_owned().map_err(full)
    }
}
