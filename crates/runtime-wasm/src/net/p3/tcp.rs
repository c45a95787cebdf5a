//! TCP sockets of WASI 0.3.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use rustix::fd::{AsFd, BorrowedFd};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use wasmtime::{
    StoreContextMut,
    component::{Accessor, FutureReader, LinkerInstance, Resource, StreamReader},
};
use wasmtime_wasi::{
    p3::bindings::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress},
    sockets::SocketAddrUse,
};

use super::{
    super::{
        container::{GuestNet, SocketPermit},
        pod::{BACKLOG_MAX, Bound, Route, other_port_helps},
        sockets::{bind_to, loopback, one_remote, shown},
        table::Protocol,
    },
    Answer, Class, Pending, not_bindable, options, permit,
    streams::{Accepting, Receiving, Sending},
    unreachable, with, within,
};
use crate::guest::Host;

/// Connections that wait to be accepted unless the guest says otherwise.
const BACKLOG_DEFAULT: u32 = 128;

/// The guest's `tcp-socket`.
pub struct TcpSocket {
    /// As it was made; the host's may be IPv4 for an IPv6 one.
    v6: bool,
    state: State,
    backlog: u32,
    /// As the guest asked for, with the port that it got.
    local: Option<SocketAddr>,
    /// As the guest named it, or as it was accepted.
    remote: Option<SocketAddr>,
    bound: Option<Arc<Bound>>,
    permit: Arc<SocketPermit>,
}

enum State {
    Idle { socket: tokio::net::TcpSocket, v6: bool },
    Connecting,
    Listening(Arc<TcpListener>),
    Connected { stream: Arc<Stream>, sending: bool, receiving: bool },
    Closed(ErrorCode),
}

/// A connection, which its streams may hold longer than its socket.
pub struct Stream {
    pub stream: TcpStream,
    _permit: Arc<SocketPermit>,
}

impl TcpSocket {
    fn new(net: &GuestNet, v6: bool) -> Answer<Self> {
        let permit = Arc::new(permit(net)?);
        // IPv4 whatever the guest says: so are the pods' addresses.
        let socket = host_socket(false)?;
        options::bound_buffers(&socket)?;
        let state = State::Idle { socket, v6: false };
        Ok(Self { v6, state, backlog: BACKLOG_DEFAULT, local: None, remote: None, bound: None, permit })
    }

    /// One that was accepted at a pod's address.
    pub fn accepted(v6: bool, stream: TcpStream, at: SocketAddrV4, from: SocketAddr, permit: SocketPermit) -> Self {
        let permit = Arc::new(permit);
        let stream = Arc::new(Stream { stream, _permit: permit.clone() });
        Self {
            v6,
            state: State::Connected { stream, sending: false, receiving: false },
            backlog: BACKLOG_DEFAULT,
            local: Some(shown(v6, at.into())),
            remote: Some(shown(v6, from)),
            bound: None,
            permit,
        }
    }

    fn idle(&self) -> Answer<&tokio::net::TcpSocket> {
        match &self.state {
            State::Idle { socket, .. } => Ok(socket),
            State::Closed(error) => Err(error.clone()),
            _ => Err(ErrorCode::InvalidState),
        }
    }

    /// The host's socket, and whether it is IPv6.
    fn host(&self) -> Answer<(BorrowedFd<'_>, bool)> {
        let v6 = |address: std::io::Result<SocketAddr>| address.is_ok_and(|address| address.is_ipv6());
        match &self.state {
            State::Idle { socket, v6 } => Ok((socket.as_fd(), *v6)),
            State::Listening(listener) => Ok((listener.as_fd(), false)),
            State::Connected { stream, .. } => Ok((stream.stream.as_fd(), v6(stream.stream.local_addr()))),
            State::Connecting => Err(ErrorCode::InvalidState),
            State::Closed(error) => Err(error.clone()),
        }
    }

    /// Puts a new socket of the host in place of one that is not connected yet, with the same options.
    fn renew(&mut self, to_v6: bool) -> Answer<()> {
        let fresh = host_socket(to_v6)?;
        let (old, v6) = self.host()?;
        options::copy_tcp(old, v6, &fresh, to_v6)?;
        self.state = State::Idle { socket: fresh, v6: to_v6 };
        Ok(())
    }

