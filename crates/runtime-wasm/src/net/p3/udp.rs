//! UDP sockets of WASI 0.3: what 0.2's are (see [`super::super::udp`]), called one datagram at a time.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::{
    io::Interest,
    net::UdpSocket as HostSocket,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use wasmtime::{
    StoreContextMut,
    component::{Accessor, LinkerInstance, Resource},
};
use wasmtime_wasi::{
    p3::bindings::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress},
    sockets::SocketAddrUse,
};

use super::{
    super::{
        container::{GuestNet, Udp},
        pod::{PodNet, other_port_helps},
        policy::Mode,
        sockets::{bind_to, one_remote},
        table::Protocol,
        udp::{NotSent, destination, sender},
    },
    Answer, Class, Pending, not_bindable, options, permit, unreachable, with, within,
};
use crate::guest::Host;

/// The largest datagram that there is.
const DATAGRAM_BYTES_MAX: usize = u16::MAX as usize;

/// Datagrams of one socket that may wait for the system to take them: as many as a socket counts. Further ones fail.
const SENDS_WAITING_MAX: usize = 1;

/// The guest's `udp-socket`.
struct UdpSocket {
    /// Always IPv4.
    host: Arc<HostSocket>,
    state: Udp,
    /// Where the host's socket is bound.
    actual: Option<SocketAddr>,
    sends: Arc<Semaphore>,
}

impl UdpSocket {
    fn new(net: &GuestNet, v6: bool) -> Answer<Self> {
        let permit = permit(net)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None);
        let host = HostSocket::from_std(socket.map_err(std::io::Error::from)?.into())?;
        options::bound_buffers(&host)?;
        Ok(Self {
            host: Arc::new(host),
            state: Udp::new(v6, permit),
            actual: None,
            sends: Arc::new(Semaphore::new(SENDS_WAITING_MAX)),
        })
    }

    fn bind_host(&self, pod: &PodNet, at: Ipv4Addr, port: u16) -> std::io::Result<SocketAddr> {
        let at = SocketAddr::new(at.into(), port);
        if !pod.permits(at, SocketAddrUse::UdpBind) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        rustix::net::bind(&self.host, &at)?;
        self.host.local_addr()
    }

    fn bind(&mut self, net: &GuestNet, wanted: IpSocketAddress) -> Answer<()> {
        if self.state.local.is_some() {
            return Err(ErrorCode::InvalidState);
        }
        let (pod, wanted) = (&net.shared.pod, SocketAddr::from(wanted));
        let to = bind_to(pod.ip(), self.state.v6, wanted.ip()).map_err(not_bindable)?;
        let port = wanted.port();
        let open = port == 0 && pod.facts().mode == Mode::All && wanted.ip().is_unspecified();
        let bound = if port == 0 { None } else { Some(pod.bind(Protocol::Udp, port, to.own)?) };
        let at = if open { Ipv4Addr::UNSPECIFIED } else { pod.ip() };
        let actual = match self.bind_host(pod, at, port) {
            Err(error) if port != 0 && other_port_helps(&error) => self.bind_host(pod, at, 0)?,
            actual => actual?,
        };
        let bound = match bound {
            Some(bound) => bound,
            None => pod.bind(Protocol::Udp, actual.port(), to.own)?,
        };
        self.state.enter(wanted, bound, open, actual);
        self.actual = Some(actual);
        Ok(())
    }

    fn bind_if_not_yet(&mut self, net: &GuestNet) -> Answer<()> {
        if self.state.local.is_some() {
            return Ok(());
        }
        let any = if self.state.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.bind(net, SocketAddr::new(any, 0).into())
    }

    /// Where datagrams to an address go; `None` for nowhere.
    fn destination(&mut self, net: &GuestNet, to: SocketAddr) -> Answer<Option<SocketAddr>> {
        let pod = &net.shared.pod;
        let actual = destination(pod, &mut self.state, to).map_err(|error| match error {
            NotSent::NoAddress => ErrorCode::InvalidArgument,
            NotSent::OutOfReach => ErrorCode::RemoteUnreachable,
            NotSent::Denied(denied) => unreachable(net, &denied),
        })?;
        match actual {
            Some(actual) if !pod.permits(actual, SocketAddrUse::UdpSend) => Err(ErrorCode::AccessDenied),
            actual => Ok(actual),
        }
    }

    fn connect(&mut self, net: &GuestNet, to: IpSocketAddress) -> Answer<()> {
        let to = SocketAddr::from(to);
        if !one_remote(self.state.v6, to) {
            return Err(ErrorCode::InvalidArgument);
        }
        self.bind_if_not_yet(net)?;
        // Where nobody is, the system refuses the first datagram, and tells it at the next call.
        let actual = match self.destination(net, to)? {
            Some(actual) => actual,
            None => net.shared.pod.network().nowhere()?,
        };
        if self.state.remote.is_some() {
            self.disconnect_host()?;
        }
        rustix::net::connect(&self.host, &actual).map_err(std::io::Error::from)?;
        self.state.connected(net.shared.pod.ip(), Some(to));
        Ok(())
    }

    /// The system takes a port that it chose itself back from who is connected no longer; it stays the guest's.
    fn disconnect_host(&self) -> std::io::Result<()> {
        rustix::net::connect_unspec(&self.host)?;
        match self.actual {
            Some(actual) if self.host.local_addr()?.port() != actual.port() => {
                Ok(rustix::net::bind(&self.host, &actual)?)
            }
            _ => Ok(()),
        }
    }

    fn disconnect(&mut self, net: &GuestNet) -> Answer<()> {
        if self.state.remote.is_none() {
            return Err(ErrorCode::InvalidState);
        }
        self.disconnect_host()?;
        self.state.connected(net.shared.pod.ip(), None);
        Ok(())
    }

    /// The host's socket, and where to send to from it.
    fn start_send(
        &mut self,
        net: &GuestNet,
        to: Option<SocketAddr>,
    ) -> Answer<(Arc<HostSocket>, Target, OwnedSemaphorePermit)> {
        let target = match (self.state.remote, to) {
            (Some(remote), Some(to)) if remote != to => return Err(ErrorCode::InvalidArgument),
            (Some(_), _) => Target::Connected,
            (None, None) => return Err(ErrorCode::InvalidArgument),
            (None, Some(to)) => {
                if !one_remote(self.state.v6, to) {
                    return Err(ErrorCode::InvalidArgument);
                }
                self.bind_if_not_yet(net)?;
                self.destination(net, to)?.map_or(Target::Nowhere, Target::One)
            }
        };
        let waits = self.sends.clone().try_acquire_owned().map_err(|_| ErrorCode::OutOfMemory)?;
        Ok((self.host.clone(), target, waits))
    }

    fn local(&self) -> Answer<IpSocketAddress> {
        self.state.local.map(Into::into).ok_or(ErrorCode::InvalidState)
    }

    fn remote(&self) -> Answer<IpSocketAddress> {
        self.state.remote.map(Into::into).ok_or(ErrorCode::InvalidState)
    }
}

