//! One connection: HTTP/1.1 or HTTP/2, as the client begins it, in one task.
//!
//! Its times are watched by its server's sweep, so that a request costs no timer: one that has not begun a request in
//! [`OPENING_MAX`], or has had none for [`IDLE_MAX`], is closed.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use super::{request, server::Server};
use crate::charge::Charge;

/// From the connection to the end of its first request's headers.
pub const OPENING_MAX: Duration = Duration::from_secs(10);
/// From the end of a response to the end of the next request's headers.
pub const IDLE_MAX: Duration = Duration::from_secs(60);
/// Request line and headers together; larger ones are answered with 431.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Requests of one HTTP/2 connection at a time; more wait at the client.
const STREAMS_MAX: u32 = 128;
/// What an HTTP/2 client may send of bodies that nobody reads: of one request, and of all of a connection.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// What is kept of an HTTP/2 response that its client does not read, beside the chunks that its request counts.
const SEND_BYTES: usize = 64 << 10;
/// What a connection counts as its container's memory: the headers that it reads.
pub const BYTES: u64 = HEADER_BYTES_MAX as u64;
/// What it counts beside that from its first request of HTTP/2 on.
const BYTES_HTTP2: u64 = CONNECTION_WINDOW_BYTES as u64;
/// An HTTP/2 client that does not answer pings is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// What others may know of a connection, and do to it.
pub struct Connection {
    pub id: u64,
    /// Requests that are not finished.
    busy: AtomicUsize,
    served: AtomicBool,
    /// When it last had something to do, in milliseconds of its server's life.
    idle_since_ms: AtomicU64,
    ending: AtomicBool,
    dead: AtomicBool,
    waker: AtomicWaker,
    /// Of an HTTP/2 connection.
    windows: OnceLock<Charge>,
    server: Arc<Server>,
}

impl Connection {
    pub fn new(id: u64, server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            id,
            busy: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            idle_since_ms: AtomicU64::new(server.age_ms()),
            ending: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            windows: OnceLock::new(),
            server,
        })
    }

    /// Finishes the requests that it has, and takes no more.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Closes it now.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Closes it if it has done nothing for too long: in good order, and if that takes as long again, at once.
    pub fn sweep(&self, now_ms: u64) {
        if self.busy.load(Ordering::SeqCst) > 0 {
            return;
        }
        let limit = if self.served.load(Ordering::Relaxed) { IDLE_MAX } else { OPENING_MAX }.as_millis() as u64;
        let idle = now_ms.saturating_sub(self.idle_since_ms.load(Ordering::Relaxed));
        if idle > 2 * limit {
            self.kill();
        } else if idle > limit {
            self.end();
        }
    }

    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Counts what an HTTP/2 client may send of bodies that nobody reads; whether there is memory for it.
    pub fn has_windows(&self) -> bool {
        if self.windows.get().is_none() {
            let Some(charge) = self.server.charge(BYTES_HTTP2) else { return false };
            let _ = self.windows.set(charge);
        }
        true
    }

    /// Whether a request is alone on its connection, which can then be closed for it.
    pub fn is_alone(&self) -> bool {
        self.busy.load(Ordering::SeqCst) <= 1
    }
}

/// While it lives, its connection has a request.
pub struct Busy(Arc<Connection>);

impl Busy {
    pub fn new(connection: Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::SeqCst);
        connection.served.store(true, Ordering::Relaxed);
        Self(connection)
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(self.0.server.age_ms(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves a connection to its end.
pub async fn run(server: Arc<Server>, connection: Arc<Connection>, stream: TcpStream, room: OwnedSemaphorePermit) {
    let _registered = Registered { server: server.clone(), id: connection.id, _room: room };
    let Some(_memory) = server.memory(&connection).await else { return };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "TCP_NODELAY not set");
    }
    let mut builder = auto::Builder::new(Streams(server.clone()));
    builder.http1().keep_alive(true).max_buf_size(HEADER_BYTES_MAX).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .keep_alive_interval(PING_INTERVAL);
    let shared = connection.clone();
    let service = service_fn(move |request| request::answer(server.clone(), Busy::new(shared.clone()), request));
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    futures::pin_mut!(serving);
    let mut asked = false;
    std::future::poll_fn(|context| {
        connection.waker.register(context.waker());
        if connection.dead.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !asked && connection.ending.load(Ordering::SeqCst) {
            asked = true;
            serving.as_mut().graceful_shutdown();
        }
        // How a client goes away is of no interest to anybody.
        serving.as_mut().poll(context).map(drop)
    })
    .await;
}

/// Takes the connection off its server's list when it has ended, however it does.
struct Registered {
    server: Arc<Server>,
    id: u64,
    _room: OwnedSemaphorePermit,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.server.connections.lock().remove(&self.id);
    }
}

/// Runs the streams of HTTP/2 connections in tasks of their own, which end with the server.
#[derive(Clone)]
struct Streams(Arc<Server>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let closed = self.0.closed.clone();
        tokio::spawn(Stream { stream: Box::pin(stream), closed: Box::pin(closed.cancelled_owned()) });
    }
}

struct Stream<F, C> {
    stream: Pin<Box<F>>,
    closed: Pin<Box<C>>,
}

impl<F: Future, C: Future> Future for Stream<F, C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.stream.as_mut().poll(context).map(drop)
    }
}
