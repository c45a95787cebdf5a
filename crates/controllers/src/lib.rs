//! Every controller as pure functions: one file each, listed here.

pub mod deployment;
pub mod garbage_collector;
pub mod job;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_garbage_collector;
pub mod replica_set;
pub mod service_account;

mod objects;
mod pods;
#[cfg(test)]
mod testing;

pub use deployment::DeploymentController;
pub use job::{JobController, JobOrphansController};
pub use namespace::NamespaceController;
pub use node_lifecycle::NodeLifecycleController;
pub use pod_garbage_collector::PodGarbageCollector;
pub use replica_set::ReplicaSetController;
pub use service_account::ServiceAccountController;
