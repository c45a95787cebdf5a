//! The node agent: what the kubelet is to Kubernetes. It registers its Node, watches the pods bound to it, runs each
//! through [`skiff_lifecycle::plan`] and tells the API what became of it.
//!
//! In the order of a pod's way: `sync_loop` hands changes to a `worker` per pod; the worker plans, and `execute`
//! carries commands out against a runtime; `status_writer` patches the pod's status; `server` answers what the API
//! server asks of a kubelet.
//!
//! What must stay true:
//! - a worker waits for a pod change, a runtime event, the end of a command or a timer: nothing polls;
//! - at most one status write per pod is under way, and what changes meanwhile is written once, afterwards;
//! - heartbeats have a task of their own: a busy node is not a lost node;
//! - an object in the API is deleted only by the worker that has finished with its pod;
//! - killed at any moment, a new process goes on from the API and from what the runtimes still have.

mod agent;
mod cleanup;
pub mod config;
pub mod dispatch;
pub mod env;
mod events;
mod execute;
pub mod expand;
pub mod fields;
mod heartbeat;
mod hooks;
mod image_gc;
mod images;
pub mod logs;
mod machine;
mod mailbox;
mod node;
mod probes;
mod register;
mod server;
mod sources;
mod status_writer;
mod sync_loop;
mod tls;
mod usage;
mod volumes;
mod worker;

pub use config::{ImageGc, Limits, NodeConfig};
pub use node::{Node, NodeHandle, StartError};