    fn bind_host(&self, ip: Ipv4Addr, port: u16) -> Answer<()> {
        let socket = self.idle()?;
        // An address whose last connection has not quite ended can be bound.
        socket.set_reuseaddr(true)?;
        match socket.bind((ip, port).into()) {
            Err(error) if port != 0 && other_port_helps(&error) => Ok(socket.bind((ip, 0).into())?),
            done => Ok(done?),
        }
    }

    fn bind(&mut self, net: &GuestNet, wanted: IpSocketAddress) -> Answer<()> {
        self.idle()?;
        if self.local.is_some() {
            return Err(ErrorCode::InvalidState);
        }
        let (pod, wanted) = (&net.shared.pod, SocketAddr::from(wanted));
        let to = bind_to(pod.ip(), self.v6, wanted.ip()).map_err(not_bindable)?;
        let port = wanted.port();
        if !pod.permits(SocketAddr::new(pod.ip().into(), port), SocketAddrUse::TcpBind) {
            return Err(ErrorCode::AccessDenied);
        }
        let bound = if port == 0 { None } else { Some(pod.bind(Protocol::Tcp, port, to.own)?) };
        self.bind_host(pod.ip(), port)?;
        let bound = match bound {
            Some(bound) => bound,
            None => pod.bind(Protocol::Tcp, self.idle()?.local_addr()?.port(), to.own)?,
        };
        self.local = Some(SocketAddr::new(wanted.ip(), bound.address.port()));
        self.bound = Some(Arc::new(bound));
        Ok(())
    }

    /// The host's socket and where it has to connect to.
    fn start_connect(&mut self, net: &GuestNet, to: SocketAddr) -> Answer<(tokio::net::TcpSocket, SocketAddr)> {
        self.idle()?;
        if !one_remote(self.v6, to) {
            return Err(ErrorCode::InvalidArgument);
        }
        let pod = &net.shared.pod;
        let remote = match pod.route(Protocol::Tcp, to) {
            Ok(Route::Pod(actual)) => {
                if self.bound.is_none() {
                    self.idle()?.bind((pod.ip(), 0).into())?;
                }
                actual.into()
            }
            Ok(Route::Outside(address)) => {
                // A socket on the pod's address reaches pods alone.
                if self.bound.is_some() || address.is_ipv6() {
                    self.renew(address.is_ipv6())?;
                }
                address
            }
            Err(error) => return Err(unreachable(net, &error)),
        };
        if !pod.permits(remote, SocketAddrUse::TcpConnect) {
            return Err(ErrorCode::AccessDenied);
        }
        match std::mem::replace(&mut self.state, State::Connecting) {
            State::Idle { socket, .. } => {
                self.remote = Some(to);
                Ok((socket, remote))
            }
            state => {
                self.state = state;
                Err(ErrorCode::InvalidState)
            }
        }
    }

    /// As the system does, a socket at any address takes the one that its peer sees. The node's own address, from which it
    /// reaches the outside, is not the guest's business.
    fn local_to_peer(&self, pod: Ipv4Addr, actual: Option<SocketAddr>) -> SocketAddr {
        let port = self.local.or(actual).map_or(0, |local| local.port());
        match self.local.filter(|local| !local.ip().is_unspecified()) {
            Some(local) => local,
            None if self.remote.is_some_and(|to| to.ip().is_loopback()) => SocketAddr::new(loopback(self.v6), port),
            None => shown(self.v6, SocketAddr::new(pod.into(), port)),
        }
    }

    fn connected(&mut self, net: &GuestNet, connected: std::io::Result<TcpStream>) -> Answer<()> {
        match connected {
            Ok(stream) => {
                self.local = Some(self.local_to_peer(net.shared.pod.ip(), stream.local_addr().ok()));
                let stream = Arc::new(Stream { stream, _permit: self.permit.clone() });
                self.state = State::Connected { stream, sending: false, receiving: false };
                Ok(())
            }
            Err(error) => {
                let code = ErrorCode::from(error);
                self.state = State::Closed(code.clone());
                Err(code)
            }
        }
    }

