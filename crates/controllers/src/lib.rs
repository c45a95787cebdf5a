//! Every controller as pure functions: one file each, listed here.

pub mod garbage_collector;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_garbage_collector;
pub mod service_account;

pub use namespace::NamespaceController;
pub use node_lifecycle::NodeLifecycleController;
pub use pod_garbage_collector::PodGarbageCollector;
pub use service_account::ServiceAccountController;
