//! What a controller is: `observe` reads a view, `reconcile` turns what was observed and the time into a [`Plan`].
//!
//! What must stay true:
//! - both are synchronous, total and pure: time, randomness and ids come in as arguments;
//! - level, not edge: a key says *look again*, never what happened;
//! - unchanged input gives an empty plan (the fixpoint, which [`fixpoint`] checks).

pub mod fixpoint;
pub mod plan;
pub mod view;

use jiff::Timestamp;

pub use plan::{Action, EventType, Plan, PlannedEvent, Preconditions};
pub use view::{Object, View};

/// `NAMESPACE/NAME`, or `/NAME` for cluster-scoped objects, of the controller's primary kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}
impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}
impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Names the kind of an object: `apps/v1 Deployment` and its plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindRef {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}
impl KindRef {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }
    /// The kind of a k8s-openapi type.
    pub fn of<K: Object>() -> Self {
        Self {
            group: K::GROUP,
            version: K::VERSION,
            kind: K::KIND,
            plural: K::URL_PATH_SEGMENT,
            namespaced: K::NAMESPACED,
        }
    }
}

/// Randomness and ids of one reconciliation, given by the loop (seeded in tests).
pub trait Entropy {
    /// `n` characters of the alphabet Kubernetes uses for generated names (no vowels, no look-alikes).
    fn suffix(&mut self, n: usize) -> String;
}

/// Which keys of the controller's primary kind to look at again when an object of another kind changed.
pub type Mapper = fn(&dyn View, &serde_json::Value) -> Vec<ObjectKey>;

/// A kind that a controller watches and how its changes lead to keys.
#[derive(Clone, Copy)]
pub struct Watch {
    pub kind: KindRef,
    pub maps: Maps,
}
#[derive(Clone, Copy)]
pub enum Maps {
    /// The object itself is of the primary kind.
    Itself,
    /// To the controlling owner of this kind.
    Controller(KindRef),
    By(Mapper),
}

pub trait Controller: Send + Sync + 'static {
    /// Everything the decision depends on, copied or shared out of the view.
    type Observed: std::fmt::Debug;

    /// For queues, metrics, leases and events: `deployment-controller`.
    const NAME: &'static str;

    fn watches(&self) -> Vec<Watch>;

    /// `None` when the object is gone and nothing is left to do.
    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Self::Observed>;

    fn reconcile(&self, observed: &Self::Observed, now: Timestamp, entropy: &mut dyn Entropy) -> Plan;
}
