//! The plugins, one file each, and the profile that lists them with their weights.

mod default_binder;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod runtime_handlers;
mod taint_toleration;

pub use default_binder::DefaultBinder;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::NodePorts;
pub use node_resources_fit::{NodeResourcesFit, ScoringStrategy};
pub use node_unschedulable::NodeUnschedulable;
pub use runtime_handlers::RuntimeHandlers;
pub use taint_toleration::TaintToleration;

use crate::Profile;

/// The weights are kube-scheduler's where it has the plugin.
pub fn default_profile(scoring: ScoringStrategy) -> Profile {
    Profile::new(vec![
        (Box::new(NodeUnschedulable), 0),
        (Box::new(NodeName), 0),
        (Box::new(TaintToleration), 3),
        (Box::new(NodeAffinity), 2),
        (Box::new(RuntimeHandlers), 2),
        (Box::new(NodePorts), 0),
        (Box::new(NodeResourcesFit { scoring }), 1),
        (Box::new(DefaultBinder), 0),
    ])
}
