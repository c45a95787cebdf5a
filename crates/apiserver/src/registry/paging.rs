//! Continue tokens: opaque to clients, a revision and the place to go on from.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use skiff_api::Status;
use skiff_store::Revision;

/// The version of the format: a token of another one is refused.
const FORMAT: &str = "skiff/v1";

#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Continue {
    v: String,
    /// `None`: go on in the present state, because the client accepted an inconsistent list.
    pub rv: Option<Revision>,
    /// The last key that the client has got, below the resource's prefix.
    pub after: String,
}

impl Continue {
    pub(crate) fn new(rv: Option<Revision>, after: &str) -> Self {
        Self { v: FORMAT.to_owned(), rv, after: after.to_owned() }
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("strings and a number serialize"))
    }

    pub(crate) fn decode(token: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let token = bytes.and_then(|b| serde_json::from_slice::<Self>(&b).ok()).filter(|t| t.v == FORMAT);
        token.ok_or_else(|| Status::bad_request("continue key is not valid: it was not made by this API server"))
    }
}

/// 410 with a token that goes on from the same place in the present state, as upstream offers it.
pub(crate) fn expired(token: &Continue) -> (Status, String) {
    let status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    (status, Continue::new(None, &token.after).encode())
}