    fn listen(&mut self, net: &GuestNet) -> Answer<Accepting> {
        self.idle()?;
        if self.local.is_none() {
            let any = if self.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            self.bind(net, SocketAddr::new(any, 0).into())?;
        }
        let Some(bound) = self.bound.clone() else { return Err(ErrorCode::InvalidState) };
        let SocketAddr::V4(actual) = self.idle()?.local_addr()? else { return Err(ErrorCode::InvalidState) };
        if !net.shared.pod.permits(actual.into(), SocketAddrUse::TcpListen) {
            return Err(ErrorCode::AccessDenied);
        }
        let State::Idle { socket, .. } = std::mem::replace(&mut self.state, State::Closed(ErrorCode::Other(None)))
        else {
            return Err(ErrorCode::InvalidState);
        };
        let listener = Arc::new(socket.listen(self.backlog)?);
        bound.listens_at(actual);
        self.state = State::Listening(listener.clone());
        Ok(Accepting::new(self.v6, listener, bound, self.permit.clone(), net))
    }

    fn set_backlog(&mut self, value: u64) -> Answer<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        let backlog = u32::try_from(value).unwrap_or(BACKLOG_MAX).min(BACKLOG_MAX);
        match &self.state {
            State::Idle { .. } => {}
            State::Listening(listener) => rustix::net::listen(listener, i32::try_from(backlog).unwrap_or(i32::MAX))
                .map_err(|_| ErrorCode::NotSupported)?,
            State::Closed(error) => return Err(error.clone()),
            _ => return Err(ErrorCode::InvalidState),
        }
        self.backlog = backlog;
        Ok(())
    }

    fn local(&self) -> Answer<IpSocketAddress> {
        match &self.state {
            State::Connecting => Err(ErrorCode::InvalidState),
            State::Closed(error) => Err(error.clone()),
            _ => self.local.map(Into::into).ok_or(ErrorCode::InvalidState),
        }
    }

    fn remote(&self) -> Answer<IpSocketAddress> {
        match &self.state {
            State::Connected { .. } => self.remote.map(Into::into).ok_or(ErrorCode::InvalidState),
            State::Closed(error) => Err(error.clone()),
            _ => Err(ErrorCode::InvalidState),
        }
    }

    /// The connection, for one direction, once.
    fn take(&mut self, which: fn(&mut bool, &mut bool) -> bool) -> Answer<Arc<Stream>> {
        match &mut self.state {
            State::Connected { stream, sending, receiving } => {
                if which(sending, receiving) {
                    Err(ErrorCode::InvalidState)
                } else {
                    Ok(stream.clone())
                }
            }
            State::Closed(error) => Err(error.clone()),
            _ => Err(ErrorCode::InvalidState),
        }
    }
}

fn host_socket(v6: bool) -> std::io::Result<tokio::net::TcpSocket> {
    if v6 { tokio::net::TcpSocket::new_v6() } else { tokio::net::TcpSocket::new_v4() }
}

