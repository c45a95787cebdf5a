//! `resource.k8s.io/v1`.

pub mod device_taint_rule;
pub mod resource_claim;
pub mod resource_slice;
