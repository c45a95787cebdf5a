//! `wasi:sockets/ip-name-lookup` of WASI 0.3, answered as 0.2's is.

use std::net::IpAddr;

use wasmtime::component::{Accessor, Linker};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup::ErrorCode, types::IpAddress};

use super::super::names::LookupError;
use crate::guest::Host;

const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.3.0";

pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap_concurrent(
        "resolve-addresses",
        |store: &Accessor<Host>, (name,): (String,)| {
            Box::pin(async move { Ok((resolve(store, &name).await.map_err(code),)) })
        },
    )
}

async fn resolve(store: &Accessor<Host>, name: &str) -> Result<Vec<IpAddress>, LookupError> {
    let pod = store.with(|mut access| access.data_mut().net().map(|net| net.shared.pod.clone()));
    let pod = pod.ok_or(LookupError::Denied)?;
    let found = match pod.known(name) {
        Some(known) => known,
        None => pod.lookup(name).await,
    };
    if found == Err(LookupError::Denied) {
        store.with(|mut access| {
            if let Some(net) = access.data_mut().net() {
                net.denied_name(name);
            }
        });
    }
    // An IPv4 address in IPv6 clothes is an IPv4 address.
    Ok(found?.iter().map(IpAddr::to_canonical).map(Into::into).collect())
}

fn code(error: LookupError) -> ErrorCode {
    match error {
        LookupError::Invalid => ErrorCode::InvalidArgument,
        LookupError::Unknown => ErrorCode::NameUnresolvable,
        LookupError::Denied => ErrorCode::AccessDenied,
        LookupError::Temporary => ErrorCode::TemporaryResolverFailure,
    }
}
