//! The API server on the network: TLS, HTTP/1.1 and HTTP/2 on one port.
//!
//! Limits: connections at once ([`crate::Limits::connections_max`]; the accept loop waits at the limit), the time for
//! a handshake and for a request's head ([`crate::Limits::header_timeout`]), requests at once over one HTTP/2
//! connection. A peer that is gone is noticed by pings.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Layer, ServiceExt};
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, predicate::Predicate},
};

use super::handle;
use crate::{
    authn::{Caller, user_of_certificate},
    server::ApiServer,
};

/// Flow control: a watch or a big list is not held up by the window of its stream or of its connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const STREAMS_PER_CONNECTION_MAX: u32 = 1000;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long open requests may take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// The pause after an accept that failed (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Smaller answers are not worth compressing, as upstream.
const GZIP_BYTES_MIN: u64 = 128 << 10;

impl ApiServer {
    /// Serves until `shutdown`, then ends watches and lets open requests finish. Clients in this process are not
    /// affected: [`ApiServer::shut_down`] ends those.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: rustls::ServerConfig,
        shutdown: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let connections = Arc::new(Semaphore::new(self.limits.connections_max));
        let graceful = GracefulShutdown::new();
        let tasks = TaskTracker::new();
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = Connection {
                        api: self.clone(),
                        watcher: graceful.watcher(),
                        closing: shutdown.clone(),
                        permit,
                    };
                    tasks.spawn(connection.run(stream, acceptor.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::info!("some connections did not finish in time");
        }
    }
}

struct Connection {
    api: Arc<ApiServer>,
    watcher: Watcher,
    closing: CancellationToken,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: TlsAcceptor) {
        let Self { api, watcher, closing, permit } = self;
        // Small frames (watch events) are not held back.
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = tokio::time::timeout(api.limits.header_timeout, acceptor.accept(stream)).await else {
            return;
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.and_then(|c| user_of_certificate(c));
        let caller = Arc::new(Caller::Network { certificate, closing });
        let builder = builder(api.limits.header_timeout);
        let compression = CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(Large);
        let service = compression.layer(tower::service_fn(move |request: Request<Incoming>| {
            let (api, caller) = (api.clone(), caller.clone());
            async move { Ok::<_, Infallible>(handle(&api, &caller, request.map(Body::new)).await) }
        }));
        let service = service_fn(move |request| service.clone().oneshot(request));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
        drop(permit);
    }
}

fn builder(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Whole answers above a size; never a stream, which must reach the client at once.
#[derive(Debug, Clone, Copy)]
struct Large;

impl Predicate for Large {
    fn should_compress<B: http_body::Body>(&self, response: &Response<B>) -> bool {
        response.body().size_hint().exact().is_some_and(|size| size >= GZIP_BYTES_MIN)
    }
}
