//! A main process's stdout or stderr, written to its log as it comes and shown to who is attached. A write that returns
//! is in the file.

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
    io::AsyncWrite,
    time::{Sleep, sleep},
};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{
    exec::Hub,
    log::{Log, Stream},
};

/// Bytes that a guest may offer in one call.
const PERMIT_BYTES: usize = 64 << 10;
/// Bytes after which a guest lets others run: one call of preview 1 may write all its memory.
const TURN_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub struct LogStdio {
    log: Log,
    stream: Stream,
    /// Said when a turn is given up, as an epoch's end says it.
    yielded: Arc<AtomicBool>,
    attached: Arc<Hub>,
    /// Written since the last turn.
    turn_bytes: usize,
}

impl LogStdio {
    pub fn new(log: Log, stream: Stream, yielded: Arc<AtomicBool>, attached: Arc<Hub>) -> Self {
        Self { log, stream, yielded, attached, turn_bytes: 0 }
    }

    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.log.write(self.stream, bytes)?;
        self.attached.printed(self.stream, bytes);
        Ok(())
    }
}

impl IsTerminal for LogStdio {
    fn is_terminal(&self) -> bool {
        self.attached.tty()
    }
}

impl StdoutStream for LogStdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Written { stdio: self.clone(), pause: None })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStdio {
    async fn ready(&mut self) {
        while let Some(pause) = self.log.pause() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for LogStdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes).map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.log.pause().is_some() { 0 } else { PERMIT_BYTES })
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.turn_bytes += bytes.len();
        self.write(bytes)?;
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            self.yielded.store(true, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        self.ready().await;
        Ok(())
    }
}

/// The stream of a WASI 0.3 guest.
struct Written {
    stdio: LogStdio,
    /// Until the log takes more.
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncWrite for Written {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match self.stdio.log.pause() {
                Some(pause) => self.pause = Some(Box::pin(sleep(pause))),
                None => break,
            }
        }
        let bytes = &bytes[..bytes.len().min(PERMIT_BYTES)];
        Poll::Ready(self.stdio.print(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
