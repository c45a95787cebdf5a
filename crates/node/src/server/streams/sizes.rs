//! Sizes of the client's terminal: JSON objects one after the other, in messages or in a stream.

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use skiff_runtime::{TerminalSize, streams::Reader};
use tokio::{io::AsyncReadExt, sync::mpsc};

/// More than this without a whole size in it, and the client's sizes are not read any more.
const SIZE_BYTES_MAX: usize = 4 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Hands on each size until the client or the process ends.
pub(super) async fn copy(mut from: Reader, to: mpsc::Sender<TerminalSize>) {
    let mut buffer = BytesMut::new();
    while buffer.len() < SIZE_BYTES_MAX && matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
        loop {
            let mut sizes = serde_json::Deserializer::from_slice(&buffer).into_iter::<Size>();
            let size = match sizes.next() {
                Some(Ok(size)) => TerminalSize { width: size.width, height: size.height },
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => return,
                None => break,
            };
            let read = sizes.byte_offset();
            buffer.advance(read);
            if to.send(size).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn sizes_arrive_however_they_are_cut() {
        let (mut client, ours) = tokio::io::duplex(16);
        let (to, mut sizes) = mpsc::channel(8);
        let copying = tokio::spawn(copy(Box::pin(ours), to));
        client.write_all(br#"{"Width":80,"Height":24}"#).await.expect("written");
        client.write_all(b"\n{\"Width\":100,\"Hei").await.expect("written");
        client.write_all(b"ght\":50} nonsense").await.expect("written");
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 100, height: 50 }));
        assert_eq!(sizes.recv().await, None);
        copying.await.expect("ended");
    }
}
