//! exec, attach and port-forward: the kubelet's streaming endpoints, over WebSockets and over SPDY/3.1.
//!
//! What must stay true:
//! - back-pressure reaches from the process to the client and back: every buffer between them is bounded;
//! - a client that goes away ends the process that it started, and leaves nothing behind;
//! - a connection that is silent both ways for [`IDLE`] ends, and so does every connection when the node stops;
//! - what came with the request (its extensions) is kept until the connection ends: by that the API server counts it.

mod exec;
mod portforward;
pub(super) mod proxy;
mod sizes;
mod spdy;
mod status;
mod target;
mod tunnel;
mod upgrade;
mod websocket;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tokio::time::timeout;

use crate::agent::Agent;

/// As upstream.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// How long a client may take to open the streams that it announced; as upstream.
const OPEN: Duration = Duration::from_secs(30);
/// How long a client may take to read the end of a conversation.
const LINGER: Duration = Duration::from_secs(10);
/// Copied at once.
const CHUNK_BYTES: usize = 16 << 10;

pub(super) fn router() -> Router<Arc<Agent>> {
    Router::new()
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec).post(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", get(exec::attach).post(exec::attach))
        .route("/portForward/{namespace}/{pod}", get(portforward::serve).post(portforward::serve))
}

/// A conversation over a connection: ends with the connection, or gives it time to carry the conversation's last words.
async fn converse<T>(connection: impl Future<Output = T>, conversation: impl Future<Output = ()>) {
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        () = conversation => {
            let _ = timeout(LINGER, connection).await;
        }
    }
}
