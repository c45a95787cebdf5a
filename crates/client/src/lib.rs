//! How every component but the API server itself reaches the cluster: a `kube::Client` over two transports, caches
//! that the components of a process share, the event recorder, leader election on Leases.
//!
//! What must stay true:
//! - a component cannot tell in process from HTTPS, and runs unchanged on another machine;
//! - one list and one watch per kind and process; an object is decoded once and shared behind an `Arc`;
//! - a cache never skips an object or an event: what does not decode ends the watch and is reported;
//! - nothing polls: who waits is woken by a watch event, a timer or a channel.

pub mod cache;
pub mod caches;
pub mod clock;
pub mod correlator;
pub mod error;
pub mod leader;
pub mod recorder;
mod reflector;
pub mod rest;
pub mod subscription;
pub mod transport;

pub use cache::{Change, KindCache};
pub use caches::{Scope, SharedCache};
pub use clock::{Clock, system_clock};
pub use error::Error;
pub use leader::{Election, ElectionConfig, LeaderElection};
pub use recorder::{Recorder, Regarding};
pub use rest::Rest;
pub use subscription::Subscription;
pub use transport::{from_config, from_kubeconfig, in_process};
