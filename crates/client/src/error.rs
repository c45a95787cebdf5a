//! What can go wrong between a component and the API.

use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    /// The API answered with a `Status`.
    #[error("the API refused: {message} ({reason}, {code})")]
    Api { code: u16, reason: String, message: String },
    /// No answer: the connection failed, or the server in this process has stopped.
    #[error("cannot reach the API")]
    Transport(#[source] Box<kube::Error>),
    #[error("cannot read the answer of the API")]
    Body(#[source] kube::Error),
    #[error("cannot decode the answer of the API for {what}")]
    Decode {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    /// A body or a watch event is larger than the client accepts.
    #[error("the answer of the API for {what} is larger than {limit_bytes} bytes")]
    TooLarge { what: String, limit_bytes: usize },
    /// The watch sent nothing, not even a bookmark, for longer than its timeout.
    #[error("the watch of {what} went silent")]
    Silent { what: String },
    #[error("cannot build the request {what}")]
    Request {
        what: String,
        #[source]
        source: http::Error,
    },
    #[error("cannot read the kubeconfig {path}")]
    Kubeconfig {
        path: String,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("cannot build a client from the kubeconfig")]
    Config(#[source] Box<kube::Error>),
}

impl Error {
    /// The HTTP status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Api { code, .. } => Some(*code),
            _ => None,
        }
    }
    fn is(&self, wanted: u16, why: &str) -> bool {
        matches!(self, Error::Api { code, reason, .. } if *code == wanted && reason == why)
    }
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
    pub fn is_already_exists(&self) -> bool {
        self.is(409, "AlreadyExists")
    }
    /// Somebody else was faster; look again.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && !self.is_already_exists()
    }
    /// The revision or continue token is no longer served; list again.
    pub fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }
    /// Admission, quota or authorization said no.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }
}
