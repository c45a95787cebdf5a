//! The life of a connection, by the clock: what a client sees that says nothing, closes, or does not read.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use super::*;
use crate::server::streams::tunnel;

type Client = Socket<DuplexStream>;

async fn sockets(buffer: usize) -> (Client, Socket<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(buffer);
    (WebSocketStream::from_raw_socket(ours, Role::Client, None).await, open(theirs).await)
}

/// A conversation that lasts until the test drops what it is given, with one channel that is read.
async fn conversation() -> (Client, Channels, tokio::task::JoinHandle<()>) {
    let (client, server) = sockets(1 << 20).await;
    let (channels, connection) = Channels::serve(server, Encoding::Binary, &[0]);
    (client, channels, tokio::spawn(connection))
}

/// Reads what comes (which answers pings) until the connection ends; how many pings there were.
async fn pings(client: &mut Client) -> u64 {
    let mut count = 0;
    while let Some(Ok(message)) = client.next().await {
        count += u64::from(message.is_ping());
    }
    count
}

fn about(elapsed: Duration, expected: Duration) -> bool {
    elapsed >= expected && elapsed < expected + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_there_and_silent_is_pinged_and_ends_after_four_hours() {
    let (mut client, _channels, connection) = conversation().await;
    let start = Instant::now();
    // The last one is due with the end: either may come first.
    let most = IDLE.as_secs() / PING_EVERY.as_secs();
    let pings = pings(&mut client).await;
    assert!(pings == most || pings == most - 1, "{pings} of {most}");
    assert!(about(start.elapsed(), IDLE), "{:?}", start.elapsed());
    connection.await.expect("it ended");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_in_either_direction_begins_the_time_again() {
    let (mut client, mut channels, connection) = conversation().await;
    let start = Instant::now();
    tokio::time::sleep(IDLE - PING_EVERY / 2).await;
    client.send(Encoding::Binary.message(0, b"typed")).await.expect("sent");
    tokio::time::sleep(IDLE - PING_EVERY / 2).await;
    channels.send(1, b"printed").await;
    pings(&mut client).await;
    assert!(about(start.elapsed(), IDLE * 3 - PING_EVERY), "{:?}", start.elapsed());
    connection.await.expect("it ended");
}

/// Neither what a process prints nor a ping waits for ever for somebody who does not read.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_left_after_four_hours() {
    let (_client, server) = sockets(1 << 10).await;
    let (channels, connection) = Channels::serve(server, Encoding::Binary, &[]);
    let connection = tokio::spawn(connection);
    let mut stdout = channels.writer(1);
    let start = Instant::now();
    let printing = tokio::spawn(async move { stdout.write_all(&vec![b'x'; 10 << 20]).await });
    connection.await.expect("it ended");
    assert!(about(start.elapsed(), IDLE), "{:?}", start.elapsed());
    printing.await.expect("it ended").expect_err("nobody reads");
}

#[tokio::test(start_paused = true)]
async fn a_clients_close_is_answered() {
    let (mut client, channels, connection) = conversation().await;
    let start = Instant::now();
    client.close(None).await.expect("sent");
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))), "the answer");
    assert!(client.next().await.is_none(), "and the end");
    connection.await.expect("it ended");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(channels);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_lives_as_long_as_its_channels_would() {
    let (mut client, server) = sockets(1 << 20).await;
    let (mut stream, connection) = tunnel::open(server);
    let connection = tokio::spawn(connection);
    client.send(Message::Binary(Bytes::from_static(b"in"))).await.expect("sent");
    client.send(Message::Binary(Bytes::from_static(b"side"))).await.expect("sent");
    let mut read = [0; 6];
    stream.read_exact(&mut read).await.expect("read");
    assert_eq!(&read, b"inside");
    let start = Instant::now();
    assert!(pings(&mut client).await > 0);
    assert!(about(start.elapsed(), IDLE), "{:?}", start.elapsed());
    connection.await.expect("it ended");
    assert_eq!(stream.read(&mut read).await.expect("no error"), 0, "who reads it learns the end");
}
