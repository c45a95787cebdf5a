//! UDP sockets of guests.
//!
//! One on the pod's address exchanges datagrams with pods alone, for the system sends none from a loopback address to the
//! outside. So one that asks for any port at any address (as a client does), in a pod that may reach the outside, is on
//! every address of the host, and accepts from outside only what answers: who it sent to before. Other guests see the
//! pod's address either way.

use std::net::SocketAddr;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynPollable, Network as Handle, SocketResult, UdpSocket,
    bindings::sockets::{
        network::{ErrorCode, IpAddressFamily, IpSocketAddress},
        udp::{
            self, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
            IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
        },
        udp_create_socket,
    },
};

use super::{
    container::Udp,
    pod::{Bound, PodNet, Route, Unreachable},
    policy::Mode,
    sockets::{BUFFER_BYTES_DEFAULT, BUFFER_BYTES_MAX, PodSockets, bind_to, loopback, one_remote, shown},
    table::Protocol,
};

/// Machines outside that one socket remembers to have sent to. At the limit it forgets them all: answers that come later
/// are dropped, as a network may drop any datagram.
const PEERS_MAX: usize = 256;

fn socket(rep: u32) -> Resource<UdpSocket> {
    Resource::new_borrow(rep)
}

impl udp_create_socket::Host for PodSockets<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let permit = self.permit()?;
        let v6 = matches!(family, IpAddressFamily::Ipv6);
        let made = udp_create_socket::Host::create_udp_socket(&mut self.inner, family).await;
        let socket = match made {
            Err(_) if v6 => udp_create_socket::Host::create_udp_socket(&mut self.inner, IpAddressFamily::Ipv4).await?,
            socket => socket?,
        };
        self.net()?.udp.insert(socket.rep(), Udp::new(v6, permit));
        self.bound_udp_buffers(socket.rep())?;
        Ok(socket)
    }
}

