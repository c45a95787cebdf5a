//! One pod's place in the network: where its guests' bind and connect lead.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, atomic::AtomicUsize},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use wasmtime_wasi::sockets::SocketAddrUse;

use super::{
    Network,
    policy::{self, Denied, Mode, Policy, Why},
    sockets::BUFFER_BYTES_MAX,
    table::Protocol,
};

/// Connections that may wait to be accepted, however many the guest asks for (128 if it does not).
pub const BACKLOG_MAX: u32 = 1024;

/// What the network knows of a pod.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    pub namespace: String,
    pub hostname: String,
    pub mode: Mode,
}

/// One pod's place in the network.
pub struct PodNet {
    network: Arc<Network>,
    facts: PodFacts,
    ip: Ipv4Addr,
    offset: u32,
    /// Look-ups of outside names that are under way.
    pub(super) lookups: Arc<AtomicUsize>,
}

/// Where a guest's packet to an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a pod of this process, from the sender's own address.
    Pod(SocketAddrV4),
    /// Out of the pods' network.
    Outside(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// A pod's address, and nothing listens there.
    Refused,
    Denied(Denied),
}

impl From<Unreachable> for io::Error {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::Refused => io::ErrorKind::ConnectionRefused.into(),
            Unreachable::Denied(denied) => Self::new(io::ErrorKind::PermissionDenied, denied.to_string()),
        }
    }
}

impl PodNet {
    pub(super) fn new(network: Arc<Network>, facts: PodFacts, offset: u32) -> Self {
        let ip = network.block.address(offset);
        Self { network, facts, ip, offset, lookups: Arc::default() }
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub fn facts(&self) -> &PodFacts {
        &self.facts
    }

    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Where an address leads, seen from inside of this pod. The only place that decides it: Services belong here.
    ///
    /// # Errors
    /// When nothing listens at a pod's address, or when the pod may not go there.
    pub fn route(&self, protocol: Protocol, to: SocketAddr) -> Result<Route, Unreachable> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if self.facts.mode == Mode::None {
            return Err(Unreachable::Denied(Denied { address: to, why: Why::NoNetwork }));
        }
        let own = match to.ip() {
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST || ip == self.ip,
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        let pod = match to.ip() {
            _ if own => Some(self.ip),
            IpAddr::V4(ip) if self.network.block.contains(ip) => Some(ip),
            _ => None,
        };
        if let Some(pod) = pod {
            let found = self.network.table.lock().find(protocol, SocketAddrV4::new(pod, to.port()));
            let found = found.filter(|found| own || !found.own).ok_or(Unreachable::Refused)?;
            return Ok(Route::Pod(found.actual));
        }
        if protocol == Protocol::Tcp
            && let Some(actual) = self.network.service(to)
        {
            return Ok(Route::Outside(actual));
        }
        let policy = self.policy(protocol);
        policy::egress(&policy, to.ip(), to.port()).map_err(Unreachable::Denied)?;
        Ok(Route::Outside(to))
    }

    /// The second line of defence, asked of every system call that a guest's socket makes: whether a socket may use an
    /// address of the host. Guests never name these.
    pub fn permits(&self, address: SocketAddr, used: SocketAddrUse) -> bool {
        if self.facts.mode == Mode::None {
            return false;
        }
        let own = address.ip() == IpAddr::V4(self.ip);
        match used {
            // The unspecified one with no port is what the system binds by itself when a socket connects.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                own || (address.ip().is_unspecified() && address.port() == 0)
            }
            SocketAddrUse::TcpListen => own,
            SocketAddrUse::TcpAccept | SocketAddrUse::UdpReceive => true,
            SocketAddrUse::TcpConnect => self.leads_somewhere(Protocol::Tcp, address),
            SocketAddrUse::UdpSend => self.leads_somewhere(Protocol::Udp, address),
        }
    }

    fn leads_somewhere(&self, protocol: Protocol, address: SocketAddr) -> bool {
        if let SocketAddr::V4(v4) = address
            && self.network.behind(protocol, v4).is_some()
        {
            return true;
        }
        if protocol == Protocol::Udp && self.network.nowhere().is_ok_and(|nowhere| nowhere == address) {
            return true;
        }
        policy::egress(&self.policy(protocol), address.ip(), address.port()).is_ok()
    }

