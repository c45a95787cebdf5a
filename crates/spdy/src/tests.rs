//! A connection as a client sees it, frame by frame.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{
    Error, STREAM_BYTES_MAX, Session,
    frame::{Control, Head},
    get,
    headers::Compressor,
};

struct Client {
    io: DuplexStream,
    headers: Compressor,
}

impl Client {
    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let block = self.headers.block(headers);
        let mut frame = BytesMut::new();
        frame.put_slice(&[0x80, 3, 0, 1]);
        frame.put_u32(u32::try_from(10 + block.len()).unwrap());
        frame.put_u32(id);
        frame.put_u32(0);
        frame.put_u16(0);
        frame.put_slice(&block);
        let _ = self.io.write_all(&frame).await;
    }

    async fn data(&mut self, id: u32, flags: u8, data: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32(id);
        frame.put_u32(u32::from(flags) << 24 | u32::try_from(data.len()).unwrap());
        frame.put_slice(data);
        let _ = self.io.write_all(&frame).await;
    }

    async fn control(&mut self, kind: u8, payload: &[u8]) {
        let head = [0x80, 3, 0, kind, 0, 0, 0, u8::try_from(payload.len()).unwrap()];
        self.io.write_all(&[&head[..], payload].concat()).await.unwrap();
    }

    async fn next(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let head = Head::parse(head).unwrap();
        let (Head::Control { length, .. } | Head::Data { length, .. }) = head;
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.unwrap();
        Some((head, payload))
    }

    async fn expect(&mut self, kind: Control) -> Vec<u8> {
        let (head, payload) = self.next().await.unwrap();
        assert!(matches!(&head, Head::Control { kind: k, .. } if *k == kind), "{head:?} instead of {kind:?}");
        payload
    }
}

type Driver = tokio::task::JoinHandle<Result<(), Error>>;

fn start() -> (Client, Session, Driver) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (session, driver) = Session::serve(theirs, Duration::from_secs(3600));
    (Client { io: ours, headers: Compressor::default() }, session, tokio::spawn(driver))
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_ends_each_way() {
    let (mut client, mut session, driver) = start();
    client.open(1, &[("streamType", "data"), ("port", "80")]).await;
    assert_eq!(client.expect(Control::SynReply).await[..4], 1u32.to_be_bytes());
    let mut stream = session.accept().await.unwrap();
    assert_eq!((get(stream.headers(), "streamtype"), get(stream.headers(), "port")), (Some("data"), Some("80")));
    client.data(1, 0, b"ping").await;
    client.data(1, 1, b" pong").await;
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"ping pong");
    stream.write_all(b"answer").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(client.next().await.unwrap(), (Head::Data { stream: 1, flags: 0, length: 6 }, b"answer".to_vec()));
    assert_eq!(client.next().await.unwrap(), (Head::Data { stream: 1, flags: 1, length: 0 }, Vec::new()));
    drop((stream, session));
    client.expect(Control::GoAway).await;
    assert!(client.next().await.is_none());
    drop(client);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_ping_is_answered_and_what_is_unknown_ignored() {
    let (mut client, _session, _driver) = start();
    client.control(9, &[0; 8]).await;
    client.control(4, &[0; 4]).await;
    client.control(77, &[1, 2, 3]).await;
    client.data(9, 0, b"for nobody").await;
    client.control(6, &7u32.to_be_bytes()).await;
    assert_eq!(client.expect(Control::Ping).await, 7u32.to_be_bytes());
}

#[tokio::test]
async fn resets_go_both_ways() {
    let (mut client, mut session, _driver) = start();
    client.open(1, &[]).await;
    client.expect(Control::SynReply).await;
    let mut stream = session.accept().await.unwrap();
    client.control(3, &[0, 0, 0, 1, 0, 0, 0, 5]).await;
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(stream.write_all(b"x").await.is_err());
    client.open(3, &[]).await;
    client.expect(Control::SynReply).await;
    drop(session.accept().await.unwrap());
    assert_eq!(client.expect(Control::RstStream).await, [0, 0, 0, 3, 0, 0, 0, 5]);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_its_sender_back() {
    let (mut client, mut session, _driver) = start();
    client.open(1, &[]).await;
    client.expect(Control::SynReply).await;
    let mut stream = session.accept().await.unwrap();
    let sender = tokio::spawn(async move {
        for _ in 0..64 {
            client.data(1, 0, &[7; 64 << 10]).await;
        }
        client.data(1, 1, b"").await;
        client
    });
    // More than the stream's buffer and the pipe hold together: it cannot end by itself.
    tokio::task::yield_now().await;
    assert!(64 * (64 << 10) > STREAM_BYTES_MAX + (1 << 20) && !sender.is_finished());
    let mut total = 0;
    let mut buffer = vec![0; 8 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        total += count;
    }
    assert_eq!(total, 64 * (64 << 10));
    sender.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_ends_its_connection() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[..], &[0x80, 2, 0, 1, 0, 0, 0, 0]] {
        let (mut client, mut session, driver) = start();
        client.io.write_all(bytes).await.unwrap();
        drop(client);
        assert!(session.accept().await.is_none());
        let _ = driver.await.unwrap();
    }
    let (mut client, mut session, driver) = start();
    client.open(2, &[]).await;
    assert!(session.accept().await.is_none());
    assert!(matches!(driver.await.unwrap(), Err(Error::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_both_ways_ends() {
    let (ours, theirs) = tokio::io::duplex(64);
    let (_session, driver) = Session::serve(theirs, Duration::from_secs(20));
    let started = tokio::time::Instant::now();
    assert!(driver.await.is_err());
    assert_eq!(started.elapsed().as_secs(), 20);
    drop(ours);
}

proptest::proptest! {
    /// Frames that look like frames, in any order, and bytes that do not.
    #[test]
    fn no_frames_do_harm(frames in proptest::collection::vec(
        (0u8..12, 0u8..4, 0u32..6, proptest::collection::vec(proptest::num::u8::ANY, 0..60)), 0..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut session, driver) = start();
            let accepting = tokio::spawn(async move { while session.accept().await.is_some() {} });
            for (kind, flags, id, payload) in frames {
                match kind {
                    0 => client.data(id, flags, &payload).await,
                    1 if flags == 0 => client.open(id, &[("streamType", "data")]).await,
                    kind => {
                        let payload = [&id.to_be_bytes()[..], &payload].concat();
                        let head = [0x80, 3, 0, kind, flags, 0, 0, u8::try_from(payload.len()).unwrap()];
                        // A connection that was ended takes no more.
                        if client.io.write_all(&[&head[..], &payload].concat()).await.is_err() {
                            break;
                        }
                    }
                }
            }
            drop(client);
            let _ = tokio::time::timeout(Duration::from_secs(10), driver).await.expect("it ends");
            accepting.await.unwrap();
        });
    }
}