impl PodSockets<'_> {
    fn udp(&mut self, rep: u32) -> SocketResult<&mut Udp> {
        self.net()?.udp.get_mut(&rep).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn bound_udp_buffers(&mut self, rep: u32) -> SocketResult<()> {
        HostUdpSocket::set_receive_buffer_size(&mut self.inner, socket(rep), BUFFER_BYTES_DEFAULT)?;
        HostUdpSocket::set_send_buffer_size(&mut self.inner, socket(rep), BUFFER_BYTES_DEFAULT)
    }

    /// Puts a new IPv4 socket of the host in place of one that was made and not bound yet.
    async fn renew_udp(&mut self, rep: u32) -> SocketResult<()> {
        let fresh = udp_create_socket::Host::create_udp_socket(&mut self.inner, IpAddressFamily::Ipv4).await?;
        let fresh = self.inner.table.delete(fresh)?;
        *self.inner.table.get_mut(&socket(rep))? = fresh;
        self.bound_udp_buffers(rep)
    }

    async fn bind_host_udp(
        &mut self,
        rep: u32,
        network: &Resource<Handle>,
        to: SocketAddr,
    ) -> SocketResult<SocketAddr> {
        let network = Resource::new_borrow(network.rep());
        HostUdpSocket::start_bind(&mut self.inner, socket(rep), network, to.into()).await?;
        Ok(HostUdpSocket::local_address(&mut self.inner, socket(rep))?.into())
    }

    async fn start_bind_udp(&mut self, rep: u32, network: Resource<Handle>, wanted: SocketAddr) -> SocketResult<()> {
        let pod = self.net()?.shared.pod.clone();
        let state = self.udp(rep)?;
        if state.local.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        let v6 = state.v6;
        let to = bind_to(pod.ip(), v6, wanted.ip())?;
        let (open, port) = (pod.facts().mode == Mode::All && wanted.ip().is_unspecified(), wanted.port());
        let bound = if port == 0 { None } else { Some(pod.bind(Protocol::Udp, port, to.own)?) };
        if v6 {
            self.renew_udp(rep).await?;
        }
        let at = |ip: std::net::Ipv4Addr, port| SocketAddr::new(ip.into(), port);
        let (open, actual) = match bound {
            None if open => (true, self.bind_host_udp(rep, &network, at([0, 0, 0, 0].into(), 0)).await?),
            _ => match self.bind_host_udp(rep, &network, at(pod.ip(), port)).await {
                Err(error)
                    if port != 0
                        && matches!(error.downcast_ref(), Some(ErrorCode::AccessDenied | ErrorCode::AddressInUse)) =>
                {
                    (false, self.bind_host_udp(rep, &network, at(pod.ip(), 0)).await?)
                }
                actual => (false, actual?),
            },
        };
        let bound = match bound {
            Some(bound) => bound,
            None => pod.bind(Protocol::Udp, actual.port(), to.own)?,
        };
        self.enter_udp(rep, wanted, bound, open, actual)
    }

    fn enter_udp(
        &mut self,
        rep: u32,
        wanted: SocketAddr,
        bound: Bound,
        open: bool,
        actual: SocketAddr,
    ) -> SocketResult<()> {
        self.udp(rep)?.enter(wanted, bound, open, actual);
        Ok(())
    }

    /// As [`destination`], with the error that the guest gets.
    fn send_to(&mut self, rep: u32, to: SocketAddr) -> SocketResult<Option<SocketAddr>> {
        let pod = self.net()?.shared.pod.clone();
        match destination(&pod, self.udp(rep)?, to) {
            Ok(actual) => Ok(actual),
            Err(NotSent::NoAddress) => Err(ErrorCode::InvalidArgument.into()),
            Err(NotSent::OutOfReach) => Err(ErrorCode::RemoteUnreachable.into()),
            Err(NotSent::Denied(denied)) => Err(self.unreachable(&denied)),
        }
    }

    async fn stream_udp(
        &mut self,
        rep: u32,
        remote: Option<SocketAddr>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        let actual = match remote {
            None => None,
            // Nobody is there: the system refuses the first datagram, and tells it at the next call.
            Some(to) => match self.send_to(rep, to)? {
                Some(actual) => Some(actual),
                None => Some(self.net()?.shared.pod.network().nowhere()?),
            },
        };
        let streams = HostUdpSocket::stream(&mut self.inner, socket(rep), actual.map(Into::into)).await?;
        let pod = self.net()?.shared.pod.ip();
        self.udp(rep)?.connected(pod, remote);
        let net = self.net()?;
        net.streams.insert(streams.0.rep(), rep);
        net.streams.insert(streams.1.rep(), rep);
        Ok(streams)
    }

    /// The socket that a stream of datagrams belongs to.
    fn socket_of(&mut self, stream: u32) -> SocketResult<u32> {
        self.net()?.streams.get(&stream).copied().ok_or_else(|| ErrorCode::InvalidState.into())
    }

    /// What the guest gets of what came, with the senders as it knows them.
    fn received(&mut self, stream: u32, datagrams: Vec<IncomingDatagram>) -> SocketResult<Vec<IncomingDatagram>> {
        let rep = self.socket_of(stream)?;
        let pod = self.net()?.shared.pod.clone();
        let state = self.udp(rep)?;
        let seen = |mut datagram: IncomingDatagram| {
            let from = sender(&pod, state, datagram.remote_address.into())?;
            datagram.remote_address = from.into();
            Some(datagram)
        };
        Ok(datagrams.into_iter().filter_map(seen).collect())
    }

    /// Puts the host's addresses in place of the guest's; those that go nowhere count as sent. Like `send` itself this
    /// ends at the first that fails, and fails if that is the very first.
    fn addressed(&mut self, rep: u32, datagrams: Vec<OutgoingDatagram>) -> SocketResult<Vec<Option<OutgoingDatagram>>> {
        let connected = self.udp(rep)?.remote;
        let mut addressed = Vec::with_capacity(datagrams.len());
        for mut datagram in datagrams {
            let Some(to) = datagram.remote_address.map(SocketAddr::from) else {
                addressed.push(Some(datagram));
                continue;
            };
            let sent = match connected {
                // The host's socket knows where that is.
                Some(remote) if remote == to => Ok(None),
                Some(_) => Err(ErrorCode::InvalidArgument.into()),
                None => self.send_to(rep, to).map(Some),
            };
            match sent {
                Ok(None) => datagram.remote_address = None,
                Ok(Some(Some(actual))) => datagram.remote_address = Some(actual.into()),
                Ok(Some(None)) => {
                    addressed.push(None);
                    continue;
                }
                Err(error) if addressed.is_empty() => return Err(error),
                Err(_) => break,
            }
            addressed.push(Some(datagram));
        }
        Ok(addressed)
    }

    fn send_udp(
        &mut self,
        stream: Resource<OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let rep = self.socket_of(stream.rep())?;
        let addressed = self.addressed(rep, datagrams)?;
        let dropped = addressed.iter().take_while(|datagram| datagram.is_none()).count();
        let rest: Vec<_> = addressed.iter().skip(dropped).map_while(Clone::clone).collect();
        // Those after one that goes nowhere are left for the next call.
        let sent = if rest.is_empty() && dropped > 0 {
            0
        } else {
            HostOutgoingDatagramStream::send(&mut self.inner, stream, rest)?
        };
        Ok(u64::try_from(dropped).unwrap_or_default() + sent)
    }
}

/// Why a datagram is not sent.
pub(super) enum NotSent {
    /// It is not addressed to one machine of the socket's family.
    NoAddress,
    /// Outside, where the socket cannot send to.
    OutOfReach,
    Denied(Unreachable),
}

