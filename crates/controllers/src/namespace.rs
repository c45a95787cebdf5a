//! A namespace that is being deleted: its content goes first, then it is let go.
//!
//! What must stay true: the `kubernetes` finalizer is taken off only in a plan in which everything of every namespaced
//! kind has been deleted and the API has confirmed, kind by kind, that nothing remains (a cache may be behind). What
//! remains, and what holds it, is in the conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use skiff_reconcile::{Action, Controller, Entropy, KindRef, ObjectKey, Plan, Preconditions, View, ViewExt, Watch};

pub const FINALIZER: &str = "kubernetes";

/// A condition type with its reason and message while nothing is wrong.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (REMAINING, "ContentRemoved", "All content successfully removed"),
    (FINALIZERS, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];
const REMAINING: &str = "NamespaceContentRemaining";
const FINALIZERS: &str = "NamespaceFinalizersRemaining";

pub struct NamespaceController {
    /// Every namespaced kind that the server can delete.
    pub kinds: Vec<KindRef>,
    /// Those of them that are not watched, because they are many and short-lived: Events.
    pub unwatched: Vec<KindRef>,
}

#[derive(Debug)]
pub struct Observed {
    namespace: Arc<Namespace>,
    content: Vec<Content>,
    kinds: Vec<KindRef>,
}

#[derive(Debug)]
struct Content {
    kind: KindRef,
    meta: ObjectMeta,
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

/// Content matters only to a namespace that waits for it to go.
fn to_terminating(view: &dyn View, meta: &ObjectMeta) -> Vec<ObjectKey> {
    let key = ObjectKey::new("", meta.namespace.clone().unwrap_or_default());
    let terminating = view.get::<Namespace>(&key).is_some_and(|n| is_terminating(&n));
    if terminating { vec![key] } else { Vec::new() }
}

impl Controller for NamespaceController {
    type Observed = Observed;
    const NAME: &'static str = "namespace-controller";

    fn watches(&self) -> Vec<Watch> {
        let content = self.kinds.iter().filter(|k| !self.unwatched.contains(k));
        let content = content.map(|kind| Watch::by_metadata(*kind, to_terminating));
        [Watch::itself::<Namespace>()].into_iter().chain(content).collect()
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let namespace = view.get::<Namespace>(key)?;
        if !is_terminating(&namespace) {
            return None;
        }
        let of_kind = |kind: &KindRef| {
            let kind = *kind;
            view.list_metadata(&kind, Some(&key.name)).into_iter().map(move |meta| Content { kind, meta })
        };
        let content = self.kinds.iter().flat_map(of_kind).collect();
        Some(Observed { namespace, content, kinds: self.kinds.clone() })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, _entropy: &mut dyn Entropy) -> Plan {
        let mut plan = Plan::default();
        let finalizers = observed.namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
        if !finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER)) {
            return plan;
        }
        for content in observed.content.iter().filter(|c| c.meta.deletion_timestamp.is_none()) {
            plan.actions.push(delete(content));
        }
        plan.status = status(observed, now);
        if observed.content.is_empty() {
            let everything = observed.kinds.iter();
            let namespace = observed.namespace.metadata.name.clone().unwrap_or_default();
            plan.actions =
                everything.map(|kind| Action::DeleteCollection { kind: *kind, namespace: namespace.clone() }).collect();
            // The namespace is gone after this: its conditions were written before.
            if plan.status.is_none() {
                plan.actions.push(finalize(&observed.namespace));
            }
        }
        plan
    }
}

fn delete(content: &Content) -> Action {
    Action::Delete {
        kind: content.kind,
        key: ObjectKey::of(&content.meta),
        propagation: Some("Background"),
        grace_seconds: None,
        preconditions: Preconditions { uid: content.meta.uid.clone(), resource_version: None },
    }
}

fn finalize(namespace: &Namespace) -> Action {
    let mut body = namespace.clone();
    if let Some(finalizers) = body.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    Action::Update {
        kind: KindRef::of::<Namespace>(),
        key: ObjectKey::of(&namespace.metadata),
        subresource: Some("finalize"),
        body: json!(body),
    }
}

/// The conditions, if they are not what the namespace says already.
fn status(observed: &Observed, now: Timestamp) -> Option<Action> {
    let old = observed.namespace.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions: Vec<NamespaceCondition> = old.cloned().unwrap_or_default();
    let remaining = [(REMAINING, remaining(&observed.content)), (FINALIZERS, finalizers(&observed.content))];
    for (condition_type, ok_reason, ok_message) in CONDITIONS {
        let trouble = remaining.iter().find(|(t, _)| *t == condition_type).and_then(|(_, trouble)| trouble.as_ref());
        let (status, reason, message) = match trouble {
            None => ("False", ok_reason, ok_message.to_owned()),
            Some((reason, message)) => ("True", *reason, message.clone()),
        };
        let at = conditions.iter().position(|c| c.type_ == condition_type).unwrap_or(conditions.len());
        if at == conditions.len() {
            conditions.push(NamespaceCondition { type_: condition_type.into(), ..NamespaceCondition::default() });
        }
        let condition = &mut conditions[at];
        if condition.status != status {
            condition.status = status.into();
            condition.last_transition_time = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
        }
        condition.reason = Some(reason.into());
        condition.message = Some(message);
    }
    if old == Some(&conditions) {
        return None;
    }
    Some(Action::Patch {
        kind: KindRef::of::<Namespace>(),
        key: ObjectKey::of(&observed.namespace.metadata),
        subresource: Some("status"),
        patch: json!({ "status": { "conditions": conditions } }),
        preconditions: Preconditions { uid: observed.namespace.metadata.uid.clone(), resource_version: None },
    })
}

