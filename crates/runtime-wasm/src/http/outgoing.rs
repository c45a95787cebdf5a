//! Requests that guests send (`wasi:http/outgoing-handler`): to other pods by the network's table, elsewhere by the pod's
//! policy, over TLS with the system's certificates.
//!
//! What must stay true: the address that was asked for is the one that the policy was asked about (names are looked up here,
//! once); a connection counts as one of the container's sockets; nothing waits without a limit. Each request has a connection
//! of its own.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Response, Uri, header,
    uri::{PathAndQuery, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::tls;
use crate::{
    net::{ContainerNet, Protocol, names::LookupError, pod::Unreachable},
    process::Warn,
    spin::Hosts,
};

/// Where the guest asks for no other limit: to a connection (with its TLS), to the response's headers, between two parts of
/// its body.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIME: Duration = Duration::from_secs(60);
const BETWEEN_BYTES_TIME: Duration = Duration::from_secs(60);
/// The most that it may ask for.
const TIME_MAX: Duration = Duration::from_secs(600);
/// Of a response; larger ones fail.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// What one connection holds of bodies that nobody takes: part of what its socket counts (see `SOCKET_BYTES` of the network).
const WINDOW_BYTES: u32 = 128 << 10;
const SEND_BYTES: usize = 64 << 10;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// The response, and what goes on while its body is read.
pub type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// What the guests of a container share to send requests.
#[derive(Clone)]
pub struct Outgoing {
    pub net: Arc<ContainerNet>,
    pub warn: Warn,
    /// Those that a Spin component may ask; none for other programs, whom the pod's policy alone bounds.
    pub hosts: Option<Arc<Hosts>>,
}

impl Outgoing {
    pub async fn send(self, request: Request<WasiBody>, options: Option<RequestOptions>) -> Result<Sent, Error> {
        let options = options.unwrap_or_default();
        let limit = |asked: Option<Duration>, default: Duration| asked.unwrap_or(default).min(TIME_MAX);
        let connect = limit(options.connect_timeout, CONNECT_TIME);
        let first_byte = limit(options.first_byte_timeout, FIRST_BYTE_TIME);
        let between_bytes = limit(options.between_bytes_timeout, BETWEEN_BYTES_TIME);
        let target = Target::of(request.uri())?;
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.allow(target.scheme(), &target.host, target.port)) {
            (self.warn)("NetworkDenied", target.unlisted());
            return Err(Error::HttpRequestDenied);
        }
        // With the connection, until its last byte is read.
        let permit = self.net.socket().ok_or_else(|| {
            self.net.full(&self.warn);
            Error::ConnectionLimitReached
        })?;
        let opening = async {
            let stream = self.connect(&target).await?;
            handshake(&target, stream).await
        };
        let mut client = timeout(connect, opening).await.map_err(|_| Error::ConnectionTimeout)??;
        let response = timeout(first_byte, client.sender.send(request)).await;
        let response = response.map_err(|_| Error::ConnectionReadTimeout)??;
        let response = response.map(|body| TimedBody::new(body, between_bytes).boxed_unsync());
        let running = client.connection;
        let io = async move {
            running.await;
            drop(permit);
            Ok(())
        };
        Ok((response, Box::new(io)))
    }

    /// To the first of the target's addresses that answers and may be asked.
    async fn connect(&self, target: &Target) -> Result<TcpStream, Error> {
        let addresses = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.net.pod.lookup(&target.host).await.map_err(not_found)?,
        };
        let mut last = Error::DestinationNotFound;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, target.port);
            match self.net.pod.connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = self.unreachable(address, error),
            }
        }
        Err(last)
    }

    fn unreachable(&self, address: SocketAddr, error: io::Error) -> Error {
        if let Err(Unreachable::Denied(denied)) = self.net.pod.route(Protocol::Tcp, address) {
            self.net.denied(&self.warn, &denied);
            return Error::DestinationIpProhibited;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            io::ErrorKind::TimedOut => Error::ConnectionTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
            _ => Error::DestinationUnavailable,
        }
    }
}

fn not_found(error: LookupError) -> Error {
    match error {
        LookupError::Denied => Error::HttpRequestDenied,
        LookupError::Temporary => Error::DnsTimeout,
        LookupError::Invalid => Error::HttpRequestUriInvalid,
        LookupError::Unknown => Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None },
    }
}

/// Whom a request is for.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// For who reads of a request that was denied.
    fn unlisted(&self) -> String {
        let (scheme, host, port) = (self.scheme(), &self.host, self.port);
        format!("{scheme}://{host}:{port} is not among the component's allowed_outbound_hosts: add it in spin.toml")
    }

    fn of(uri: &Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        // A user and a password would be sent in the clear, or not at all.
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') || !authority.as_str().ends_with(authority.host()) => {
                return Err(Error::HttpRequestUriInvalid);
            }
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

struct Client {
    sender: Sender,
    connection: AbortOnDropJoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<WasiBody>),
    Http2(http2::SendRequest<WasiBody>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// HTTP/2 where TLS agreed on it, HTTP/1.1 otherwise.
async fn handshake(target: &Target, stream: TcpStream) -> Result<Client, Error> {
    let (stream, two): (Box<dyn Stream>, bool) = if target.tls {
        let stream = tls::connect(&target.host, stream).await?;
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        (Box::new(stream), two)
    } else {
        (Box::new(stream), false)
    };
    let stream = TokioIo::new(stream);
    if two {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES);
        let (sender, connection) = builder.handshake(stream).await?;
        let connection = spawn(async { drop(connection.await) });
        return Ok(Client { sender: Sender::Http2(sender), connection });
    }
    let (sender, connection) = http1::Builder::new().max_buf_size(HEADER_BYTES_MAX).handshake(stream).await?;
    let connection = spawn(async { drop(connection.await) });
    Ok(Client { sender: Sender::Http1(sender), connection })
}

impl Sender {
    async fn send(&mut self, mut request: Request<WasiBody>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Http1(sender) => {
                // To the server itself only the path is said; to whom it is said stands in the host header.
                let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
                // A guest's may be empty, or a query alone.
                let root = if path.starts_with('/') || path == "*" { "" } else { "/" };
                *request.uri_mut() = format!("{root}{path}").parse().map_err(|_| Error::HttpRequestUriInvalid)?;
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                request.headers_mut().remove(header::HOST);
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// A body whose parts come in time.
struct TimedBody {
    body: Incoming,
    limit: Duration,
    /// Set while a part is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, timer: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_whom_it_is_for() {
        let target = |host: &str, port, tls| Some(Target { host: host.to_owned(), port, tls });
        let rows = [
            ("http://a.b/c", target("a.b", 80, false)),
            ("https://a.b", target("a.b", 443, true)),
            ("https://a.b:8443/", target("a.b", 8443, true)),
            ("http://127.0.0.1:8080", target("127.0.0.1", 8080, false)),
            ("http://[::1]:81/", target("::1", 81, false)),
            ("https://[2001:db8::1]/", target("2001:db8::1", 443, true)),
            ("http://user:secret@a.b/", None),
            ("http://a.b:99999/", None),
            ("/path", None),
        ];
        for (uri, expected) in rows {
            assert_eq!(Target::of(&uri.parse().expect("a URI")).ok(), expected, "{uri}");
        }
    }
}
