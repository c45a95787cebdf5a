//! One stream: bytes both ways, each way with an end of its own.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, mpsc},
};
use tokio_util::sync::PollSender;

use crate::{
    CHUNK_BYTES, Headers,
    frame::{CANCEL, Out},
    session::Shared,
};

/// Opened by the peer. Shutting it down ends this side's half; dropping it before that resets the stream.
pub struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) rest: Bytes,
    pub(crate) received: mpsc::Receiver<Bytes>,
    pub(crate) frames: PollSender<Out>,
    /// Reset by the peer, or lost with its connection.
    pub(crate) reset: Arc<AtomicBool>,
    pub(crate) finished: bool,
    /// See [`Stream::read_only`].
    pub(crate) quiet: bool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Stream {
    /// What the peer opened it with.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Nothing will be written: dropping it ends this side's half, and does not reset the stream.
    pub fn read_only(mut self) -> Self {
        self.quiet = true;
        self
    }

    fn lost(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.received.poll_recv(cx)) {
                Some(bytes) => self.rest = bytes,
                None if self.lost() => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        if self.finished || self.lost() {
            return Poll::Ready(Err(broken()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.frames.poll_reserve(cx)).map_err(|_| broken())?;
        let count = bytes.len().min(CHUNK_BYTES);
        let frame = Out::Data(self.id, Bytes::copy_from_slice(&bytes[..count]));
        self.frames.send_item(frame).map_err(|_| broken())?;
        Poll::Ready(Ok(count))
    }

    /// Frames are sent as soon as the connection takes them.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished && !self.lost() {
            // A connection that is gone has ended the stream as well.
            if ready!(self.frames.poll_reserve(cx)).is_ok() {
                let frame = Out::Fin(self.id);
                let _ = self.frames.send_item(frame);
            }
        }
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = (!self.finished && !self.lost()).then(|| match self.quiet {
            true => Out::Fin(self.id),
            false => Out::Reset(self.id, CANCEL),
        });
        self.shared.forget(self.id, left);
    }
}
