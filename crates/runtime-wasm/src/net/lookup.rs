//! `wasi:sockets/ip-name-lookup`: wasmtime's own would ask the system's resolver for every name, as often as a guest likes.

use std::{future::Future, net::IpAddr, pin::Pin, task::Poll, vec};

use futures::FutureExt as _;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    WasiView,
    p2::{
        DynPollable, Network as Handle, Pollable,
        bindings::sockets::network::{ErrorCode, IpAddress},
        subscribe,
    },
};

use super::{container::GuestNet, names::LookupError};
use crate::guest::Host;

/// As wasmtime's own is named: a test finds it when that is another version.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

type Answer = Result<Vec<IpAddr>, LookupError>;

/// The guest's `resolve-address-stream`.
enum Lookup {
    UnderWay(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Found(vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

impl Lookup {
    fn ended(&mut self, answer: Answer) {
        *self = match answer {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(error) => Self::Failed(code(error)),
        };
    }

    fn next_address(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        if let Self::UnderWay(answer) = self {
            let Some(answer) = answer.now_or_never() else { return Err(ErrorCode::WouldBlock) };
            self.ended(answer);
        }
        match self {
            Self::Found(addresses) => Ok(addresses.next().map(Into::into)),
            Self::Failed(code) => Err(*code),
            Self::UnderWay(_) => Err(ErrorCode::WouldBlock),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        let ended = std::future::poll_fn(|context| match self {
            Self::UnderWay(answer) => answer.as_mut().poll(context).map(Some),
            _ => Poll::Ready(None),
        });
        if let Some(answer) = ended.await {
            self.ended(answer);
        }
    }
}

fn code(error: LookupError) -> ErrorCode {
    match error {
        LookupError::Invalid => ErrorCode::InvalidArgument,
        LookupError::Unknown => ErrorCode::NameUnresolvable,
        LookupError::Denied => ErrorCode::AccessDenied,
        LookupError::Temporary => ErrorCode::TemporaryResolverFailure,
    }
}

fn start(net: Option<&GuestNet>, name: String) -> Result<Lookup, ErrorCode> {
    let net = net.ok_or(ErrorCode::AccessDenied)?;
    let pod = net.shared.pod.clone();
    match pod.known(&name) {
        Some(Ok(addresses)) => Ok(Lookup::Found(addresses.into_iter())),
        Some(Err(error)) => {
            if error == LookupError::Denied {
                net.denied_name(&name);
            }
            Err(code(error))
        }
        None => Ok(Lookup::UnderWay(Box::pin(async move { pod.lookup(&name).await }))),
    }
}

pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut lookup = linker.instance(INTERFACE)?;
    lookup.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, rep| {
        store.data_mut().ctx().table.delete(Resource::<Lookup>::new_own(rep))?;
        Ok(())
    })?;
    lookup.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, Host>, (network, name): (Resource<Handle>, String)| {
            store.data_mut().ctx().table.get(&network)?;
            let started = start(store.data().net(), name);
            let pushed = match started {
                Ok(lookup) => Ok(store.data_mut().ctx().table.push(lookup)?),
                Err(code) => Err(code),
            };
            Ok((pushed,))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, Host>, (this,): (Resource<Lookup>,)| {
            Ok((store.data_mut().ctx().table.get_mut(&this)?.next_address(),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, Host>,
         (this,): (Resource<Lookup>,)|
         -> wasmtime::Result<(Resource<DynPollable>,)> {
            Ok((subscribe(store.data_mut().ctx().table, this)?,))
        },
    )?;
    Ok(())
}