pub fn add_to_linker(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    let mut class = Class::of::<TcpSocket>(types, "tcp-socket")?;
    class.create(TcpSocket::new)?;
    class.address("bind", TcpSocket::bind)?;
    class.get("get-local-address", TcpSocket::local)?;
    class.get("get-remote-address", TcpSocket::remote)?;
    class.get("get-is-listening", |s: &TcpSocket| matches!(s.state, State::Listening(_)))?;
    class.get(
        "get-address-family",
        |s: &TcpSocket| {
            if s.v6 { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 }
        },
    )?;
    class.set("set-listen-backlog-size", TcpSocket::set_backlog)?;
    class.get("get-keep-alive-enabled", |s: &TcpSocket| options::keep_alive(s.host()?.0))?;
    class.set("set-keep-alive-enabled", |s: &mut TcpSocket, on| options::set_keep_alive(s.host()?.0, on))?;
    class.get("get-keep-alive-idle-time", |s: &TcpSocket| options::keep_alive_idle(s.host()?.0))?;
    class.set("set-keep-alive-idle-time", |s: &mut TcpSocket, v| options::set_keep_alive_idle(s.host()?.0, v))?;
    class.get("get-keep-alive-interval", |s: &TcpSocket| options::keep_alive_interval(s.host()?.0))?;
    class.set("set-keep-alive-interval", |s: &mut TcpSocket, v| options::set_keep_alive_interval(s.host()?.0, v))?;
    class.get("get-keep-alive-count", |s: &TcpSocket| options::keep_alive_count(s.host()?.0))?;
    class.set("set-keep-alive-count", |s: &mut TcpSocket, v| options::set_keep_alive_count(s.host()?.0, v))?;
    class.get("get-hop-limit", |s: &TcpSocket| s.host().and_then(|(fd, v6)| options::hop_limit(fd, v6)))?;
    class
        .set("set-hop-limit", |s: &mut TcpSocket, v| s.host().and_then(|(fd, v6)| options::set_hop_limit(fd, v6, v)))?;
    class.get("get-receive-buffer-size", |s: &TcpSocket| options::receive_buffer(s.host()?.0))?;
    class.set("set-receive-buffer-size", |s: &mut TcpSocket, v| options::set_receive_buffer(s.host()?.0, v))?;
    class.get("get-send-buffer-size", |s: &TcpSocket| options::send_buffer(s.host()?.0))?;
    class.set("set-send-buffer-size", |s: &mut TcpSocket, v| options::set_send_buffer(s.host()?.0, v))?;
    types.func_wrap_concurrent("[method]tcp-socket.connect", connect)?;
    types.func_wrap("[method]tcp-socket.listen", listen)?;
    types.func_wrap("[method]tcp-socket.send", send)?;
    types.func_wrap("[method]tcp-socket.receive", receive)
}

type This = Resource<TcpSocket>;
/// What comes, and how it ended.
type Received = (StreamReader<u8>, FutureReader<Answer<()>>);

fn connect(store: &Accessor<Host>, (this, to): (This, IpSocketAddress)) -> Pending<'_, (Answer<()>,)> {
    Box::pin(async move {
        let (socket, remote) = match within(store, &this, |socket, net| socket.start_connect(net, to.into()))? {
            Ok(started) => started,
            Err(code) => return Ok((Err(code),)),
        };
        let connected = socket.connect(remote).await;
        Ok((within(store, &this, |socket, net| socket.connected(net, connected))?,))
    })
}

fn listen(
    mut store: StoreContextMut<'_, Host>,
    (this,): (This,),
) -> wasmtime::Result<(Answer<StreamReader<Resource<TcpSocket>>>,)> {
    Ok((match with(store.data_mut(), &this, TcpSocket::listen)? {
        Ok(accepting) => Ok(StreamReader::new(&mut store, accepting)?),
        Err(code) => Err(code),
    },))
}

fn send(
    mut store: StoreContextMut<'_, Host>,
    (this, mut data): (This, StreamReader<u8>),
) -> wasmtime::Result<(FutureReader<Answer<()>>,)> {
    let (ended, end) = oneshot::channel();
    let taken = with(store.data_mut(), &this, |socket, _| socket.take(|sending, _| std::mem::replace(sending, true)))?;
    match taken {
        Ok(stream) => data.pipe(&mut store, Sending::new(stream, ended))?,
        Err(code) => {
            data.close(&mut store)?;
            let _ = ended.send(Err(code));
        }
    }
    Ok((FutureReader::new(&mut store, end)?,))
}

fn receive(mut store: StoreContextMut<'_, Host>, (this,): (This,)) -> wasmtime::Result<(Received,)> {
    let (ended, end) = oneshot::channel();
    let taken =
        with(store.data_mut(), &this, |socket, _| socket.take(|_, receiving| std::mem::replace(receiving, true)))?;
    let data = match taken {
        Ok(stream) => StreamReader::new(&mut store, Receiving::new(stream, ended))?,
        Err(code) => {
            let _ = ended.send(Err(code));
            StreamReader::new(&mut store, std::iter::empty())?
        }
    };
    Ok(((data, FutureReader::new(&mut store, end)?),))
}
