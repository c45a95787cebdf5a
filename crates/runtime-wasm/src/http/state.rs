//! What the host keeps of HTTP for one store.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use http::HeaderName;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView, p2::bindings::http::types::ErrorCode,
    p3::bindings::http::types::ErrorCode as ErrorCode3,
};

use super::{
    held::Held,
    outgoing::{Outgoing, Sent},
};
use crate::guest::Host;

/// What a guest may hand over in one write of a body, and so what the host buffers of it (twice): 64 KiB.
pub const BODY_CHUNK_BYTES_MAX: usize = 64 << 10;

#[derive(Default)]
pub struct State {
    context: WasiHttpCtx,
    hooks: Hooks,
    held: Held,
}

impl State {
    pub fn new(outgoing: Outgoing) -> Self {
        Self { hooks: Hooks { outgoing: Some(outgoing) }, ..Self::default() }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let State { context, hooks, held } = &mut self.http;
        let table = self.wasi.ctx().table;
        held.called(table, &mut self.limits);
        WasiHttpCtxView { ctx: context, table, hooks }
    }
}

#[derive(Default)]
struct Hooks {
    /// Without one nothing is sent.
    outgoing: Option<Outgoing>,
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: LazyLock<ForbiddenHeaderFilter> =
            LazyLock::new(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name)));
        FILTER.clone()
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let outgoing = self.outgoing.clone();
        Box::new(async move {
            match outgoing {
                Some(outgoing) => outgoing.send(request, options).await,
                None => Err(Error::HttpRequestDenied),
            }
        })
    }

    // The guest is told of these, and whoever reads the node's log need not be.

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        match error {
            error if error.is_timeout() => ErrorCode::HttpResponseTimeout,
            error if error.is_incomplete_message() || error.is_canceled() => ErrorCode::ConnectionTerminated,
            _ => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, _: &io::Error) -> ErrorCode {
        ErrorCode::DestinationUnavailable
    }

    fn p2_error_from_tls(&mut self, _: &io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode3 {
        match error {
            error if error.is_timeout() => ErrorCode3::HttpResponseTimeout,
            error if error.is_incomplete_message() || error.is_canceled() => ErrorCode3::ConnectionTerminated,
            _ => ErrorCode3::HttpProtocolError,
        }
    }

    fn p3_error_from_connect(&mut self, _: &io::Error) -> ErrorCode3 {
        ErrorCode3::DestinationUnavailable
    }

    fn p3_error_from_tls(&mut self, _: &io::Error) -> ErrorCode3 {
        ErrorCode3::TlsProtocolError
    }
}