#[derive(Clone, Copy)]
enum Target {
    Connected,
    One(SocketAddr),
    Nowhere,
}

pub fn add_to_linker(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    let mut class = Class::of::<UdpSocket>(types, "udp-socket")?;
    class.create(UdpSocket::new)?;
    class.address("bind", UdpSocket::bind)?;
    class.address("connect", UdpSocket::connect)?;
    class.get("get-local-address", UdpSocket::local)?;
    class.get("get-remote-address", UdpSocket::remote)?;
    class.get(
        "get-address-family",
        |s: &UdpSocket| {
            if s.state.v6 { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 }
        },
    )?;
    class.get("get-unicast-hop-limit", |s: &UdpSocket| options::hop_limit(&s.host, false))?;
    class.set("set-unicast-hop-limit", |s: &mut UdpSocket, v| options::set_hop_limit(&s.host, false, v))?;
    class.get("get-receive-buffer-size", |s: &UdpSocket| options::receive_buffer(&s.host))?;
    class.set("set-receive-buffer-size", |s: &mut UdpSocket, v| options::set_receive_buffer(&s.host, v))?;
    class.get("get-send-buffer-size", |s: &UdpSocket| options::send_buffer(&s.host))?;
    class.set("set-send-buffer-size", |s: &mut UdpSocket, v| options::set_send_buffer(&s.host, v))?;
    types.func_wrap("[method]udp-socket.disconnect", |mut store: StoreContextMut<'_, Host>, (this,): (This,)| {
        Ok((with(store.data_mut(), &this, UdpSocket::disconnect)?,))
    })?;
    types.func_wrap_concurrent("[method]udp-socket.send", send)?;
    types.func_wrap_concurrent("[method]udp-socket.receive", receive)
}

type This = Resource<UdpSocket>;
/// And who sent it.
type Datagram = (Vec<u8>, IpSocketAddress);

fn send(
    store: &Accessor<Host>,
    (this, data, to): (This, Vec<u8>, Option<IpSocketAddress>),
) -> Pending<'_, (Answer<()>,)> {
    Box::pin(async move {
        if data.len() > DATAGRAM_BYTES_MAX {
            return Ok((Err(ErrorCode::DatagramTooLarge),));
        }
        let started = within(store, &this, |socket, net| socket.start_send(net, to.map(Into::into)))?;
        let (host, target, _waits) = match started {
            Ok(started) => started,
            Err(code) => return Ok((Err(code),)),
        };
        let sent = match target {
            Target::Connected => host.send(&data).await.map(drop),
            Target::One(to) => host.send_to(&data, to).await.map(drop),
            Target::Nowhere => Ok(()),
        };
        Ok((sent.map_err(ErrorCode::from),))
    })
}

fn receive(store: &Accessor<Host>, (this,): (This,)) -> Pending<'_, (Answer<Datagram>,)> {
    Box::pin(async move {
        loop {
            let host = within(store, &this, |socket, _| {
                socket.state.local.map(|_| socket.host.clone()).ok_or(ErrorCode::InvalidState)
            })?;
            let host = match host {
                Ok(host) => host,
                Err(code) => return Ok((Err(code),)),
            };
            // Who waits holds no buffer: a guest may wait many times at once.
            let received = host.async_io(Interest::READABLE | Interest::ERROR, || take(&host));
            let (data, from) = match received.await {
                Ok(received) => received,
                Err(error) => return Ok((Err(error.into()),)),
            };
            let seen = within(store, &this, |socket, net| Ok(sender(&net.shared.pod, &socket.state, from)))?;
            if let Ok(Some(from)) = seen {
                return Ok((Ok((data, from.into())),));
            }
        }
    })
}

/// One datagram, or what the system has to tell of one that was sent.
fn take(host: &HostSocket) -> std::io::Result<(Vec<u8>, SocketAddr)> {
    let mut data = vec![0; DATAGRAM_BYTES_MAX];
    let (count, _, from) = rustix::net::recvfrom(host, &mut *data, RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    data.truncate(count);
    data.shrink_to_fit();
    Ok((data, from.ok_or(std::io::ErrorKind::InvalidData)?))
}
