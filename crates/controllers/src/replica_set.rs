//! ReplicaSet: keeps a number of equal pods alive.
//!
//! What must stay true: it counts only pods that it controls; it never deletes a pod while it has too few; the pods it
//! gives up first are those that serve least.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};
use skiff_api::selector::LabelSelector;
use skiff_reconcile::{Action, Controller, Entropy, EventType, ObjectKey, Plan, Refusal, View, ViewExt, Watch};

use crate::{
    objects::{
        self, Guard, adopt, controller_of, delete, event, is_deleting, release, seconds, status_patch, uid, until,
    },
    pods,
};

/// Pods created or deleted by one plan; the rest follows in the next.
const BURST_MAX: usize = 500;
/// Events per plan about single pods: beyond it they would only say the same again.
const EVENTS_MAX: usize = 10;
const REPLICA_FAILURE: &str = "ReplicaFailure";

#[derive(Debug, Default)]
pub struct ReplicaSetController;

#[derive(Debug)]
pub struct Observed {
    set: Arc<ReplicaSet>,
    /// Controlled by the set and matching its selector, whatever their state.
    own: Vec<Arc<Pod>>,
    /// Matching, with no controller: to be adopted.
    orphans: Vec<Arc<Pod>>,
    /// Controlled, no longer matching: to be released.
    strangers: Vec<Arc<Pod>>,
    /// Active pods per node of all ReplicaSets of the same owner; only filled when pods must go.
    on_node: BTreeMap<String, usize>,
}

impl Controller for ReplicaSetController {
    type Observed = Observed;
    const NAME: &'static str = "replicaset-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![Watch::itself::<ReplicaSet>(), Watch::by::<Pod>(sets_of)]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let set: Arc<ReplicaSet> = view.get(key)?;
        let selector = LabelSelector::from_typed(Some(&set.spec.selector));
        let own_uid = uid(&set.metadata);
        let (own, strangers): (Vec<_>, Vec<_>) = view
            .owned::<Pod>(own_uid)
            .into_iter()
            .filter(|p| objects::is_controlled_by(&p.metadata, own_uid))
            .partition(|p| selector.matches_map(p.metadata.labels.as_ref()));
        let orphans = if is_deleting(&set.metadata) { Vec::new() } else { orphans(view, key, &selector) };
        let active = own.iter().filter(|p| pods::is_active(p)).count();
        let on_node = if active > replicas(&set) { crowds(view, &set, &own) } else { BTreeMap::new() };
        Some(Observed { set, own, orphans, strangers, on_node })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, entropy: &mut dyn Entropy) -> Plan {
        let set = &observed.set;
        let meta = &set.metadata;
        let mut plan = Plan::default();
        let strangers = observed.strangers.iter().filter(|p| !is_deleting(&p.metadata));
        plan.actions.extend(strangers.map(|p| release::<Pod>(&p.metadata, uid(meta), None)));
        plan.actions.extend(observed.orphans.iter().map(|p| adopt::<Pod, ReplicaSet>(&p.metadata, meta, None)));
        let own: Vec<Arc<Pod>> = observed.own.iter().chain(&observed.orphans).cloned().collect();
        let active: Vec<Arc<Pod>> = own.iter().filter(|p| pods::is_active(p)).cloned().collect();
        if !is_deleting(meta) {
            match active.len().cmp(&replicas(set)) {
                std::cmp::Ordering::Less => self.create(set, &own, replicas(set) - active.len(), &mut plan, entropy),
                std::cmp::Ordering::Greater => self.give_up(observed, active.clone(), now, &mut plan),
                std::cmp::Ordering::Equal => {}
            }
        }
        let balanced = active.len() == replicas(set);
        let (status, requeue) = status(set, &own, &active, balanced, now);
        plan.status = status_patch::<ReplicaSet, _>(meta, set.status.as_ref(), &status, Guard::Same);
        plan.requeue = requeue;
        plan
    }

    /// As `kubectl describe rs` shows it: an event, and the condition that a Deployment passes on.
    fn refused(&self, observed: &Observed, refusal: &Refusal<'_>, now: Timestamp) -> Plan {
        let set = &observed.set;
        let (reason, verb) = match refusal.action {
            Action::Create { .. } => ("FailedCreate", "creating"),
            Action::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return Plan::default(),
        };
        let message = format!("Error {verb}: {}", refusal.message);
        let mut status = set.status.clone().unwrap_or_default();
        let conditions = status.conditions.get_or_insert_default();
        if !conditions
            .iter()
            .any(|c| c.type_.as_deref() == Some(REPLICA_FAILURE) && c.reason.as_deref() == Some(reason))
        {
            conditions.retain(|c| c.type_.as_deref() != Some(REPLICA_FAILURE));
            conditions.push(ReplicaSetCondition {
                type_: Some(REPLICA_FAILURE.into()),
                status: Some("True".into()),
                reason: Some(reason.into()),
                message: Some(refusal.message.into()),
                last_transition_time: Some(seconds(now)),
            });
        }
        Plan {
            status: status_patch::<ReplicaSet, _>(&set.metadata, set.status.as_ref(), &status, Guard::Same),
            events: vec![event::<ReplicaSet>(&set.metadata, EventType::Warning, reason, message)],
            ..Plan::default()
        }
    }
}

