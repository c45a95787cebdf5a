//! The Kubernetes API server: pipeline, registry, HTTP, TLS, authentication.
//!
//! Read `pipeline.rs` first: the way of every request is on that page. What must stay true:
//! - nothing but the pipeline (and the end of events, `expiry.rs`) writes to the store, and only this crate holds one;
//! - `http/errors.rs` is the only place that maps errors to HTTP;
//! - an object is parsed once and serialized once per write; reads and watches copy what is stored.

mod admission;
mod authn;
mod authz;
mod bootstrap;
mod clock;
mod commit;
mod context;
mod encode;
mod expiry;
mod http;
mod limits;
mod metrics;
mod nodes;
mod object;
mod pipeline;
pub mod pki;
mod prepare;
mod priority;
mod registry;
mod server;
mod service;
mod service_accounts;
mod usage;
mod validate;
mod verbs;

pub use authn::{StaticToken, UserInfo};
pub use http::body::BODY_BYTES_MAX;
pub use limits::Limits;
pub use nodes::{NoNodes, NodeConnector, NodeError};
pub use server::{ApiServer, ApiServerConfig, BootstrapError};
pub use service::InProcess;
pub use service_accounts::TokenSigner;
