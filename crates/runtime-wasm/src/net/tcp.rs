//! TCP sockets of guests.

use std::net::SocketAddr;

use futures::FutureExt as _;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    p2::{
        DynInputStream, DynOutputStream, DynPollable, Network as Handle, SocketResult, TcpSocket,
        bindings::sockets::{
            network::{ErrorCode, IpAddressFamily, IpSocketAddress},
            tcp::{self, HostTcpSocket, ShutdownType},
            tcp_create_socket,
        },
    },
    sockets::WasiSocketsCtxView,
};

use super::{
    container::{SocketPermit, Tcp},
    pod::{BACKLOG_MAX, Route},
    sockets::{BUFFER_BYTES_DEFAULT, BUFFER_BYTES_MAX, PodSockets, bind_to, one_remote, shown},
    table::Protocol,
};

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl tcp_create_socket::Host for PodSockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let permit = self.permit()?;
        let made = tcp_create_socket::Host::create_tcp_socket(&mut self.inner, family);
        let v6 = matches!(family, IpAddressFamily::Ipv6);
        let socket = match made {
            // Where the host has no IPv6, an IPv6 socket still reaches pods.
            Err(_) if v6 => tcp_create_socket::Host::create_tcp_socket(&mut self.inner, IpAddressFamily::Ipv4)?,
            socket => socket?,
        };
        bound_buffers(&mut self.inner, socket.rep())?;
        let state = Tcp { v6, local: None, remote: None, bound: None, _permit: permit };
        self.net()?.tcp.insert(socket.rep(), state);
        Ok(socket)
    }
}

/// The system would let them grow to several megabytes.
fn bound_buffers(inner: &mut WasiSocketsCtxView<'_>, rep: u32) -> SocketResult<()> {
    inner.set_receive_buffer_size(socket(rep), BUFFER_BYTES_DEFAULT)?;
    inner.set_send_buffer_size(socket(rep), BUFFER_BYTES_DEFAULT)
}

/// What a guest may have set before its socket was bound.
struct Options {
    keep_alive: bool,
    keep_alive_idle: u64,
    keep_alive_interval: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

impl Options {
    fn of(inner: &mut WasiSocketsCtxView<'_>, rep: u32) -> SocketResult<Self> {
        Ok(Self {
            keep_alive: inner.keep_alive_enabled(socket(rep))?,
            keep_alive_idle: inner.keep_alive_idle_time(socket(rep))?,
            keep_alive_interval: inner.keep_alive_interval(socket(rep))?,
            keep_alive_count: inner.keep_alive_count(socket(rep))?,
            hop_limit: inner.hop_limit(socket(rep))?,
            receive_buffer: inner.receive_buffer_size(socket(rep))?,
            send_buffer: inner.send_buffer_size(socket(rep))?,
        })
    }

    fn set(&self, inner: &mut WasiSocketsCtxView<'_>, rep: u32) -> SocketResult<()> {
        inner.set_keep_alive_enabled(socket(rep), self.keep_alive)?;
        inner.set_keep_alive_idle_time(socket(rep), self.keep_alive_idle)?;
        inner.set_keep_alive_interval(socket(rep), self.keep_alive_interval)?;
        inner.set_keep_alive_count(socket(rep), self.keep_alive_count)?;
        inner.set_hop_limit(socket(rep), self.hop_limit)?;
        inner.set_receive_buffer_size(socket(rep), self.receive_buffer)?;
        inner.set_send_buffer_size(socket(rep), self.send_buffer)
    }
}

fn socket(rep: u32) -> Resource<TcpSocket> {
    Resource::new_borrow(rep)
}

impl PodSockets<'_> {
    pub(super) fn permit(&mut self) -> SocketResult<SocketPermit> {
        let net = self.net()?;
        if net.without_network() {
            return Err(ErrorCode::AccessDenied.into());
        }
        let permit = net.shared.socket();
        permit.ok_or_else(|| {
            net.shared.full(&net.warn);
            ErrorCode::NewSocketLimit.into()
        })
    }

