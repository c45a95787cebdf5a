//! A connection: one task's worth of reading and writing, and the streams that the peer opens.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, PollSender};

use crate::{
    CHUNK_BYTES, CONTROL_BYTES_MAX, Error, FRAMES_MAX, STREAM_BYTES_MAX, STREAMS_MAX, Stream,
    frame::{Control, FIN, Head, Out, REFUSED_STREAM, UNIDIRECTIONAL, number},
    headers::{Compressor, Decompressor},
};

/// How long the peer may take to close its side after this side has.
const LINGER: Duration = Duration::from_secs(5);
/// The peer is asked this often whether it is there; a write that fails ends the connection.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Written at once at most.
const BATCH_BYTES: usize = 64 << 10;

/// The peer's streams, in the order in which it opens them. Dropping it ends the connection, after what was written before.
#[derive(Debug)]
pub struct Session {
    streams: mpsc::Receiver<Stream>,
    closing: CancellationToken,
}

impl Session {
    /// Serves a connection; the future drives it and ends with it. Without a frame in either direction for `idle` it ends too.
    pub fn serve<IO>(io: IO, idle: Duration) -> (Self, impl Future<Output = Result<(), Error>> + Send + use<IO>)
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (opened, streams) = mpsc::channel(STREAMS_MAX);
        let (frames, to_send) = mpsc::channel(FRAMES_MAX);
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared::default());
        let (read, write) = tokio::io::split(io);
        let reader = Reader {
            io: read,
            headers: Decompressor::new(),
            opened,
            frames,
            shared: shared.clone(),
            permits: Arc::new(Semaphore::new(STREAMS_MAX)),
            last: 0,
        };
        let writer = Writer {
            io: write,
            headers: Compressor::default(),
            frames: to_send,
            shared: shared.clone(),
            closing: closing.clone(),
            ping: 2,
        };
        (Self { streams, closing }, drive(reader, writer, shared, idle))
    }

    /// The next stream that the peer opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// What the streams and the connection have in common.
#[derive(Default)]
pub(crate) struct Shared {
    streams: Mutex<HashMap<u32, Entry>>,
    /// The ends of streams that were dropped before they were ended: at most one each.
    ends: Mutex<Vec<Out>>,
    ended: Notify,
    active: Mutex<Option<Instant>>,
}

struct Entry {
    data: mpsc::Sender<Bytes>,
    reset: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn forget(&self, stream: u32, end: Option<Out>) {
        self.streams.lock().remove(&stream);
        if let Some(end) = end {
            self.ends.lock().push(end);
            self.ended.notify_one();
        }
    }

    fn touch(&self) {
        *self.active.lock() = Some(Instant::now());
    }

    async fn idle(&self, limit: Duration) {
        loop {
            let since = self.active.lock().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(since + limit).await;
            if self.active.lock().is_none_or(|at| at + limit <= Instant::now()) {
                return;
            }
        }
    }

    /// Nobody will send anything any more.
    fn lose_all(&self) {
        for (_, entry) in self.streams.lock().drain() {
            entry.reset.store(true, Ordering::Release);
        }
    }
}

