//! Deployment: rolls a pod template out over ReplicaSets, one per template.
//!
//! What must stay true: during a rolling update there are never more than maxSurge pods above the wanted number, and
//! we never scale down below the wanted number minus maxUnavailable available ones; history is in the ReplicaSets.

mod revision;
mod rollout;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
        core::v1::Pod,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::json;
use skiff_api::selector::LabelSelector;
use skiff_reconcile::{Action, Controller, Entropy, EventType, ObjectKey, Plan, Refusal, View, ViewExt, Watch};

use crate::{
    objects::{self, Guard, adopt, controller_of, event, is_controlled_by, is_deleting, release, status_patch, uid},
    pods,
};
use rollout::Rollout;

pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

#[derive(Debug, Default)]
pub struct DeploymentController;

#[derive(Debug)]
pub struct Observed {
    deployment: Arc<Deployment>,
    /// Controlled by the deployment and matching its selector; oldest first.
    own: Vec<Arc<ReplicaSet>>,
    orphans: Vec<Arc<ReplicaSet>>,
    strangers: Vec<Arc<ReplicaSet>>,
    /// What already has the name that a new ReplicaSet would get.
    name_taken_by: Option<Arc<ReplicaSet>>,
    /// UIDs of own ReplicaSets that still have pods which have not ended; only filled for Recreate.
    running: Vec<String>,
}

impl Controller for DeploymentController {
    type Observed = Observed;
    const NAME: &'static str = "deployment-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::itself::<Deployment>(),
            Watch::by::<ReplicaSet>(deployments_of),
            // Recreate waits for the last old pod to be gone, which no ReplicaSet's status says.
            Watch::by::<Pod>(recreating_deployment_of),
        ]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let deployment: Arc<Deployment> = view.get(key)?;
        let selector = LabelSelector::from_typed(Some(&deployment.spec.selector));
        let own_uid = uid(&deployment.metadata);
        let matches = |set: &Arc<ReplicaSet>| selector.matches_map(set.metadata.labels.as_ref());
        let (mut own, strangers): (Vec<_>, Vec<_>) = view
            .owned::<ReplicaSet>(own_uid)
            .into_iter()
            .filter(|s| is_controlled_by(&s.metadata, own_uid))
            .partition(matches);
        own.sort_by(|a, b| pods::by_creation(&a.metadata, &b.metadata));
        let mut orphans = Vec::new();
        if !is_deleting(&deployment.metadata) {
            orphans = view.list::<ReplicaSet>(Some(&key.namespace));
            orphans.retain(|s| controller_of(&s.metadata).is_none() && !is_deleting(&s.metadata) && matches(s));
        }
        let name = ObjectKey::new(&key.namespace, revision::set_name(&deployment));
        let running =
            |set: &&Arc<ReplicaSet>| view.owned::<Pod>(uid(&set.metadata)).iter().any(|p| !pods::is_terminal(p));
        let running = match is_rolling(&deployment) {
            true => Vec::new(),
            false => own.iter().filter(running).map(|s| uid(&s.metadata).to_owned()).collect(),
        };
        Some(Observed { name_taken_by: view.get(&name), deployment, own, orphans, strangers, running })
    }

    fn reconcile(&self, observed: &Observed, now: Timestamp, _: &mut dyn Entropy) -> Plan {
        let deployment = &observed.deployment;
        let meta = &deployment.metadata;
        let spec = spec(deployment);
        if spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none() {
            return selecting_all(deployment);
        }
        let mut plan = Plan::default();
        let claims = observed.strangers.iter().map(|s| release::<ReplicaSet>(&s.metadata, uid(meta), None));
        plan.actions.extend(claims);
        let adoptions = observed.orphans.iter().map(|s| adopt::<ReplicaSet, Deployment>(&s.metadata, meta, None));
        plan.actions.extend(adoptions);
        if !plan.actions.is_empty() {
            // What follows depends on which sets are ours: look again when they are.
            return plan;
        }
        let mut rollout = Rollout::new(observed, now);
        if is_deleting(meta) {
            rollout.finish_without_progress(&mut plan);
        } else if spec.paused == Some(true) || rollout.is_scaling_event() {
            rollout.sync_revision(false);
            rollout.scale_proportionally();
            if spec.paused == Some(true) {
                rollout.clean_up_history();
            }
            rollout.finish_without_progress(&mut plan);
        } else {
            if is_rolling(deployment) {
                rollout.roll()
            } else {
                rollout.recreate(&observed.running)
            }
            rollout.finish(&mut plan);
        }
        plan
    }

    fn refused(&self, observed: &Observed, refusal: &Refusal<'_>, now: Timestamp) -> Plan {
        let Action::Create { body, .. } = refusal.action else { return Plan::default() };
        let deployment = &observed.deployment;
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("Failed to create new replica set {name:?}: {}", refusal.message);
        let mut new = deployment.status.clone().unwrap_or_default();
        if status::has_progress_deadline(spec(deployment)) {
            status::set(&mut new, status::condition("Progressing", "False", "ReplicaSetCreateError", &message, now));
        }
        Plan {
            status: status_patch::<Deployment, _>(&deployment.metadata, deployment.status.as_ref(), &new, Guard::Same),
            events: vec![event::<Deployment>(
                &deployment.metadata,
                EventType::Warning,
                "ReplicaSetCreateError",
                message,
            )],
            ..Plan::default()
        }
    }
}

