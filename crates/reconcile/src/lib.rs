//! What a controller is: `observe` reads a view, `reconcile` turns what was observed and the time into a [`Plan`].
//!
//! What must stay true:
//! - both are synchronous, total and pure: time, randomness and ids come in as arguments;
//! - level, not edge: a key says *look again*, never what happened;
//! - unchanged input gives an empty plan (the fixpoint, which [`fixpoint`] checks).

pub mod codec;
pub mod fixpoint;
pub mod plan;
pub mod view;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use codec::{AnyObject, Codec, Partial};
pub use plan::{Action, EventType, Plan, PlannedEvent, Preconditions};
pub use view::{Object, View, ViewExt};

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
    /// The key of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
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
pub type Mapper = Arc<dyn Fn(&dyn View, &AnyObject) -> Vec<ObjectKey> + Send + Sync>;

/// A kind that a controller watches and how its changes lead to keys. A change is mapped twice, for the old and for
/// the new state of the object, so that whoever lost it looks again too.
#[derive(Clone)]
pub struct Watch {
    pub codec: Codec,
    pub maps: Maps,
}

#[derive(Clone)]
pub enum Maps {
    /// The object itself is of the primary kind.
    Itself,
    /// To the controlling owner of this kind.
    Controller(KindRef),
    By(Mapper),
    ByMetadata(fn(&dyn View, &ObjectMeta) -> Vec<ObjectKey>),
    /// Only read by `observe`: its changes make nobody look again.
    Nothing,
}

impl Watch {
    pub fn kind(&self) -> KindRef {
        self.codec.kind
    }
    /// The primary kind.
    pub fn itself<K: Object>() -> Self {
        Self { codec: Codec::of::<K>(), maps: Maps::Itself }
    }
    /// Of a kind whose Rust type does not matter: only its metadata is watched, unless somebody needs it whole.
    pub fn by_metadata(kind: KindRef, map: fn(&dyn View, &ObjectMeta) -> Vec<ObjectKey>) -> Self {
        Self { codec: Codec::metadata(kind), maps: Maps::ByMetadata(map) }
    }
    /// Objects `K` whose controller is an `Owner`.
    pub fn controlled_by<K: Object, Owner: Object>() -> Self {
        Self { codec: Codec::of::<K>(), maps: Maps::Controller(KindRef::of::<Owner>()) }
    }
    pub fn by<K: Object>(map: fn(&dyn View, &K) -> Vec<ObjectKey>) -> Self {
        let erased: Mapper =
            Arc::new(move |view, object| object.downcast_ref::<K>().map_or_else(Vec::new, |o| map(view, o)));
        Self { codec: Codec::of::<K>(), maps: Maps::By(erased) }
    }
    pub fn only_read<K: Object>() -> Self {
        Self { codec: Codec::of::<K>(), maps: Maps::Nothing }
    }
}

pub trait Controller: Send + Sync + 'static {
    /// Everything the decision depends on, copied or shared out of the view.
    type Observed: std::fmt::Debug + Send + Sync;

    /// For queues, metrics, leases and events: `deployment-controller`.
    const NAME: &'static str;

    fn watches(&self) -> Vec<Watch>;

    /// `None` when the object is gone and nothing is left to do.
    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Self::Observed>;

    fn reconcile(&self, observed: &Self::Observed, now: Timestamp, entropy: &mut dyn Entropy) -> Plan;

    /// What to write when the API refused an action of the plan: a condition, a Warning event. Carried out after the
    /// plan's own status, once per plan (for the first refusal); not asked when the object merely changed meanwhile.
    fn refused(&self, _observed: &Self::Observed, _refusal: &Refusal<'_>, _now: Timestamp) -> Plan {
        Plan::default()
    }
}

/// An action that the API did not do, and its message.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub action: &'a Action,
    pub message: &'a str,
}
