//! Every controller, in one list; and the kinds that concern all of them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use skiff_api::kinds::{self, Verbs};
use skiff_controllers::{
    DeploymentController, JobController, JobOrphansController, NamespaceController, NodeLifecycleController,
    PodGarbageCollector, ReplicaSetController, ServiceAccountController,
};
use skiff_reconcile::KindRef;

use crate::controller_loop::AnyController;

/// A new controller is one line here.
pub fn controllers(root_ca_pem: &str, started: Timestamp) -> Vec<Box<dyn AnyController>> {
    let namespaced = deletable().into_iter().filter(|k| k.namespaced).collect();
    vec![
        Box::new(NamespaceController { kinds: namespaced, unwatched: unwatched() }),
        Box::new(ServiceAccountController { root_ca_pem: root_ca_pem.to_owned() }),
        Box::new(NodeLifecycleController { started }),
        Box::new(PodGarbageCollector::default()),
        Box::new(DeploymentController),
        Box::new(ReplicaSetController),
        Box::new(JobController),
        Box::new(JobOrphansController),
    ]
}

/// Every kind that is stored and can be deleted, once (a kind that shares its storage with another is that other).
pub fn deletable() -> Vec<KindRef> {
    let stored = kinds::builtin().iter().filter(|k| k.verbs == Verbs::All);
    let mut seen = std::collections::BTreeSet::new();
    stored.filter(|k| seen.insert(k.storage.clone())).map(kind_ref).collect()
}

/// Kinds of which nobody keeps a copy: many, short-lived, and owners of nothing.
pub fn unwatched() -> Vec<KindRef> {
    let events = deletable().into_iter().filter(|k| k.kind == KindRef::of::<Event>().kind);
    events.collect()
}

pub fn kind_ref(kind: &'static kinds::Kind) -> KindRef {
    KindRef {
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
        plural: &kind.plural,
        namespaced: kind.namespaced,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn controllers_have_names_of_their_own_and_watch_served_kinds() {
        let all = controllers("PEM", Timestamp::UNIX_EPOCH);
        let names: BTreeSet<_> = all.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), all.len());
        let served: BTreeSet<KindRef> = kinds::builtin().iter().map(kind_ref).collect();
        for controller in &all {
            for watch in controller.watches() {
                assert!(served.contains(&watch.kind()), "{}: {:?}", controller.name(), watch.kind());
            }
        }
    }

    #[test]
    fn events_are_deleted_with_their_namespace_but_not_watched() {
        assert_eq!(unwatched().len(), 1);
        assert!(deletable().contains(&unwatched()[0]));
    }
}