/// Where a socket's datagrams to an address go. `None`: nowhere, as those to a port that nobody has.
pub(super) fn destination(pod: &PodNet, socket: &mut Udp, to: SocketAddr) -> Result<Option<SocketAddr>, NotSent> {
    if !one_remote(socket.v6, to) {
        return Err(NotSent::NoAddress);
    }
    match pod.route(Protocol::Udp, to) {
        Ok(Route::Pod(actual)) => Ok(Some(actual.into())),
        Ok(Route::Outside(address)) if socket.open && address.is_ipv4() => {
            if socket.peers.len() >= PEERS_MAX {
                socket.peers.clear();
            }
            socket.peers.insert(address);
            Ok(Some(address))
        }
        Ok(Route::Outside(_)) => Err(NotSent::OutOfReach),
        Err(Unreachable::Refused) => Ok(None),
        Err(denied) => Err(NotSent::Denied(denied)),
    }
}

/// The sender as the guest knows it; `None` for who may not send to it.
pub(super) fn sender(pod: &PodNet, socket: &Udp, actual: SocketAddr) -> Option<SocketAddr> {
    if let SocketAddr::V4(actual) = actual
        && let Some((guest, own)) = pod.network().behind(Protocol::Udp, actual)
    {
        // Within a pod who talks over loopback sees loopback.
        let at_loopback = socket.local.is_some_and(|local| local.ip().is_loopback());
        if *guest.ip() == pod.ip() && (own || at_loopback) {
            return Some(SocketAddr::new(loopback(socket.v6), guest.port()));
        }
        return Some(shown(socket.v6, guest.into()));
    }
    // A socket at any address that is gone again: this process's own, or it would have been dropped.
    let from =
        if actual.ip().is_loopback() && !socket.open { loopback(socket.v6) } else { shown(socket.v6, actual).ip() };
    (!socket.open || socket.peers.contains(&actual)).then(|| SocketAddr::new(from, actual.port()))
}

impl udp::Host for PodSockets<'_> {}

impl HostUdpSocket for PodSockets<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Handle>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.start_bind_udp(this.rep(), network, local_address.into()).await
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        HostUdpSocket::finish_bind(&mut self.inner, this)
    }

    async fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        remote_address: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        self.stream_udp(this.rep(), remote_address.map(Into::into)).await
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let local = self.udp(this.rep())?.local;
        local.map(Into::into).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = self.udp(this.rep())?.remote;
        remote.map(Into::into).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        match self.udp(this.rep()) {
            Ok(Udp { v6: true, .. }) => Ok(IpAddressFamily::Ipv6),
            Ok(_) => Ok(IpAddressFamily::Ipv4),
            Err(_) => HostUdpSocket::address_family(&mut self.inner, this),
        }
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        self.inner.unicast_hop_limit(this)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        self.inner.set_unicast_hop_limit(this, value)
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        HostUdpSocket::receive_buffer_size(&mut self.inner, this)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        HostUdpSocket::set_receive_buffer_size(&mut self.inner, this, value.min(BUFFER_BYTES_MAX))
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        HostUdpSocket::send_buffer_size(&mut self.inner, this)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        HostUdpSocket::set_send_buffer_size(&mut self.inner, this, value.min(BUFFER_BYTES_MAX))
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        HostUdpSocket::subscribe(&mut self.inner, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        let rep = this.rep();
        HostUdpSocket::drop(&mut self.inner, this)?;
        if let Some(net) = &mut self.net {
            net.udp.remove(&rep);
        }
        Ok(())
    }
}

impl HostIncomingDatagramStream for PodSockets<'_> {
    fn receive(
        &mut self,
        this: Resource<IncomingDatagramStream>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let rep = this.rep();
        let datagrams = self.inner.receive(this, max_results)?;
        self.received(rep, datagrams)
    }

    fn subscribe(&mut self, this: Resource<IncomingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        HostIncomingDatagramStream::subscribe(&mut self.inner, this)
    }

    fn drop(&mut self, this: Resource<IncomingDatagramStream>) -> wasmtime::Result<()> {
        if let Some(net) = &mut self.net {
            net.streams.remove(&this.rep());
        }
        HostIncomingDatagramStream::drop(&mut self.inner, this)
    }
}

impl HostOutgoingDatagramStream for PodSockets<'_> {
    fn check_send(&mut self, this: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        self.inner.check_send(this)
    }

    fn send(&mut self, this: Resource<OutgoingDatagramStream>, datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        self.send_udp(this, datagrams)
    }

    fn subscribe(&mut self, this: Resource<OutgoingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        HostOutgoingDatagramStream::subscribe(&mut self.inner, this)
    }

    async fn drop(&mut self, this: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        if let Some(net) = &mut self.net {
            net.streams.remove(&this.rep());
        }
        HostOutgoingDatagramStream::drop(&mut self.inner, this).await
    }
}
