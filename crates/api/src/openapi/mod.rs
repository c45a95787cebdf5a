//! The OpenAPI documents, for `kubectl explain`, client-side validation and generated clients.

pub mod v2;
pub mod v3;
