//! The pod spec, which pods and every workload's template share: defaults, validation, and what is derived from it.

pub mod defaults;
pub mod qos;

mod containers;
mod env;
mod probes;
mod resources;
mod scheduling;
mod security;
mod validate;
mod volumes;

pub use resources::validate_resource_list;
pub use scheduling::{validate_node_selector, validate_taints, validate_tolerations};
pub use validate::{Owner, validate, validate_template};

pub(crate) use probes::port;
pub(crate) use validate::{ip_address, one_of, one_of_if_set};