    fn tcp(&mut self, rep: u32) -> SocketResult<&mut Tcp> {
        self.net()?.tcp.get_mut(&rep).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    /// Puts a new socket of the host in place of one that is not connected yet, with the same options.
    fn renew(&mut self, rep: u32, family: IpAddressFamily) -> SocketResult<()> {
        let options = Options::of(&mut self.inner, rep)?;
        let fresh = tcp_create_socket::Host::create_tcp_socket(&mut self.inner, family)?;
        let fresh = self.inner.table.delete(fresh)?;
        *self.inner.table.get_mut(&socket(rep))? = fresh;
        options.set(&mut self.inner, rep)
    }

    /// Binds the host's socket to the pod's address.
    async fn bind_host(&mut self, rep: u32, network: &Resource<Handle>, port: u16) -> SocketResult<()> {
        let ip = self.net()?.shared.pod.ip();
        let network = Resource::new_borrow(network.rep());
        self.inner.start_bind(socket(rep), network, SocketAddr::new(ip.into(), port).into()).await
    }

    async fn start_bind_tcp(&mut self, rep: u32, network: Resource<Handle>, wanted: SocketAddr) -> SocketResult<()> {
        let pod = self.net()?.shared.pod.clone();
        let state = self.tcp(rep)?;
        if state.local.is_some() || state.remote.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        let v6 = state.v6;
        let to = bind_to(pod.ip(), v6, wanted.ip())?;
        let port = wanted.port();
        let bound = if port == 0 { None } else { Some(pod.bind(Protocol::Tcp, port, to.own)?) };
        if v6 {
            self.renew(rep, IpAddressFamily::Ipv4)?;
        }
        match self.bind_host(rep, &network, port).await {
            Err(error)
                if port != 0
                    && matches!(error.downcast_ref(), Some(ErrorCode::AccessDenied | ErrorCode::AddressInUse)) =>
            {
                self.bind_host(rep, &network, 0).await?;
            }
            done => done?,
        }
        let bound = match bound {
            Some(bound) => bound,
            None => {
                let actual: SocketAddr = self.inner.local_address(socket(rep))?.into();
                pod.bind(Protocol::Tcp, actual.port(), to.own)?
            }
        };
        let state = self.tcp(rep)?;
        state.local = Some(SocketAddr::new(wanted.ip(), bound.address.port()));
        state.bound = Some(bound);
        Ok(())
    }

    fn start_connect_tcp(&mut self, rep: u32, network: Resource<Handle>, to: SocketAddr) -> SocketResult<()> {
        let pod = self.net()?.shared.pod.clone();
        let connected = self.inner.remote_address(socket(rep)).is_ok();
        if connected || self.inner.is_listening(socket(rep)).unwrap_or(false) {
            return Err(ErrorCode::InvalidState.into());
        }
        let state = self.tcp(rep)?;
        let (v6, bound) = (state.v6, state.bound.is_some());
        if !one_remote(v6, to) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let remote = match pod.route(Protocol::Tcp, to) {
            Ok(Route::Pod(actual)) => {
                if !bound {
                    if v6 {
                        self.renew(rep, IpAddressFamily::Ipv4)?;
                    }
                    // It waits for nothing: the check of addresses answers at once.
                    self.bind_host(rep, &network, 0).now_or_never().unwrap_or(Err(ErrorCode::Unknown.into()))?;
                    self.inner.finish_bind(socket(rep))?;
                }
                actual.into()
            }
            Ok(Route::Outside(address)) => {
                // A socket on the pod's address reaches pods alone.
                if bound || address.is_ipv6() != v6 {
                    let family = if address.is_ipv6() { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 };
                    self.renew(rep, family)?;
                }
                address
            }
            Err(unreachable) => return Err(self.unreachable(&unreachable)),
        };
        self.inner.start_connect(socket(rep), network, remote.into())?;
        self.tcp(rep)?.remote = Some(to);
        Ok(())
    }

    fn accept_tcp(&mut self, rep: u32) -> SocketResult<(Resource<TcpSocket>, Streams)> {
        let permit = self.permit()?;
        let (accepted, input, output) = self.inner.accept(socket(rep))?;
        let pod = self.net()?.shared.pod.ip();
        let from: Option<SocketAddr> = self.inner.remote_address(socket(accepted.rep())).ok().map(Into::into);
        let listener = self.tcp(rep)?;
        let v6 = listener.v6;
        let port = listener.local.map_or(0, |local| local.port());
        let state = Tcp {
            v6,
            local: Some(shown(v6, SocketAddr::new(pod.into(), port))),
            remote: from.map(|from| shown(v6, from)),
            bound: None,
            _permit: permit,
        };
        self.net()?.tcp.insert(accepted.rep(), state);
        Ok((accepted, (input, output)))
    }
}

impl tcp::Host for PodSockets<'_> {}

impl HostTcpSocket for PodSockets<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Handle>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.start_bind_tcp(this.rep(), network, local_address.into()).await
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        self.inner.finish_bind(this)
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Handle>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.start_connect_tcp(this.rep(), network, remote_address.into())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> SocketResult<Streams> {
        self.inner.finish_connect(this)
    }