/// An empty selector matches every pod: nothing is done but to say so.
fn selecting_all(deployment: &Deployment) -> Plan {
    let meta = &deployment.metadata;
    let observed = deployment.status.as_ref().and_then(|s| s.observed_generation);
    if observed >= meta.generation {
        return Plan::default();
    }
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let mut new = deployment.status.clone().unwrap_or_default();
    new.observed_generation = meta.generation;
    Plan {
        status: status_patch::<Deployment, _>(meta, deployment.status.as_ref(), &new, Guard::Same),
        events: vec![event::<Deployment>(meta, EventType::Warning, "SelectingAll", message)],
        ..Plan::default()
    }
}

fn spec(deployment: &Deployment) -> &DeploymentSpec {
    &deployment.spec
}

fn desired(deployment: &Deployment) -> i32 {
    spec(deployment).replicas.unwrap_or(1).max(0)
}

fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = spec(deployment).strategy.as_ref().and_then(|s| s.type_.as_deref());
    strategy != Some("Recreate")
}

/// How far a rolling update may leave the wanted number: (above, below). Zero for Recreate.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let wanted = desired(deployment);
    let update = spec(deployment).strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let value = |of: Option<&IntOrString>, up: bool| match of {
        Some(IntOrString::Int(n)) => (*n).max(0),
        Some(IntOrString::String(text)) => percent(text, wanted, up),
        None => 0,
    };
    let surge = value(update.and_then(|u| u.max_surge.as_ref()), true);
    let unavailable = value(update.and_then(|u| u.max_unavailable.as_ref()), false);
    match (surge, unavailable) {
        // Percentages can both round to nothing; without any room no update could ever move.
        (0, 0) if wanted > 0 => (0, 1),
        _ => (surge, unavailable.min(wanted)),
    }
}

fn percent(text: &str, of: i32, up: bool) -> i32 {
    let share: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
    let hundredths = share.clamp(0, i64::from(i32::MAX)) * i64::from(of);
    let rounded = if up { (hundredths + 99) / 100 } else { hundredths / 100 };
    rounded.min(i32::MAX.into()) as i32
}

fn deployments_of(view: &dyn View, set: &ReplicaSet) -> Vec<ObjectKey> {
    let namespace = objects::namespace(&set.metadata);
    match controller_of(&set.metadata) {
        Some(owner) if owner.kind == "Deployment" => vec![ObjectKey::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let matches = |d: &Arc<Deployment>| {
                let selector = LabelSelector::from_typed(Some(&d.spec.selector));
                selector.matches_map(set.metadata.labels.as_ref())
            };
            let deployments = view.list::<Deployment>(Some(namespace)).into_iter().filter(matches);
            deployments.map(|d| ObjectKey::of(&d.metadata)).collect()
        }
    }
}

fn recreating_deployment_of(view: &dyn View, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = objects::namespace(&pod.metadata);
    let key = || {
        let owner = controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet")?;
        let set = view.get::<ReplicaSet>(&ObjectKey::new(namespace, &owner.name))?;
        let owner = controller_of(&set.metadata).filter(|o| o.kind == "Deployment")?;
        let key = ObjectKey::new(namespace, &owner.name);
        let deployment = view.get::<Deployment>(&key)?;
        (!is_rolling(&deployment)).then_some(key)
    };
    key().into_iter().collect()
}

/// The patch of a ReplicaSet's size, annotations and minReadySeconds.
fn set_patch(set: &ReplicaSet, replicas: Option<i32>, annotations: serde_json::Value, ready: Option<i32>) -> Action {
    let mut body = json!({});
    if let Some(replicas) = replicas {
        body["spec"]["replicas"] = json!(replicas);
    }
    if let Some(ready) = ready {
        body["spec"]["minReadySeconds"] = json!(ready);
    }
    if annotations.as_object().is_some_and(|a| !a.is_empty()) {
        body["metadata"]["annotations"] = annotations;
    }
    objects::patch::<ReplicaSet>(&set.metadata, body)
}

#[cfg(test)]
#[path = "deployment_tests.rs"]
mod tests;
