//! The pod annotations that a runtime or the node acts upon.

use std::collections::BTreeMap;

/// `declared`: a container sees the variables that its image and its pod declare, and no other: neither its host name nor
/// the addresses of services.
pub const ENVIRONMENT: &str = "skiff.dev/environment";

/// `none`, `cluster` or `all`: what the guests of a pod may do with the network.
pub const NETWORK: &str = "skiff.dev/network";

/// Whether the pod wants nothing in its environment but what is declared.
pub fn declared_environment_only(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|all| all.get(ENVIRONMENT)).is_some_and(|value| value == "declared")
}