    /// What is published is there by TCP.
    fn policy(&self, protocol: Protocol) -> Policy {
        let policy = self.network.policy(self.facts.mode);
        match protocol {
            Protocol::Tcp => policy,
            Protocol::Udp => Policy { allowed: Arc::default(), ..policy },
        }
    }

    /// Takes a port of the pod, which nothing listens on yet.
    ///
    /// # Errors
    /// `AddrInUse` when somebody in the pod has it.
    pub fn bind(self: &Arc<Self>, protocol: Protocol, port: u16, own: bool) -> io::Result<Bound> {
        let address = SocketAddrV4::new(self.ip, port);
        self.network.table.lock().bind(protocol, address, own)?;
        Ok(Bound { pod: self.clone(), protocol, address })
    }

    /// Listens on a port of the pod, for as long as the listener lives. Port 0 takes a free one.
    ///
    /// # Errors
    /// `AddrInUse` when the pod listens there already, `PermissionDenied` when it has no network.
    pub async fn listen(self: &Arc<Self>, port: u16) -> io::Result<Listener> {
        if self.facts.mode == Mode::None {
            let address = SocketAddr::new(self.ip.into(), port);
            return Err(Unreachable::Denied(Denied { address, why: Why::NoNetwork }).into());
        }
        let bound = if port == 0 { None } else { Some(self.bind(Protocol::Tcp, port, false)?) };
        let socket = match TcpListener::bind((self.ip, port)).await {
            Err(error) if port != 0 && other_port_helps(&error) => TcpListener::bind((self.ip, 0)).await?,
            socket => socket?,
        };
        let SocketAddr::V4(actual) = socket.local_addr()? else {
            return Err(io::Error::other("an IPv4 socket has no IPv4 address"));
        };
        let bound = match bound {
            Some(bound) => bound,
            None => self.bind(Protocol::Tcp, actual.port(), false)?,
        };
        bound.listens_at(actual);
        Ok(Listener { socket, address: bound.address, _bound: bound })
    }

    /// Connects to a port of this pod from the node (port-forward, probes).
    ///
    /// # Errors
    /// `ConnectionRefused` when nothing listens there.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let Some(actual) = self.network.listener(Protocol::Tcp, SocketAddrV4::new(self.ip, port)) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        TcpStream::connect(actual).await
    }

    /// Connects as a guest of this pod does.
    ///
    /// # Errors
    /// `ConnectionRefused` and those of the system, and `PermissionDenied` with the reason.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self.route(Protocol::Tcp, to)? {
            Route::Outside(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                bound_buffers(&socket)?;
                socket.connect(address).await
            }
            Route::Pod(actual) => {
                let socket = TcpSocket::new_v4()?;
                bound_buffers(&socket)?;
                socket.bind(SocketAddr::new(self.ip.into(), 0))?;
                socket.connect(actual.into()).await
            }
        }
    }
}

impl Drop for PodNet {
    fn drop(&mut self) {
        self.network.table.lock().give_back(self.offset);
    }
}

/// As much waits in it as its container counts for it.
fn bound_buffers(socket: &TcpSocket) -> io::Result<()> {
    let size = BUFFER_BYTES_MAX as u32;
    socket.set_recv_buffer_size(size)?;
    socket.set_send_buffer_size(size)
}

/// Whether the host cannot take a port that the pod has: only root may, or a process of the host listens on every address.
pub fn other_port_helps(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse)
}

/// A port of a pod that is taken while this lives.
pub struct Bound {
    pod: Arc<PodNet>,
    protocol: Protocol,
    /// As the guest and its peers name it.
    pub address: SocketAddrV4,
}

impl Bound {
    /// From now on it is reached at this socket of the host.
    pub fn listens_at(&self, actual: SocketAddrV4) {
        self.pod.network.table.lock().listen(self.protocol, self.address, actual);
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.pod.network.table.lock().release(self.protocol, self.address);
    }
}

/// A listening port of a pod, in the table while it lives.
pub struct Listener {
    pub socket: TcpListener,
    /// As the guest and its peers name it.
    pub address: SocketAddrV4,
    _bound: Bound,
}