    async fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let rep = this.rep();
        self.inner.start_listen(this).await?;
        let actual: SocketAddr = self.inner.local_address(socket(rep))?.into();
        if let (SocketAddr::V4(actual), Some(bound)) = (actual, &self.tcp(rep)?.bound) {
            bound.listens_at(actual);
        }
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        self.inner.finish_listen(this)
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let (accepted, (input, output)) = self.accept_tcp(this.rep())?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let rep = this.rep();
        let actual: SocketAddr = self.inner.local_address(this)?.into();
        let pod = self.net()?.shared.pod.ip();
        let state = self.tcp(rep)?;
        // The node's own address, from which it reaches the outside, is not the guest's business.
        let seen = || shown(state.v6, SocketAddr::new(pod.into(), actual.port()));
        Ok(state.local.unwrap_or_else(seen).into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let rep = this.rep();
        let actual = self.inner.remote_address(this)?;
        Ok(self.tcp(rep)?.remote.map_or(actual, Into::into))
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        self.inner.is_listening(this)
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        match self.tcp(this.rep()) {
            Ok(Tcp { v6: true, .. }) => Ok(IpAddressFamily::Ipv6),
            Ok(_) => Ok(IpAddressFamily::Ipv4),
            Err(_) => self.inner.address_family(this),
        }
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.inner.set_listen_backlog_size(this, value.min(BACKLOG_MAX.into()))
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        self.inner.keep_alive_enabled(this)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.inner.set_keep_alive_enabled(this, value)
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        self.inner.keep_alive_idle_time(this)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.inner.set_keep_alive_idle_time(this, value)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        self.inner.keep_alive_interval(this)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.inner.set_keep_alive_interval(this, value)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        self.inner.keep_alive_count(this)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        self.inner.set_keep_alive_count(this, value)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        self.inner.hop_limit(this)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.inner.set_hop_limit(this, value)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        self.inner.receive_buffer_size(this)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.inner.set_receive_buffer_size(this, value.min(BUFFER_BYTES_MAX))
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        self.inner.send_buffer_size(this)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.inner.set_send_buffer_size(this, value.min(BUFFER_BYTES_MAX))
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        HostTcpSocket::subscribe(&mut self.inner, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, shutdown_type: ShutdownType) -> SocketResult<()> {
        self.inner.shutdown(this, shutdown_type)
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        let rep = this.rep();
        HostTcpSocket::drop(&mut self.inner, this)?;
        if let Some(net) = &mut self.net {
            net.tcp.remove(&rep);
        }
        Ok(())
    }
}
