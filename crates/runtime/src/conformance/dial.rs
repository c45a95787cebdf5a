//! Connections to a pod's ports, as port-forward, the proxy and probes make them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Harness, Program, eventually, harness::Subjected};
use crate::{Connection, Error};

/// Where the program listens, and where nothing does.
const PORT: u16 = 7;
const CLOSED: u16 = 9;
/// More than everything between the two ends holds.
const BYTES: usize = 8 << 20;

async fn echoes(h: &Harness) -> Option<Subjected<'_>> {
    let mut config = h.config(Program::EchoesConnections(PORT)).await?;
    config.ports = vec![PORT];
    Some(h.start_with(config).await)
}

/// A container may be running before its program listens, and nothing tells when it does: who is refused tries again.
async fn dial(h: &Harness) -> Box<dyn Connection> {
    let trying = async {
        loop {
            match h.runtime.dial(&h.sandbox, PORT).await {
                Ok(connection) => return connection,
                Err(error) => assert!(error.to_string().contains("connection refused"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    eventually("the connection", trying).await
}

async fn echo(connection: &mut Box<dyn Connection>, text: &[u8]) {
    connection.write_all(text).await.expect("written");
    let mut back = vec![0; text.len()];
    eventually("the echo", connection.read_exact(&mut back)).await.expect("read");
    assert_eq!(back, text);
}

pub async fn bytes_go_both_ways_and_each_way_ends(h: &Harness) {
    let Some(container) = echoes(h).await else { return };
    let mut connection = dial(h).await;
    echo(&mut connection, b"ping").await;
    let (mut from, mut to) = tokio::io::split(connection);
    let sending = async {
        to.write_all(&vec![b'x'; BYTES]).await.expect("written");
        to.shutdown().await.expect("ended");
    };
    let mut back = Vec::new();
    let receiving = from.read_to_end(&mut back);
    let (_, read) = eventually("the end", async { tokio::join!(sending, receiving) }).await;
    assert_eq!(read.expect("a clean end"), BYTES, "what was sent before the end comes back after it");
    drop((from, to));
    // The next one is served as well.
    echo(&mut dial(h).await, b"again").await;
    drop(container);
}

pub async fn who_leaves_disturbs_nobody(h: &Harness) {
    let Some(_container) = echoes(h).await else { return };
    for _ in 0..3 {
        let mut connection = dial(h).await;
        // With an answer on its way.
        connection.write_all(&[b'x'; 100]).await.expect("written");
        drop(connection);
    }
    echo(&mut dial(h).await, b"still").await;
}

pub async fn a_closed_port_is_refused(h: &Harness) {
    let Some(container) = echoes(h).await else { return };
    let refused = eventually("the refusal", h.runtime.dial(&h.sandbox, CLOSED)).await.err().expect("nobody listens");
    assert!(refused.to_string().contains("connection refused"), "{refused}");
    let unknown = h.runtime.dial("nothing", PORT).await.err();
    assert!(matches!(unknown, Some(Error::NotFound { .. })), "{unknown:?}");
    h.runtime.stop_container(&container.id, Duration::ZERO).await.expect("stopped");
}

pub async fn who_cannot_says_so(h: &Harness) {
    if !h.runtime.capabilities().port_forward {
        let refused = h.runtime.dial(&h.sandbox, PORT).await.err();
        assert!(matches!(refused, Some(Error::Unsupported(_))), "{refused:?}");
    }
}
