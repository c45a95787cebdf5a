//! What the host holds of HTTP for a guest: headers, requests and responses that it makes and does not send, bodies that it
//! begins and does not finish.
//!
//! The WASI crate keeps these in the guest's table. They are measured there, not at each call but at every [`CALLS`]th: a call
//! adds at most one map of headers or one string, both bounded by the host. What must stay true: between two measurements a guest gains
//! at most what [`CALLS`] calls can give it; a guest over its limit can make nothing more, and ends at its next turn.

use wasmtime_wasi::ResourceTable;
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::Method,
        body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody},
        types::{HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse},
    },
    p3,
};

use super::state::BODY_CHUNK_BYTES_MAX;
use crate::{charge::Charge, limits::Limits};

/// Calls from one measurement to the next. A usual request makes fewer than twenty.
const CALLS: u8 = 8;
/// What is not worth counting: part of what every instance of a server counts from its beginning on.
const FREE_BYTES: u64 = 64 << 10;
/// A charge grows and shrinks by this.
const STEP_BYTES: u64 = 64 << 10;
/// Chunks of a body that the guest has written and nobody has taken yet.
pub const CHUNKS: u64 = 2;
/// What one header takes beside its text.
const HEADER_BYTES: u64 = 64;

#[derive(Default)]
pub struct Held {
    calls: u8,
    charge: Option<Charge>,
}

impl Held {
    /// Counts one call.
    pub fn called(&mut self, table: &mut ResourceTable, limits: &mut Limits) {
        self.calls += 1;
        if self.calls < CALLS {
            return;
        }
        self.calls = 0;
        let bytes = measure(table);
        if bytes <= FREE_BYTES {
            self.charge = None;
            return;
        }
        let wanted = bytes.next_multiple_of(STEP_BYTES);
        let charge = self.charge.get_or_insert_with(|| limits.account().nothing());
        charge.at_most(wanted.saturating_mul(2));
        if let Err(full) = charge.at_least(wanted) {
            let _ = limits.refuse(full);
            limits.over = true;
            // Whatever it makes next is its end.
            table.set_max_capacity(0);
        }
    }
}

fn measure(table: &mut ResourceTable) -> u64 {
    table.iter_mut().map(|entry| size(&*entry)).sum()
}

fn size(entry: &(dyn std::any::Any + Send)) -> u64 {
    let chunk = BODY_CHUNK_BYTES_MAX as u64;
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        headers(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() as u64);
        let method = if let Method::Other(name) = &request.method { name.len() as u64 } else { 0 };
        headers(&request.headers) + method + text(&request.authority) + text(&request.path_with_query)
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        headers(&response.headers)
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        headers(&response.headers)
    } else if entry.is::<HostOutgoingBody>() {
        CHUNKS * chunk
    } else if entry.is::<HostIncomingBody>() || entry.is::<HostFutureTrailers>() || entry.is::<HostIncomingRequest>() {
        chunk
    } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
        let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        let authority = request.authority.as_ref().map_or(0, |authority| authority.as_str().len());
        headers(&request.headers) + (path + authority + request.method.as_str().len()) as u64 + chunk
    } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
        headers(&response.headers) + chunk
    } else {
        0
    }
}

fn headers(fields: &FieldMap) -> u64 {
    fields.iter().map(|(name, value)| name.as_str().len() as u64 + value.len() as u64 + HEADER_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use wasmtime_wasi::ResourceTable;

    use super::*;
    use crate::{
        charge::Account,
        limits::{Budget, Usage},
    };

    #[test]
    fn what_a_guest_makes_and_keeps_is_counted_until_it_is_gone() {
        let usage = Arc::new(Usage::default());
        let mut limits = Limits::new(Account::new(1 << 20, usage.clone(), Budget::new(Some(u64::MAX))));
        let (mut table, mut held) = (ResourceTable::new(), Held::default());
        let request = |length| HostOutgoingRequest {
            method: Method::Other("x".repeat(length)),
            scheme: None,
            authority: None,
            path_with_query: None,
            headers: FieldMap::default(),
            body: None,
        };
        let mut calls = |table: &mut ResourceTable, limits: &mut Limits| {
            (0..CALLS).for_each(|_| held.called(table, limits));
            usage.memory_bytes.load(Ordering::Relaxed)
        };
        let small = table.push(request(1000)).expect("there is room");
        assert_eq!(calls(&mut table, &mut limits), 0, "too little to count");
        let large = table.push(request(300_000)).expect("there is room");
        assert!(calls(&mut table, &mut limits) >= 300_000);
        table.delete(large).expect("it is there");
        assert_eq!(calls(&mut table, &mut limits), 0);
        table.delete(small).expect("it is there");
        for _ in 0..20 {
            table.push(request(60_000)).expect("there is room");
        }
        calls(&mut table, &mut limits);
        let end = limits.overdrawn().expect("it is over its limit").to_string();
        assert!(end.contains("out of memory: the limit of 1048576 bytes"), "{end}");
        assert!(table.push(request(0)).is_err(), "it makes nothing more");
    }
}
