//! The OpenAPI documents, for `kubectl explain`, client-side validation, patches by schema and generated clients.
//!
//! Both versions are renderings of the same two things: `definitions` (k8s-openapi's schemas with the merge facts
//! put back, and CRDs' own) and `paths` (what the table of kinds offers).

mod definitions;
mod paths;
pub mod v2;
pub mod v2_protobuf;
pub mod v3;

#[cfg(test)]
mod tests;