impl ReplicaSetController {
    fn create(&self, set: &ReplicaSet, own: &[Arc<Pod>], count: usize, plan: &mut Plan, entropy: &mut dyn Entropy) {
        let Some(template) = set.spec.template.as_ref() else { return };
        let body = pods::from_template::<ReplicaSet>(template, &set.metadata);
        let base = format!("{}-", objects::name(&set.metadata));
        let names = pods::Names::of(own);
        for made in 0..count.min(BURST_MAX) {
            let name = names.next(&base, entropy);
            plan.actions.push(pods::create(body.clone(), &base, &name, &set.metadata));
            if made < EVENTS_MAX {
                let message = format!("Created pod: {name}");
                plan.events.push(event::<ReplicaSet>(&set.metadata, EventType::Normal, "SuccessfulCreate", message));
            }
        }
    }

    fn give_up(&self, observed: &Observed, mut active: Vec<Arc<Pod>>, now: Timestamp, plan: &mut Plan) {
        let meta = &observed.set.metadata;
        let surplus = active.len() - replicas(&observed.set);
        pods::rank_for_deletion(&mut active, &observed.on_node, now);
        for (at, pod) in active.iter().take(surplus.min(BURST_MAX)).enumerate() {
            plan.actions.push(delete::<Pod>(&pod.metadata, None));
            if at < EVENTS_MAX {
                let message = format!("Deleted pod: {}", objects::name(&pod.metadata));
                plan.events.push(event::<ReplicaSet>(meta, EventType::Normal, "SuccessfulDelete", message));
            }
        }
    }
}

fn replicas(set: &ReplicaSet) -> usize {
    set.spec.replicas.unwrap_or(1).max(0) as usize
}

/// The ReplicaSet that controls the pod or, for a pod without controller, those whose selector matches it.
fn sets_of(view: &dyn View, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = objects::namespace(&pod.metadata);
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "ReplicaSet" => vec![ObjectKey::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let matches = |set: &Arc<ReplicaSet>| {
                let selector = LabelSelector::from_typed(Some(&set.spec.selector));
                selector.matches_map(pod.metadata.labels.as_ref())
            };
            let sets = view.list::<ReplicaSet>(Some(namespace)).into_iter().filter(matches);
            sets.map(|set| ObjectKey::of(&set.metadata)).collect()
        }
    }
}

fn orphans(view: &dyn View, key: &ObjectKey, selector: &LabelSelector) -> Vec<Arc<Pod>> {
    let mut pods = view.list::<Pod>(Some(&key.namespace));
    pods.retain(|p| {
        controller_of(&p.metadata).is_none() && pods::is_active(p) && selector.matches_map(p.metadata.labels.as_ref())
    });
    pods
}

fn crowds(view: &dyn View, set: &ReplicaSet, own: &[Arc<Pod>]) -> BTreeMap<String, usize> {
    let siblings = match controller_of(&set.metadata) {
        Some(owner) => {
            let sets = view.owned::<ReplicaSet>(&owner.uid);
            sets.iter().flat_map(|s| view.owned::<Pod>(uid(&s.metadata))).collect()
        }
        None => own.to_vec(),
    };
    let mut on_node = BTreeMap::new();
    for pod in siblings.iter().filter(|p| pods::is_active(p)) {
        if let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) {
            *on_node.entry(node.clone()).or_default() += 1;
        }
    }
    on_node
}

/// The status by what was seen, and when a pod will become available by time alone.
fn status(
    set: &ReplicaSet,
    own: &[Arc<Pod>],
    active: &[Arc<Pod>],
    balanced: bool,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = &set.spec;
    let template_labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
    let fully_labeled = |pod: &&Arc<Pod>| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.is_none_or(|t| t.iter().all(|(k, v)| labels.is_some_and(|l| l.get(k) == Some(v))))
    };
    let ready: Vec<Option<Timestamp>> = active
        .iter()
        .filter(|p| pods::is_ready(p))
        .map(|p| pods::available_at(p, spec.min_ready_seconds.unwrap_or(0)))
        .collect();
    let available = ready.iter().flatten().filter(|at| **at <= now).count();
    let next = ready.iter().flatten().filter(|at| **at > now).min();
    let mut status = set.status.clone().unwrap_or_default();
    status.replicas = active.len() as i32;
    status.fully_labeled_replicas = count(active.iter().filter(fully_labeled).count());
    status.ready_replicas = count(ready.len());
    status.available_replicas = count(available);
    status.terminating_replicas = Some(own.iter().filter(|p| pods::is_terminating(p)).count() as i32);
    status.observed_generation = set.metadata.generation;
    if balanced && let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(REPLICA_FAILURE));
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
    (status, next.map(|at| until(*at, now)))
}

/// Counts of zero are left out, as upstream's encoding does.
fn count(n: usize) -> Option<i32> {
    (n > 0).then_some(n as i32)
}

#[cfg(test)]
#[path = "replica_set_tests.rs"]
mod tests;
