//! The body of a response: a text of the host's, what a guest has written already, or what a guest is writing.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error, p2::body::HyperOutgoingBody};

use super::{call::Held, connection::Busy};
use crate::charge::Charge;

/// A body that its connection has counted already.
const SMALL_BYTES: u64 = 16 << 10;

pub enum Body {
    Text(Option<Bytes>),
    Whole(Whole),
    Guest(GuestBody),
}

/// All of a body whose guest has ended.
pub struct Whole {
    frames: VecDeque<Result<Frame<Bytes>, Error>>,
    /// Bytes left, unless trailers or an error follow.
    exact: Option<u64>,
    /// Of a large one: its guest counts it no longer.
    _charge: Option<Charge>,
}

/// A body whose guest runs on while the connection asks for more: if the client does not read, nothing asks.
pub struct GuestBody {
    call: Held,
    body: HyperOutgoingBody,
    _busy: Busy,
}

impl Body {
    /// A guest's response as it is sent; none if there is no memory to keep it until it is.
    pub fn of(
        call: Held,
        mut body: HyperOutgoingBody,
        busy: Busy,
        head_only: bool,
        charge: impl FnOnce(u64) -> Option<Charge>,
    ) -> Option<Self> {
        // What a HEAD request's guest has written says nothing of the length.
        if head_only || !call.ended() {
            return Some(Self::Guest(GuestBody { call, body, _busy: busy }));
        }
        let mut frames = VecDeque::new();
        let (mut exact, mut held) = (Some(0), 0);
        loop {
            match body.frame().now_or_never() {
                Some(Some(frame)) => {
                    let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map(|data| data.len() as u64);
                    exact = exact.zip(bytes).map(|(sum, bytes)| sum + bytes);
                    held += bytes.unwrap_or(0);
                    frames.push_back(frame);
                }
                Some(None) => break,
                // It still waits for something, although its guest has ended.
                None => return Some(Self::Guest(GuestBody { call, body, _busy: busy })),
            }
        }
        let charge = if held > SMALL_BYTES { Some(charge(held)?) } else { None };
        Some(Self::Whole(Whole { frames, exact, _charge: charge }))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Whole(Whole { frames, exact, .. }) => {
                let frame = frames.pop_front();
                if let (Some(left), Some(Ok(frame))) = (exact, &frame) {
                    *left -= frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(frame)
            }
            Self::Guest(guest) => guest.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Whole(whole) => whole.frames.is_empty(),
            Self::Guest(guest) => guest.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Whole(Whole { exact: Some(exact), .. }) => SizeHint::with_exact(*exact),
            Self::Whole(_) => SizeHint::default(),
            Self::Guest(guest) => guest.body.size_hint(),
        }
    }
}

impl GuestBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.call.poll(context);
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = frame {
            // It may have waited for just that.
            self.call.poll(context);
        }
        match frame {
            // The end that the body sees when its guest is gone is not the end that the guest meant.
            Poll::Ready(None) if self.call.failed() => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            other => other,
        }
    }
}

/// An answer of the host itself. What went wrong inside is in the container's log, not in the answer.
pub fn text(status: StatusCode) -> Response<Body> {
    let line = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Body::Text(Some(line.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
