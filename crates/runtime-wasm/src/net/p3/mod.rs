//! The `wasi:sockets` interfaces of WASI 0.3 as a pod's guests see them. The sockets are this runtime's own (those of
//! wasmtime accept connections where nobody counts them); what an address means, who may be reached and what a name stands
//! for is decided where it is for 0.2: [`super::pod`], [`super::policy`], [`super::names`].
//!
//! What must stay true: a socket of the host lives no longer than its permit; nothing here waits on the thread; what a call
//! copies for a guest is bounded by the guest's memory or by one datagram.

mod lookup;
mod options;
mod streams;
mod tcp;
mod udp;

use std::{future::Future, pin::Pin};

use wasmtime::{
    StoreContextMut,
    component::{Accessor, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType},
};
use wasmtime_wasi::{
    WasiView as _,
    p2::bindings::sockets::network::ErrorCode as BindError,
    p3::bindings::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress},
};

use super::{container::GuestNet, container::SocketPermit, pod::Unreachable};
use crate::guest::Host;

/// As wasmtime's own is named: a test finds it when that is another version.
const TYPES: &str = "wasi:sockets/types@0.3.0";

type Answer<T> = Result<T, ErrorCode>;

pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    tcp::add_to_linker(&mut types)?;
    udp::add_to_linker(&mut types)?;
    lookup::add_to_linker(linker)
}

/// A `resource` of this interface, and its functions that concern nothing else.
struct Class<'a, 'l> {
    types: &'a mut LinkerInstance<'l, Host>,
    name: &'static str,
}

impl<'a, 'l> Class<'a, 'l> {
    fn of<S: Send + 'static>(types: &'a mut LinkerInstance<'l, Host>, name: &'static str) -> wasmtime::Result<Self> {
        types.resource(name, ResourceType::host::<S>(), |mut store, rep| {
            store.data_mut().ctx().table.delete(Resource::<S>::new_own(rep))?;
            Ok(())
        })?;
        Ok(Self { types, name })
    }

    fn method(&self, name: &str) -> String {
        format!("[method]{}.{name}", self.name)
    }

    fn create<S: Send + 'static>(&mut self, make: fn(&GuestNet, bool) -> Answer<S>) -> wasmtime::Result<()> {
        self.types.func_wrap(
            &format!("[static]{}.create", self.name),
            move |mut store: StoreContextMut<'_, Host>, (family,): (IpAddressFamily,)| {
                let v6 = matches!(family, IpAddressFamily::Ipv6);
                Ok((match net(store.data()).and_then(|net| make(net, v6)) {
                    Ok(socket) => Ok(store.data_mut().ctx().table.push(socket)?),
                    Err(code) => Err(code),
                },))
            },
        )
    }

    fn get<S, V>(&mut self, name: &str, read: fn(&S) -> V) -> wasmtime::Result<()>
    where
        S: Send + 'static,
        V: ComponentType + Lower + 'static,
    {
        let name = self.method(name);
        self.types.func_wrap(&name, move |mut store: StoreContextMut<'_, Host>, (this,): (Resource<S>,)| {
            Ok((read(store.data_mut().ctx().table.get(&this)?),))
        })
    }

    fn set<S, V>(&mut self, name: &str, write: fn(&mut S, V) -> Answer<()>) -> wasmtime::Result<()>
    where
        S: Send + 'static,
        V: ComponentType + Lift + 'static,
    {
        let name = self.method(name);
        self.types.func_wrap(&name, move |mut store: StoreContextMut<'_, Host>, (this, value): (Resource<S>, V)| {
            Ok((write(store.data_mut().ctx().table.get_mut(&this)?, value),))
        })
    }

    /// One that is told an address, and may be denied it.
    fn address<S: Send + 'static>(
        &mut self,
        name: &str,
        call: fn(&mut S, &GuestNet, IpSocketAddress) -> Answer<()>,
    ) -> wasmtime::Result<()> {
        let name = self.method(name);
        self.types.func_wrap(
            &name,
            move |mut store: StoreContextMut<'_, Host>, (this, to): (Resource<S>, IpSocketAddress)| {
                Ok((with(store.data_mut(), &this, |socket, net| call(socket, net, to))?,))
            },
        )
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

/// A socket of the store, and the pod's network.
fn with<S: Send + 'static, R>(
    host: &mut Host,
    this: &Resource<S>,
    call: impl FnOnce(&mut S, &GuestNet) -> Answer<R>,
) -> wasmtime::Result<Answer<R>> {
    let (table, net) = host.table_and_net();
    let socket = table.get_mut(this)?;
    Ok(match net {
        Some(net) => call(socket, net),
        None => Err(ErrorCode::AccessDenied),
    })
}

/// The same from a call that waits.
fn within<S: Send + 'static, R>(
    store: &Accessor<Host>,
    this: &Resource<S>,
    call: impl FnOnce(&mut S, &GuestNet) -> Answer<R>,
) -> wasmtime::Result<Answer<R>> {
    store.with(|mut access| with(access.data_mut(), this, call))
}

fn net(host: &Host) -> Answer<&GuestNet> {
    host.net().ok_or(ErrorCode::AccessDenied)
}

/// Room for one more socket.
fn permit(net: &GuestNet) -> Answer<SocketPermit> {
    if net.without_network() {
        return Err(ErrorCode::AccessDenied);
    }
    net.shared.socket().ok_or_else(|| {
        net.shared.full(&net.warn);
        // 0.3 has no word for "too many sockets".
        ErrorCode::OutOfMemory
    })
}

/// The error that a guest gets, with the user told of what was denied.
fn unreachable(net: &GuestNet, unreachable: &Unreachable) -> ErrorCode {
    match unreachable {
        Unreachable::Refused => ErrorCode::ConnectionRefused,
        Unreachable::Denied(denied) => {
            net.denied(denied);
            ErrorCode::AccessDenied
        }
    }
}

/// Of the two that [`super::sockets::bind_to`] gives.
fn not_bindable(error: BindError) -> ErrorCode {
    match error {
        BindError::AddressNotBindable => ErrorCode::AddressNotBindable,
        _ => ErrorCode::InvalidArgument,
    }
}
