//! `wasi:http` of WASI 0.3 for guests. Requests take the way of 0.2's ([`super::outgoing`]).

use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::{TrappableError, WasiView as _};
use wasmtime_wasi_http::{
    WasiHttp, WasiHttpCtxView, WasiHttpView as _,
    p3::{
        Request, Response,
        bindings::http::{
            client::{self, HostWithStore},
            types::{self, ErrorCode},
        },
    },
};

use crate::guest::Host;

pub fn add_0_3_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<Host, WasiHttp>(linker, Host::http)?;
    client::add_to_linker::<Host, Client>(linker, Host::http)
}

struct Client;

impl HasData for Client {
    type Data<'a> = WasiHttpCtxView<'a>;
}

impl HostWithStore<Host> for Client {
    async fn send(
        store: &Accessor<Host, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
        store.with(|mut access| {
            let request = access.data_mut().ctx().table.get_mut(&request).map_err(TrappableError::trap)?;
            // One that asks for no path asks for the root, which the WASI crate does not know.
            request.path_with_query.get_or_insert(http::uri::PathAndQuery::from_static("/"));
            Ok::<_, TrappableError<ErrorCode>>(())
        })?;
        WasiHttp::send(&store.with_getter::<WasiHttp>(Host::http), request).await
    }
}
