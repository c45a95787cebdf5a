//! A load of HTTP/1.1 requests: connections that are kept, each with one request at a time, as fast as they are answered.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nhost: bench\r\n\r\n";
const RESPONSE_BYTES_MAX: usize = 64 << 10;

pub struct Done {
    pub requests: u64,
    pub elapsed: Duration,
}

/// Requests for that long. One that is not answered with 200 is an error.
pub async fn run(address: SocketAddr, connections: usize, time: Duration) -> Result<Done> {
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..connections {
        all.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut count = 0;
            while begun.elapsed() < time {
                connection.request().await?;
                count += 1;
            }
            Ok::<u64, anyhow::Error>(count)
        });
    }
    let mut requests = 0;
    while let Some(done) = all.join_next().await {
        requests += done??;
    }
    Ok(Done { requests, elapsed: begun.elapsed() })
}

/// One request on a connection of its own.
pub async fn once(address: SocketAddr) -> Result<()> {
    Connection::open(address).await?.request().await
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    async fn request(&mut self) -> Result<()> {
        self.stream.write_all(REQUEST).await?;
        self.buffer.clear();
        while !complete(&self.buffer)? {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if self.buffer.len() > RESPONSE_BYTES_MAX {
                bail!("a response of more than {RESPONSE_BYTES_MAX} bytes");
            }
        }
        Ok(())
    }
}

/// Whether these are all bytes of a response.
fn complete(bytes: &[u8]) -> Result<bool> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&bytes[..end]).context("a response that is not HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        bail!("answered with {status}");
    }
    let body = &bytes[end + 4..];
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(body.len() >= value.trim().parse()?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"));
        }
    }
    bail!("a response that does not say how long it is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_to_its_end() {
        let rows: [(&[u8], Option<bool>); 8] = [
            (b"HTTP/1.1 200 OK\r\n", Some(false)),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Some(false)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Some(true)),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", Some(false)),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Some(true)),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Some(true)),
            (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\n\r\n", None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(complete(bytes).ok(), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
