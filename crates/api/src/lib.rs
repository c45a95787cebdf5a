//! The resource model of Kubernetes as values and pure functions: no tokio, no I/O, no clock, no randomness.
//!
//! An object on its way through the API server is a [`serde_json::Value`]: built-in kinds and custom resources take
//! the same path, and a field that this version does not know is dropped or reported by one decoder, never by
//! accident. The Rust types of k8s-openapi are for those who read objects: controllers, scheduler, node.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod cron;
pub mod decode;
pub mod discovery;
pub mod discovery_k8s;
pub mod events;
pub mod field;
pub mod flowcontrol;
pub mod hooks;
pub mod kinds;
pub mod meta;
pub mod metrics_k8s;
pub mod names;
pub mod networking;
pub mod node;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod policy;
pub mod protobuf;
pub mod quantity;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod schema;
pub mod selector;
pub mod status;
pub mod storage;
pub mod storagemigration;
pub mod table;

pub use field::{FieldError, FieldErrors};
pub use hooks::Hooks;
pub use kinds::Kind;
pub use status::Status;

/// The Kubernetes version whose API this is.
pub const KUBERNETES_MAJOR: &str = "1";
pub const KUBERNETES_MINOR: &str = "37";
/// As `/version` says it.
pub const GIT_VERSION: &str = concat!("v1.37.0+skiff", env!("CARGO_PKG_VERSION"));
