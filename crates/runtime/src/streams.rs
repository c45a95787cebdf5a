//! Streams between a process in a container and whoever talks to it (exec, attach, port-forward).

use std::{pin::Pin, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::mpsc,
    time::timeout,
};

use crate::{Error, ExecOutput, Exit, Result};

/// What is kept of each stream of a command that somebody waits for; as the kubelet keeps of a probe's.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;

pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// Both ways of one TCP connection.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// In characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Which streams somebody wants. With a terminal, stderr goes to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamsWanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub streams: StreamsWanted,
}

/// A process that somebody talks to. Each stream is there if it was wanted and the process has it.
pub struct Attached {
    /// Shutting it down is the end of the process's stdin. A process that does not read holds the writer back.
    pub stdin: Option<Writer>,
    /// They end when the process has ended, after the last byte that it wrote. Not reading them holds an exec'd
    /// process back, and loses output of an attached one, which is told in the stream.
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// How it ended. Dropping this kills an exec'd process, and does nothing to an attached one.
    pub exit: BoxFuture<'static, Result<Exit>>,
}

/// Reads a process's output to its end.
pub(crate) async fn collect(attached: Attached, limit: Duration) -> Result<ExecOutput> {
    let Attached { stdout, stderr, exit, .. } = attached;
    let all = async { tokio::join!(read(stdout), read(stderr), exit) };
    match timeout(limit, all).await {
        Ok((stdout, stderr, exit)) => Ok(ExecOutput { code: exit?.code, stdout, stderr }),
        Err(_) => Err(Error::Invalid(format!("command timed out after {limit:?}"))),
    }
}

async fn read(stream: Option<Reader>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    kept
}
