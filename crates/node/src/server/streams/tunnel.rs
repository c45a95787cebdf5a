//! Bytes inside of a WebSocket: binary messages are a stream, whatever their borders (`SPDY/3.1+portforward.k8s.io`).

use std::future::Future;

use bytes::BytesMut;
use futures::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    CHUNK_BYTES, LINGER,
    websocket::{Activity, Socket, answer_close, write},
};

/// Between the socket and who reads and writes the stream, per direction.
const PIPE_BYTES: usize = 64 << 10;

/// The stream, and the future that drives it.
pub(super) fn open<IO>(socket: Socket<IO>) -> (DuplexStream, impl Future<Output = ()> + use<IO>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    (theirs, drive(socket, ours))
}

async fn drive<IO: AsyncRead + AsyncWrite + Unpin>(socket: Socket<IO>, pipe: DuplexStream) {
    let (sink, mut stream) = socket.split();
    let (mut from, mut to) = tokio::io::split(pipe);
    let activity = Activity::start();
    let (out, messages) = mpsc::channel(1);
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Close(_) => {
                    answer_close(&mut stream).await;
                    break;
                }
                Message::Binary(bytes) => {
                    activity.touch();
                    // Who reads it has ended: what still comes is dropped until the client closes.
                    let _ = to.write_all(&bytes).await;
                }
                _ => {}
            }
        }
        let _ = to.shutdown().await;
    };
    let sending = async {
        let feeding = async {
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
                match from.read_buf(&mut chunk).await {
                    Ok(1..) if out.send(Message::Binary(chunk.freeze())).await.is_ok() => {}
                    _ => break,
                }
            }
            drop(out);
        };
        tokio::join!(feeding, write(sink, messages, &activity)).1
    };
    tokio::pin!(receiving);
    tokio::select! {
        () = &mut receiving => {}
        sent = sending => if sent {
            let _ = timeout(LINGER, receiving).await;
        },
        () = activity.idle() => {}
    }
}
