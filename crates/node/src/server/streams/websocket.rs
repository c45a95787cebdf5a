//! Channels over a WebSocket: every message begins with the number of its channel; in the `base64` protocols it is text.
//!
//! A channel that nobody reads holds up the others of its connection, since WebSockets have no windows; pings still tell when
//! the client is gone.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use parking_lot::Mutex;
use skiff_runtime::streams::{Reader, Writer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::{io::StreamReader, sync::PollSender};

use super::{CHUNK_BYTES, IDLE, LINGER};

/// A longer message ends the connection; as upstream.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Messages that wait to be sent; then writers wait.
const MESSAGES_MAX: usize = 8;
/// Messages of one channel that wait to be read; then the connection is not read.
const UNREAD_MAX: usize = 2;
/// The client is asked this often whether it is there; a write that fails ends the connection.
const PING_EVERY: Duration = Duration::from_secs(30);
/// In version 5: the channel whose number follows has ended.
const CLOSE_CHANNEL: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Binary,
    Base64,
}

impl Encoding {
    pub(super) fn of(protocol: &str) -> Self {
        if protocol.contains("base64") { Self::Base64 } else { Self::Binary }
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Self::Base64 => Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(bytes))),
        }
    }

    /// `None`: not a message of a channel. As upstream, it does not matter whether a message is said to be text: Python's client
    /// sends strings so in the binary protocols.
    fn parse(self, message: Message) -> Option<(u8, Bytes)> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => return None,
        };
        if bytes.is_empty() {
            return None;
        }
        let channel = bytes.split_to(1)[0];
        match self {
            Self::Binary => Some((channel, bytes)),
            Self::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(bytes).ok()?.into())),
        }
    }
}

pub(super) type Socket<IO> = WebSocketStream<IO>;

pub(super) async fn open<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Socket<IO> {
    let config = WebSocketConfig::default()
        .read_buffer_size(CHUNK_BYTES)
        .write_buffer_size(CHUNK_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The channels of a connection. Dropping them and their writers ends it, after what was written before.
pub(super) struct Channels {
    encoding: Encoding,
    out: mpsc::Sender<Message>,
    readers: HashMap<u8, Reader>,
}

impl Channels {
    /// With the channels that are read; the future drives the connection and ends with it.
    pub(super) fn serve<IO>(
        socket: Socket<IO>,
        encoding: Encoding,
        read: &[u8],
    ) -> (Self, impl Future<Output = ()> + use<IO>)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (out, messages) = mpsc::channel(MESSAGES_MAX);
        let (mut inputs, mut readers) = (HashMap::new(), HashMap::new());
        for channel in read {
            let (input, received) = mpsc::channel::<io::Result<Bytes>>(UNREAD_MAX);
            inputs.insert(*channel, input);
            let reader: Reader = Box::pin(StreamReader::new(ReceiverStream::new(received)));
            readers.insert(*channel, reader);
        }
        (Self { encoding, out, readers }, drive(socket, encoding, messages, inputs))
    }

    /// Each once.
    pub(super) fn reader(&mut self, channel: u8) -> Option<Reader> {
        self.readers.remove(&channel)
    }

    pub(super) fn writer(&self, channel: u8) -> Writer {
        Box::pin(ChannelWriter { encoding: self.encoding, channel, out: PollSender::new(self.out.clone()) })
    }

    /// One message, whatever it has.
    pub(super) async fn send(&mut self, channel: u8, bytes: &[u8]) {
        // A connection that is gone ends the conversation elsewhere.
        let _ = self.out.send(self.encoding.message(channel, bytes)).await;
    }
}

struct ChannelWriter {
    encoding: Encoding,
    channel: u8,
    out: PollSender<Message>,
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.out.poll_reserve(cx)).map_err(|_| gone())?;
        let count = bytes.len().min(CHUNK_BYTES);
        let message = self.encoding.message(self.channel, &bytes[..count]);
        self.out.send_item(message).map_err(|_| gone())?;
        Poll::Ready(Ok(count))
    }

    /// Messages are sent as soon as the connection takes them.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The protocols have no end of one channel in this direction.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.close();
        Poll::Ready(Ok(()))
    }
}