async fn drive<IO>(mut reader: Reader<IO>, writer: Writer<IO>, shared: Arc<Shared>, idle: Duration) -> Result<(), Error>
where
    IO: AsyncRead + AsyncWrite + Send,
{
    shared.touch();
    let result = tokio::select! {
        read = reader.run() => read,
        // What the peer still sends is read and dropped until it closes, so that it gets what was sent to it.
        written = writer.run() => match written {
            Ok(()) => {
                let _ = timeout(LINGER, reader.run()).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        },
        () = shared.idle(idle) => Err(Error::Protocol("nothing was sent for too long")),
    };
    shared.lose_all();
    result
}

struct Reader<IO> {
    io: ReadHalf<IO>,
    headers: Decompressor,
    opened: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Out>,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    last: u32,
}

impl<IO: AsyncRead + Send> Reader<IO> {
    /// Until the peer closes the connection.
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let mut head = [0; 8];
            match self.io.read_exact(&mut head).await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            self.shared.touch();
            match Head::parse(head)? {
                Head::Data { stream, flags, length } => self.data(stream, flags, length).await?,
                Head::Control { length, .. } if length > CONTROL_BYTES_MAX => {
                    return Err(Error::Protocol("a control frame that is too long"));
                }
                Head::Control { kind, flags, length } => {
                    let mut payload = vec![0; length];
                    self.io.read_exact(&mut payload).await?;
                    self.control(&kind, flags, &payload).await?;
                }
            }
        }
    }

    /// Handed on piece by piece; a reader that does not read holds this connection up.
    async fn data(&mut self, stream: u32, flags: u8, mut length: usize) -> Result<(), Error> {
        while length > 0 {
            let mut chunk = BytesMut::zeroed(length.min(CHUNK_BYTES));
            self.io.read_exact(&mut chunk).await?;
            length -= chunk.len();
            let reader = self.shared.streams.lock().get(&stream).map(|entry| entry.data.clone());
            if let Some(reader) = reader {
                // A stream that was dropped meanwhile wants no more.
                let _ = reader.send(chunk.freeze()).await;
            }
        }
        if flags & FIN != 0 {
            self.shared.streams.lock().remove(&stream);
        }
        Ok(())
    }

    async fn control(&mut self, kind: &Control, flags: u8, payload: &[u8]) -> Result<(), Error> {
        match kind {
            Control::SynStream => self.open(flags, payload).await?,
            Control::RstStream => {
                let stream = number(payload, 0)? & 0x7fff_ffff;
                if let Some(entry) = self.shared.streams.lock().remove(&stream) {
                    entry.reset.store(true, Ordering::Release);
                }
            }
            // Those of this side have even numbers, and their answers say nothing more than that the peer is there.
            Control::Ping => {
                let id = number(payload, 0)?;
                if id % 2 == 1 {
                    self.send(Out::Ping(id)).await;
                }
            }
            // Nobody needs them, but the compression goes on from one to the next.
            Control::SynReply | Control::Headers => {
                self.headers.read(payload.get(4..).unwrap_or_default())?;
            }
            Control::Settings | Control::GoAway | Control::WindowUpdate | Control::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, flags: u8, payload: &[u8]) -> Result<(), Error> {
        let id = number(payload, 0)? & 0x7fff_ffff;
        let headers = self.headers.read(payload.get(10..).unwrap_or_default())?;
        if id.is_multiple_of(2) || id <= self.last {
            return Err(Error::Protocol("a stream id that is even or not above the last one"));
        }
        self.last = id;
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.send(Out::Reset(id, REFUSED_STREAM)).await;
            return Ok(());
        };
        let (data, received) = mpsc::channel(STREAM_BYTES_MAX / CHUNK_BYTES);
        let reset = Arc::<AtomicBool>::default();
        if flags & FIN == 0 {
            self.shared.streams.lock().insert(id, Entry { data, reset: reset.clone() });
        }
        let stream = Stream {
            id,
            headers,
            rest: Bytes::new(),
            received,
            frames: PollSender::new(self.frames.clone()),
            reset,
            finished: flags & UNIDIRECTIONAL != 0,
            quiet: false,
            shared: self.shared.clone(),
            _permit: permit,
        };
        self.send(Out::SynReply(id)).await;
        // There is room for as many as there are permits; a session that accepts no more drops it, which resets it.
        let _ = self.opened.try_send(stream);
        Ok(())
    }

    /// A writer that has ended does not want it.
    async fn send(&mut self, frame: Out) {
        let _ = self.frames.send(frame).await;
    }
}

struct Writer<IO> {
    io: WriteHalf<IO>,
    headers: Compressor,
    frames: mpsc::Receiver<Out>,
    shared: Arc<Shared>,
    closing: CancellationToken,
    ping: u32,
}

impl<IO: AsyncWrite + Send> Writer<IO> {
    /// Until the session is dropped and everything before that is sent.
    async fn run(mut self) -> std::io::Result<()> {
        let closing = self.closing.clone();
        let mut batch = BytesMut::with_capacity(BATCH_BYTES);
        let mut ping = Instant::now() + PING_EVERY;
        loop {
            let shared = self.shared.clone();
            tokio::select! {
                frame = timeout_at(ping, self.frames.recv()) => match frame {
                    Ok(Some(frame)) => frame.encode(&mut self.headers, &mut batch),
                    // The reader has gone, and with it the connection.
                    Ok(None) => return Ok(()),
                    Err(_) => {
                        ping = Instant::now() + PING_EVERY;
                        Out::Ping(self.ping).encode(&mut self.headers, &mut batch);
                        self.ping = (self.ping + 2) & 0x7fff_fffe;
                    }
                },
                () = shared.ended.notified() => {}
                () = closing.cancelled() => break,
            }
            self.ends(&mut batch);
            while batch.len() < BATCH_BYTES {
                let Ok(frame) = self.frames.try_recv() else { break };
                frame.encode(&mut self.headers, &mut batch);
            }
            self.write(&mut batch).await?;
        }
        while let Ok(frame) = self.frames.try_recv() {
            frame.encode(&mut self.headers, &mut batch);
            if batch.len() >= BATCH_BYTES {
                self.write(&mut batch).await?;
            }
        }
        Out::GoAway(0).encode(&mut self.headers, &mut batch);
        self.write(&mut batch).await?;
        self.io.shutdown().await
    }

    fn ends(&mut self, batch: &mut BytesMut) {
        for end in std::mem::take(&mut *self.shared.ends.lock()) {
            end.encode(&mut self.headers, batch);
        }
    }

    async fn write(&mut self, batch: &mut BytesMut) -> std::io::Result<()> {
        self.io.write_all(batch).await?;
        self.io.flush().await?;
        batch.clear();
        self.shared.touch();
        Ok(())
    }
}
