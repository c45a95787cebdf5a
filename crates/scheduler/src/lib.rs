//! The scheduler as pure functions: which node each pending pod goes to, and why not where it cannot.
//!
//! The order of a loop that uses it: watch events go into [`Snapshot`] and [`Queue`]; [`Queue::pop_batch`] gives the
//! pods to decide; [`schedule()`] gives one [`Decision`] per pod, in order; each decision says what to do next.
//!
//! What must stay true:
//! - no clock, no randomness, no I/O: the same calls give the same decisions;
//! - a batch gives exactly what one pod at a time would have given;
//! - no node is ever over-committed by a decision.

pub mod diagnosis;
mod evaluation;
pub mod events;
pub mod framework;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
pub mod schedule;
pub mod snapshot;
pub mod testing;

pub use diagnosis::Rejection;
pub use events::Events;
pub use framework::{Permit, Plugin, Profile, Verdict};
pub use node::NodeState;
pub use plugins::{ScoringStrategy, default_profile};
pub use pod::{PodInfo, RuntimeHandler, Template};
pub use queue::{Queue, Queued};
pub use resources::Resources;
pub use schedule::{Decision, Outcome, schedule};
pub use snapshot::Snapshot;

/// The name in `spec.schedulerName` of the pods that this scheduler serves.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