/// When something was last sent or received.
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Instant::now())))
    }

    pub(super) fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    pub(super) async fn idle(&self) {
        loop {
            let until = *self.0.lock() + IDLE;
            tokio::time::sleep_until(until).await;
            if *self.0.lock() + IDLE <= Instant::now() {
                return;
            }
        }
    }
}

async fn drive<IO>(
    socket: Socket<IO>,
    encoding: Encoding,
    messages: mpsc::Receiver<Message>,
    inputs: HashMap<u8, mpsc::Sender<io::Result<Bytes>>>,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let activity = Activity::start();
    let reading = read(stream, encoding, inputs, &activity);
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        written = write(sink, messages, &activity) => if written {
            let _ = timeout(LINGER, reading).await;
        },
        () = activity.idle() => {}
    }
}

/// Until the client closes the connection or breaks the protocol.
async fn read<IO>(
    mut stream: SplitStream<Socket<IO>>,
    encoding: Encoding,
    mut inputs: HashMap<u8, mpsc::Sender<io::Result<Bytes>>>,
    activity: &Activity,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return answer_close(&mut stream).await;
        }
        let Some((channel, bytes)) = encoding.parse(message) else { continue };
        activity.touch();
        if channel == CLOSE_CHANNEL {
            if let Some(ended) = bytes.first() {
                inputs.remove(ended);
            }
        } else if let Some(input) = inputs.get(&channel).filter(|_| !bytes.is_empty()) {
            // Whoever read it has ended.
            if input.send(Ok(bytes)).await.is_err() {
                inputs.remove(&channel);
            }
        }
    }
}

/// The answer to a client's close waits in the socket: asking for what comes next sends it.
pub(super) async fn answer_close<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut SplitStream<Socket<IO>>) {
    let _ = timeout(LINGER, stream.next()).await;
}

/// Until everybody who writes has ended; then says so to the client. False when the connection is lost.
pub(super) async fn write<IO>(
    mut sink: SplitSink<Socket<IO>, Message>,
    mut messages: mpsc::Receiver<Message>,
    activity: &Activity,
) -> bool
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = Instant::now() + PING_EVERY;
    loop {
        let sent = match timeout_at(ping, messages.recv()).await {
            Ok(Some(message)) => {
                let mut sent = sink.feed(message).await;
                while let (Ok(()), Ok(message)) = (&sent, messages.try_recv()) {
                    sent = sink.feed(message).await;
                }
                activity.touch();
                if sent.is_ok() { sink.flush().await } else { sent }
            }
            Ok(None) => {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                return sink.send(Message::Close(Some(frame))).await.is_ok();
            }
            Err(_) => {
                ping = Instant::now() + PING_EVERY;
                sink.send(Message::Ping(Bytes::new())).await
            }
        };
        if sent.is_err() {
            return false;
        }
    }
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod life;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_channel_in_both_encodings() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let parsed = encoding.parse(encoding.message(3, b"bytes \xff"));
            assert_eq!(parsed, Some((3, Bytes::from_static(b"bytes \xff"))));
        }
        assert_eq!(Encoding::Base64.message(1, b"hi"), Message::text("1aGk="));
        for odd in ["", "/x", "1?"] {
            assert_eq!(Encoding::Base64.parse(Message::text(odd)), None, "{odd:?}");
        }
        assert_eq!(Encoding::Binary.parse(Message::Binary(Bytes::new())), None);
        // As Python's client says it.
        assert_eq!(Encoding::Binary.parse(Message::text("\0typed\n")), Some((0, Bytes::from_static(b"typed\n"))));
    }
}
