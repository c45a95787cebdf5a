//! A process's standard streams: where the guest's ends lead.
//!
//! The main process of a container writes to its log (and to whoever is attached) and reads what is attached to it, if
//! it has a stdin; an exec'd one writes to pipes and waits while they are full.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    WasiCtxBuilder,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use super::{attach::Hub, pipe::Pipe};
use crate::{
    log::{Log, Stream},
    stdio::LogStdio,
};

/// The most that one read gives.
const READ_BYTES_MAX: usize = 64 << 10;
/// Bytes after which a guest lets others run, however fast they are read.
const TURN_BYTES: usize = 256 << 10;

/// Where a process's streams lead.
#[derive(Clone)]
pub struct Stdio {
    /// Without one, stdin is at its end.
    pub stdin: Option<Pipe>,
    pub output: Output,
    pub tty: bool,
}

#[derive(Clone)]
pub enum Output {
    /// The container's log.
    Log { log: Log, attached: Arc<Hub> },
    /// Whoever started the process.
    Pipes { stdout: Pipe, stderr: Pipe },
}

impl Stdio {
    /// Gives them to a guest. `yielded` is said when a turn is given up, as an epoch's end says it.
    pub fn give(&self, wasi: &mut WasiCtxBuilder, yielded: &Arc<AtomicBool>) {
        let tty = self.tty;
        if let Some(pipe) = self.stdin.clone() {
            wasi.stdin(GuestInput { pipe, tty });
        }
        match &self.output {
            Output::Log { log, attached } => {
                let stream = |stream| LogStdio::new(log.clone(), stream, yielded.clone(), attached.clone());
                wasi.stdout(stream(Stream::Stdout)).stderr(stream(Stream::Stderr));
            }
            Output::Pipes { stdout, stderr } => {
                let stream =
                    |pipe: &Pipe| GuestOutput { pipe: pipe.clone(), tty, yielded: yielded.clone(), turn_bytes: 0 };
                wasi.stdout(stream(stdout)).stderr(stream(stderr));
            }
        }
    }
}

#[derive(Clone)]
struct GuestInput {
    pipe: Pipe,
    tty: bool,
}

impl IsTerminal for GuestInput {
    fn is_terminal(&self) -> bool {
        self.tty
    }
}

impl StdinStream for GuestInput {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestInput {
    async fn ready(&mut self) {
        poll_fn(|context| self.pipe.poll_readable(context)).await;
    }
}

#[async_trait::async_trait]
impl InputStream for GuestInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.pipe.get(size.min(READ_BYTES_MAX)).map(Bytes::from).ok_or(StreamError::Closed)
    }
}

impl AsyncRead for GuestInput {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.pipe.poll_readable(context));
        if let Some(bytes) = self.pipe.get(into.remaining().min(READ_BYTES_MAX)) {
            into.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone)]
struct GuestOutput {
    pipe: Pipe,
    tty: bool,
    yielded: Arc<AtomicBool>,
    /// Written since the last turn.
    turn_bytes: usize,
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        self.tty
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        poll_fn(|context| self.pipe.poll_writable(context)).await;
    }
}

#[async_trait::async_trait]
impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.pipe.put(&bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StreamError::Closed),
            Err(_) => Err(StreamError::trap("more was written than the stream had room for")),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.pipe.room().map_err(|_| StreamError::Closed)
    }

    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            self.ready().await;
            let chunk = bytes.split_to(bytes.len().min(self.check_write()?));
            self.turn_bytes += chunk.len();
            self.write(chunk)?;
            if self.turn_bytes >= TURN_BYTES {
                self.turn_bytes = 0;
                self.yielded.store(true, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pipe.poll_put(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
