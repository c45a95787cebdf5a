//! Answers every HTTP request with a line of text: a component that exports `wasi:http/incoming-handler` (0.2).

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        // A client that has gone away is no fault of ours: there is nobody left to tell.
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(format!("hello from {path}\n").as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Hello);
