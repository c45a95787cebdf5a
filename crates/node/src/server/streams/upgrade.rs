//! From an HTTP request to a connection that speaks another protocol.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, Request, StatusCode,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::Response,
};
use http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::server::refuse;

const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    WebSocket,
    Spdy,
}

/// The subprotocols that an endpoint speaks.
pub(super) struct Offer {
    pub websocket: &'static [&'static str],
    pub spdy: &'static [&'static str],
}

/// A connection that is about to change its protocol.
#[derive(Debug)]
pub(super) struct Handshake {
    pub wire: Wire,
    /// One of those offered; `""` when the client named none and the endpoint allows that.
    pub protocol: &'static str,
    connection: OnUpgrade,
    /// What came with the request.
    extensions: Extensions,
}

/// An upgraded connection, and what is to be kept as long as it lasts.
pub(super) type Io = TokioIo<Upgraded>;

impl Handshake {
    /// Agrees on a protocol; the second is the answer to send.
    pub(super) fn of(request: Request<Body>, offer: &Offer) -> Result<(Self, Response), Box<Response>> {
        let bad = |message: &str| Box::new(refuse(StatusCode::BAD_REQUEST, message));
        let (mut parts, _) = request.into_parts();
        let headers = &parts.headers;
        if !words(headers, CONNECTION.as_str()).any(|w| w.eq_ignore_ascii_case("upgrade")) {
            return Err(bad("unable to upgrade: missing upgrade headers in request"));
        }
        let asked = |protocol: &str| words(headers, UPGRADE.as_str()).any(|w| w.eq_ignore_ascii_case(protocol));
        let mut answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(CONNECTION, "Upgrade");
        let (wire, protocol) = if asked("websocket") {
            let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
            if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
                return Err(bad("Sec-WebSocket-Version must be 13"));
            }
            let protocol = choose(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), offer.websocket);
            let protocol = protocol.ok_or_else(|| not_spoken(offer.websocket))?;
            answer =
                answer.header(UPGRADE, "websocket").header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
            if !protocol.is_empty() {
                answer = answer.header(SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            (Wire::WebSocket, protocol)
        } else if asked(SPDY) {
            let protocol = choose(headers, STREAM_PROTOCOL, offer.spdy).ok_or_else(|| not_spoken(offer.spdy))?;
            answer = answer.header(UPGRADE, SPDY);
            if !protocol.is_empty() {
                answer = answer.header(STREAM_PROTOCOL, protocol);
            }
            (Wire::Spdy, protocol)
        } else {
            return Err(bad("unable to upgrade: neither websocket nor SPDY/3.1 is asked for"));
        };
        let connection = parts.extensions.remove::<OnUpgrade>();
        let connection =
            connection.ok_or_else(|| bad("unable to upgrade: this connection cannot change its protocol"))?;
        let answer = answer.body(Body::empty()).map_err(|e| bad(&e.to_string()))?;
        Ok((Self { wire, protocol, connection, extensions: parts.extensions }, answer))
    }

    /// The connection, once the answer is sent. The extensions are to be kept until its end.
    pub(super) async fn connect(self) -> Result<(Io, Extensions), hyper::Error> {
        Ok((TokioIo::new(self.connection.await?), self.extensions))
    }
}

/// The client's first choice that is offered; if it names none, the unnamed one.
fn choose(headers: &HeaderMap, header: &str, offered: &[&'static str]) -> Option<&'static str> {
    let offered_as = |name: &str| offered.iter().copied().find(|o| *o == name);
    let mut named = words(headers, header).peekable();
    if named.peek().is_none() {
        return offered_as("");
    }
    named.find_map(offered_as)
}

fn words<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> + use<'h> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|w| !w.is_empty())
}

/// As upstream: 403, with what would be accepted.
fn not_spoken(offered: &[&'static str]) -> Box<Response> {
    let mut response = refuse(StatusCode::FORBIDDEN, "unable to upgrade: unable to negotiate protocol");
    for protocol in offered.iter().filter(|p| !p.is_empty()) {
        response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
    }
    Box::new(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_choice_that_is_offered_is_taken() {
        let offered = &["v5", "v4", ""];
        for (sentence, sent, expected) in [
            ("the first that is known", &["v9, v4", "v5"][..], Some("v4")),
            ("none is named", &[], Some("")),
            ("none is known", &["v9"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append("p", HeaderValue::from_static(value));
            }
            assert_eq!(choose(&headers, "p", offered), expected, "{sentence}");
        }
        assert_eq!(choose(&HeaderMap::new(), "p", &["v4"]), None);
    }
}