type Trouble = Option<(&'static str, String)>;

fn remaining(content: &[Content]) -> Trouble {
    let counted = count(content.iter().map(|c| format!("{}.{}", c.kind.plural, c.kind.group)));
    let list: Vec<String> = counted.iter().map(|(what, n)| format!("{what} has {n} resource instances")).collect();
    let message = format!("Some resources are remaining: {}", list.join(", "));
    (!list.is_empty()).then_some(("SomeResourcesRemain", message))
}

fn finalizers(content: &[Content]) -> Trouble {
    let counted = count(content.iter().flat_map(|c| c.meta.finalizers.iter().flatten().cloned()));
    let list: Vec<String> = counted.iter().map(|(what, n)| format!("{what} in {n} resource instances")).collect();
    let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
    (!list.is_empty()).then_some(("SomeFinalizersRemain", message))
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    names.for_each(|name| *counted.entry(name).or_insert(0) += 1);
    counted
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use skiff_reconcile::fixpoint::{Model, settle};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn controller() -> NamespaceController {
        NamespaceController { kinds: vec![KindRef::of::<ConfigMap>(), KindRef::of::<Pod>()], unwatched: Vec::new() }
    }
    fn key() -> ObjectKey {
        ObjectKey::new("", "shop")
    }
    fn meta(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), namespace: Some("shop".into()), ..ObjectMeta::default() }
    }
    fn model(terminating: bool) -> Model {
        let mut model = Model::new();
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("shop".into());
        namespace.metadata.deletion_timestamp = terminating.then_some(Time(NOW));
        namespace.spec.get_or_insert_default().finalizers = Some(vec![FINALIZER.into()]);
        model.insert(namespace, NOW);
        model.insert(ConfigMap { metadata: meta("a"), ..ConfigMap::default() }, NOW);
        let mut pod = Pod { metadata: meta("p"), ..Pod::default() };
        pod.spec.get_or_insert_default().node_name = Some("n1".into());
        model.insert(pod, NOW);
        model
    }
    fn condition(model: &Model, condition_type: &str) -> (String, String) {
        let namespace = model.get::<Namespace>(&key()).expect("still there");
        let conditions = namespace.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let found = conditions.into_iter().find(|c| c.type_ == condition_type).expect("the condition");
        (found.status, found.message.unwrap_or_default())
    }

    #[test]
    fn an_active_namespace_is_left_alone() {
        let mut model = model(false);
        assert!(settle(&controller(), &mut model, &key(), NOW).expect("settles").is_empty());
    }

    #[test]
    fn content_goes_first_and_the_namespace_with_the_last_of_it() {
        let mut model = model(true);
        settle(&controller(), &mut model, &key(), NOW).expect("settles");
        // The pod runs on a node, which lets it go later.
        assert!(model.get::<ConfigMap>(&ObjectKey::new("shop", "a")).is_none());
        assert!(model.get::<Pod>(&ObjectKey::new("shop", "p")).expect("lingers").metadata.deletion_timestamp.is_some());
        assert_eq!(
            condition(&model, REMAINING),
            ("True".into(), "Some resources are remaining: pods. has 1 resource instances".into())
        );
        assert_eq!(condition(&model, FINALIZERS).0, "False");
        model.remove::<Pod>(&ObjectKey::new("shop", "p"));
        let plans = settle(&controller(), &mut model, &key(), NOW).expect("settles");
        assert!(model.get::<Namespace>(&key()).is_none());
        let last = plans.last().expect("a plan").to_string();
        assert_eq!(last, "delete all configmaps shop\ndelete all pods shop\nupdate Namespace/finalize /shop\n");
    }

    #[test]
    fn a_finalizer_on_content_is_named() {
        let mut model = model(true);
        model.remove::<Pod>(&ObjectKey::new("shop", "p"));
        model.change::<ConfigMap>(&ObjectKey::new("shop", "a"), |m| {
            m.metadata.finalizers = Some(vec!["example.com/keep".into()]);
        });
        settle(&controller(), &mut model, &key(), NOW).expect("settles");
        assert_eq!(
            condition(&model, FINALIZERS).1,
            "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances"
        );
        assert!(model.get::<Namespace>(&key()).is_some());
    }
}
