//! SPDY/3.1, the server's side, as far as the clients of Kubernetes speak it (exec, attach and port-forward of clients that do
//! not know WebSockets, and inside of a WebSocket for port-forward).
//!
//! What must stay true:
//! - everything a peer can make this side hold is bounded: streams ([`STREAMS_MAX`]), bytes that a stream's reader has not taken
//!   ([`STREAM_BYTES_MAX`]), frames that wait to be sent ([`FRAMES_MAX`]), a frame of headers ([`CONTROL_BYTES_MAX`],
//!   [`HEADER_BYTES_MAX`]). At the limit a stream is refused, or the connection is not read until there is room;
//! - a peer that breaks the protocol ends its own connection, and nothing else.
//!
//! Windows: the peers neither keep nor announce any (they ignore `WINDOW_UPDATE`), so what holds a sender back is TCP. A
//! stream that nobody reads therefore holds up its connection once its buffer is full, as it does with upstream.

mod frame;
mod headers;
mod session;
mod stream;

pub use headers::{Headers, get};
pub use session::Session;
pub use stream::Stream;

/// Streams of one connection that are alive at once; the next one is refused.
pub const STREAMS_MAX: usize = 1024;
/// The most payload of one frame that is sent, and of one piece that is received.
pub const CHUNK_BYTES: usize = 16 << 10;
/// Received and not yet read, per stream: the window that SPDY/3.1 starts with.
pub const STREAM_BYTES_MAX: usize = 64 << 10;
/// Frames waiting to be sent, per connection; then writers wait.
pub const FRAMES_MAX: usize = 32;
/// A control frame that is longer ends the connection.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;
/// Headers that are longer, decompressed, end the connection.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connection lost")]
    Io(#[from] std::io::Error),
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
}

#[cfg(test)]
mod tests;
