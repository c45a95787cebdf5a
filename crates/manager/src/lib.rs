//! The loops around the pure decisions of `controllers` and `scheduler`: queues, back-off, fence, executor.
//!
//! A change in a cache leads to keys; a key waits in a queue; a worker observes, reconciles and executes the plan; the
//! fence holds the key until the caches show what it wrote.
//!
//! What must stay true:
//! - one key is worked on by one worker at a time, and never on a view older than its own last write;
//! - whatever fails is tried again, with a back-off of its own; nothing is lost, nothing spins;
//! - without leadership nothing is written.

pub mod backoff;
pub mod controller_loop;
pub mod executor;
pub mod fence;
pub mod garbage_loop;
pub mod manager;
pub mod queue;
pub mod registry;
pub mod scheduler_loop;

pub use manager::{Manager, ManagerConfig, ManagerHandle};
