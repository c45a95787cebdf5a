//! The `wasi:sockets` interfaces of WASI 0.2 as a pod's guests see them: wasmtime's own, with addresses and ports
//! translated on the way in and out, and sockets counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::{
    p2::{
        Network as Handle, SocketError, SocketResult,
        bindings::sockets::{
            network::{self, ErrorCode},
            tcp, tcp_create_socket, udp, udp_create_socket,
        },
    },
    sockets::WasiSocketsCtxView,
};

use super::{container::GuestNet, lookup, pod::Unreachable};
use crate::guest::Host;

/// Bytes that the system keeps for each direction of a socket unless the guest asks for others, and the most it may ask for:
/// as much as the system begins with by itself.
pub(super) const BUFFER_BYTES_DEFAULT: u64 = 128 << 10;
pub const BUFFER_BYTES_MAX: u64 = BUFFER_BYTES_DEFAULT;

/// What a guest's call on a socket works with.
pub struct PodSockets<'a> {
    /// The host's sockets.
    pub inner: WasiSocketsCtxView<'a>,
    /// The pod's view of them; without one nothing is allowed.
    pub net: Option<&'a mut GuestNet>,
}

struct Sockets;

impl HasData for Sockets {
    type Data<'a> = PodSockets<'a>;
}

/// Puts the pod's sockets in place of wasmtime's.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp::add_to_linker::<Host, Sockets>(linker, Host::pod_sockets)?;
    tcp_create_socket::add_to_linker::<Host, Sockets>(linker, Host::pod_sockets)?;
    udp::add_to_linker::<Host, Sockets>(linker, Host::pod_sockets)?;
    udp_create_socket::add_to_linker::<Host, Sockets>(linker, Host::pod_sockets)?;
    lookup::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl PodSockets<'_> {
    pub(super) fn net(&mut self) -> SocketResult<&mut GuestNet> {
        self.net.as_deref_mut().ok_or_else(|| ErrorCode::AccessDenied.into())
    }

    /// The error that a guest gets, with the user told of what was denied.
    pub(super) fn unreachable(&mut self, unreachable: &Unreachable) -> SocketError {
        match unreachable {
            Unreachable::Refused => ErrorCode::ConnectionRefused.into(),
            Unreachable::Denied(denied) => {
                if let Some(net) = &self.net {
                    net.denied(denied);
                }
                ErrorCode::AccessDenied.into()
            }
        }
    }
}

/// What binding to an address means in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindTo {
    /// For the pod itself alone.
    pub own: bool,
}

/// `0.0.0.0`, the pod's address and loopback are all the pod's address; so are `::` and `::1`.
pub(super) fn bind_to(pod: Ipv4Addr, v6: bool, wanted: IpAddr) -> Result<BindTo, ErrorCode> {
    match wanted {
        IpAddr::V4(_) if v6 => Err(ErrorCode::InvalidArgument),
        IpAddr::V6(_) if !v6 => Err(ErrorCode::InvalidArgument),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(ErrorCode::InvalidArgument),
        ip if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => Err(ErrorCode::InvalidArgument),
        ip if ip.is_unspecified() || ip == IpAddr::V4(pod) => Ok(BindTo { own: false }),
        ip if ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || (ip.is_loopback() && v6) => Ok(BindTo { own: true }),
        _ => Err(ErrorCode::AddressNotBindable),
    }
}

/// Whether an address is one that a socket of the family can send to: of one machine, with a port.
pub(super) fn one_remote(v6: bool, to: SocketAddr) -> bool {
    let group = match to.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    to.is_ipv6() == v6
        && to.ip().to_canonical().is_ipv6() == v6
        && !to.ip().is_unspecified()
        && to.port() != 0
        && !group
}

/// The loopback address of a family.
pub(super) fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

/// An IPv4 address as a socket of the given family shows it.
pub(super) fn shown(v6: bool, address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        address => address,
    }
}

impl network::Host for PodSockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.inner, error)
    }
}

impl network::HostNetwork for PodSockets<'_> {
    fn drop(&mut self, this: Resource<Handle>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, this)
    }
}
