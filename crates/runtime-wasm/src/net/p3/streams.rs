//! The streams of a TCP socket of WASI 0.3: connections that it accepts, bytes that it sends and receives.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use rustix::net::{Shutdown, shutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Sleep, sleep},
};
use wasmtime::{
    StoreContextMut,
    component::{Destination, Resource, Source, StreamConsumer, StreamProducer, StreamResult},
};
use wasmtime_wasi::{WasiView as _, p3::bindings::sockets::types::ErrorCode};

use super::{
    super::{
        container::{ContainerNet, GuestNet, SocketPermit},
        pod::Bound,
    },
    Answer,
    tcp::{Stream, TcpSocket},
};
use crate::{guest::Host, process::Warn};

/// How long to wait before a connection is accepted again after there was no room for one: it waits in the backlog.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// What is read ahead where not the guest but the host reads a stream.
const READ_BYTES: usize = 8 << 10;

/// The connections that a socket accepts, each when the guest asks for it.
pub struct Accepting {
    v6: bool,
    listener: Arc<TcpListener>,
    bound: Arc<Bound>,
    _permit: Arc<SocketPermit>,
    net: Arc<ContainerNet>,
    warn: Warn,
    /// Accepted for a guest that only asked whether there is one.
    waiting: Option<(TcpStream, SocketAddr, SocketPermit)>,
    backoff: Option<Pin<Box<Sleep>>>,
}

impl Accepting {
    pub fn new(
        v6: bool,
        listener: Arc<TcpListener>,
        bound: Arc<Bound>,
        permit: Arc<SocketPermit>,
        net: &GuestNet,
    ) -> Self {
        let (warn, net) = (net.warn.clone(), net.shared.clone());
        Self { v6, listener, bound, _permit: permit, net, warn, waiting: None, backoff: None }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting.is_some() {
                return Poll::Ready(());
            }
            if let Some(backoff) = &mut self.backoff {
                ready!(backoff.as_mut().poll(context));
                self.backoff = None;
            }
            let Some(permit) = self.net.socket() else {
                self.net.full(&self.warn);
                self.backoff = Some(Box::pin(sleep(ACCEPT_BACKOFF)));
                continue;
            };
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, from)) => self.waiting = Some((stream, from, permit)),
                Err(error) => {
                    tracing::debug!(error = %error, "connection of a guest not accepted");
                    self.backoff = Some(Box::pin(sleep(ACCEPT_BACKOFF)));
                }
            }
        }
    }
}

impl StreamProducer<Host> for Accepting {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Resource<TcpSocket>>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        mut into: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if self.poll_accept(context).is_pending() {
            return if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending };
        }
        // Who reads nothing asks whether there is something to read.
        if into.remaining(&mut store) != Some(0)
            && let Some((stream, from, permit)) = self.waiting.take()
        {
            let socket = TcpSocket::accepted(self.v6, stream, self.bound.address, from, permit);
            into.set_buffer(Some(store.data_mut().ctx().table.push(socket)?));
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// How a stream ended, told once.
struct End(Option<oneshot::Sender<Answer<()>>>);

impl End {
    fn tell(&mut self, how: Answer<()>) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(how);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

/// What a guest receives, until its peer or itself ends it.
pub struct Receiving {
    stream: Arc<Stream>,
    end: End,
}

impl Receiving {
    pub fn new(stream: Arc<Stream>, end: oneshot::Sender<Answer<()>>) -> Self {
        Self { stream, end: End(Some(end)) }
    }

    fn poll_read(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<std::io::Result<usize>> {
        loop {
            match self.stream.stream.try_read(into) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ready!(self.stream.stream.poll_read_ready(context))?;
                }
                read => return Poll::Ready(read),
            }
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // A connection that has ended has nothing to shut down.
        let _ = shutdown(&self.stream.stream, Shutdown::Read);
    }
}

impl StreamProducer<Host> for Receiving {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        into: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let read = if into.remaining(&mut store) == Some(0) {
            self.stream.stream.poll_read_ready(context).map(|_| Ok(None))
        } else {
            let mut into = into.as_direct(store, READ_BYTES);
            let read = self.poll_read(context, into.remaining());
            read.map_ok(|count| {
                into.mark_written(count);
                Some(count)
            })
        };
        Poll::Ready(Ok(match read {
            Poll::Ready(Ok(Some(0))) => {
                self.end.tell(Ok(()));
                StreamResult::Dropped
            }
            Poll::Ready(Ok(_)) => StreamResult::Completed,
            Poll::Ready(Err(error)) => {
                self.end.tell(Err(error.into()));
                StreamResult::Dropped
            }
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        }))
    }
}

/// What a guest sends, until it ends it.
pub struct Sending {
    stream: Arc<Stream>,
    end: End,
}

impl Sending {
    pub fn new(stream: Arc<Stream>, end: oneshot::Sender<Answer<()>>) -> Self {
        Self { stream, end: End(Some(end)) }
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        loop {
            match self.stream.stream.try_write(bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ready!(self.stream.stream.poll_write_ready(context))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = shutdown(&self.stream.stream, Shutdown::Write);
    }
}

impl StreamConsumer<Host> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, Host>,
        from: Source<'_, Self::Item>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut from = from.as_direct(store);
        let written = match from.remaining() {
            [] => self.stream.stream.poll_write_ready(context).map(|_| Ok(0)),
            bytes => self.poll_write(context, bytes),
        };
        Poll::Ready(Ok(match written {
            Poll::Ready(Ok(count)) => {
                from.mark_read(count);
                StreamResult::Completed
            }
            Poll::Ready(Err(error)) => {
                let broken = error.kind() == std::io::ErrorKind::BrokenPipe;
                self.end.tell(Err(if broken { ErrorCode::ConnectionBroken } else { error.into() }));
                StreamResult::Dropped
            }
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        }))
    }
}
