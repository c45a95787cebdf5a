//! One look at a Deployment and its ReplicaSets: which sizes the sets get.
//!
//! Sizes are decided on a copy and written once per set at the end, so that a plan has at most one write per set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use serde_json::{Value, json};
use skiff_reconcile::{Action, EventType, KindRef, Plan, PlannedEvent};

use super::{
    Observed, POD_TEMPLATE_HASH, bounds, desired, is_rolling,
    revision::{self, DESIRED_REPLICAS, MAX_REPLICAS, REVISION, new_set_annotations, revision_of, same_template},
    set_patch, spec, status,
};
use crate::objects::{
    Guard, annotation, controller_reference, created, delete, event, is_deleting, name, status_patch,
};

struct Set {
    set: Arc<ReplicaSet>,
    replicas: i32,
    annotations: BTreeMap<String, String>,
    min_ready_seconds: Option<i32>,
}

impl Set {
    fn written(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1)
    }
    /// Its status speaks of its present spec.
    fn is_observed(&self) -> bool {
        self.set.status.as_ref().and_then(|s| s.observed_generation) >= self.set.metadata.generation
    }
    /// Never more than its size: the status may still count pods that the set was told to give up.
    fn available(&self) -> i32 {
        status::available(&self.set).min(self.replicas)
    }
}

pub struct Rollout<'a> {
    observed: &'a Observed,
    deployment: &'a Deployment,
    now: Timestamp,
    desired: i32,
    surge: i32,
    unavailable: i32,
    /// Oldest first.
    sets: Vec<Set>,
    new: Option<usize>,
    status: DeploymentStatus,
    actions: Vec<Action>,
    events: Vec<PlannedEvent>,
}

impl<'a> Rollout<'a> {
    pub fn new(observed: &'a Observed, now: Timestamp) -> Self {
        let deployment = &*observed.deployment;
        let (surge, unavailable) = bounds(deployment);
        let template = &spec(deployment).template;
        let is_new = |s: &Arc<ReplicaSet>| s.spec.template.as_ref().is_some_and(|t| same_template(t, template));
        let sets = observed.own.iter().map(|set| {
            let set = Set { set: set.clone(), replicas: 0, annotations: BTreeMap::new(), min_ready_seconds: None };
            Set { replicas: set.written(), ..set }
        });
        let mut status = deployment.status.clone().unwrap_or_default();
        if !is_deleting(&deployment.metadata) {
            status::note_pause(deployment, &mut status, now);
        }
        Self {
            observed,
            deployment,
            now,
            desired: desired(deployment),
            surge,
            unavailable,
            sets: sets.collect(),
            new: observed.own.iter().position(is_new),
            status,
            actions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The wanted number changed since the sets were last sized.
    pub fn is_scaling_event(&self) -> bool {
        let sized_for = |s: &Set| annotation(&s.set.metadata, DESIRED_REPLICAS)?.parse::<i32>().ok();
        self.sets.iter().filter(|s| s.replicas > 0).any(|s| sized_for(s).is_some_and(|n| n != self.desired))
    }

    /// Scales the new set up and the old ones down, as far as the bounds allow now.
    pub fn roll(&mut self) {
        if !self.sync_revision(true) {
            return;
        }
        let Some(new) = self.new else { return };
        let before = self.sets[new].replicas;
        let wanted = if before > self.desired { self.desired } else { self.room_for_new(before) };
        self.resize(new, wanted);
        if wanted == before && !self.scale_old_down(new) {
            self.clean_up_when_complete();
        }
    }

    /// Stops all old pods first, then starts the new ones.
    pub fn recreate(&mut self, running: &[String]) {
        self.sync_revision(false);
        let old: Vec<usize> = self.old().filter(|i| self.sets[*i].replicas > 0).collect();
        let new_uid = self.new.and_then(|i| self.sets[i].set.metadata.uid.clone());
        let counted = self.old().any(|i| status::set_status(&self.sets[i].set).replicas > 0);
        let still_running = counted || running.iter().any(|uid| Some(uid) != new_uid.as_ref());
        if !old.is_empty() {
            old.into_iter().for_each(|i| self.resize(i, 0));
        } else if !still_running && self.sync_revision(true) {
            if let Some(new) = self.new {
                self.resize(new, self.desired);
            }
            self.clean_up_when_complete();
        }
    }

    /// Keeps the proportions of a rollout under way when the wanted number changes or while it is paused.
    pub fn scale_proportionally(&mut self) {
        let active: Vec<usize> = (0..self.sets.len()).filter(|i| self.sets[*i].replicas > 0).collect();
        match active[..] {
            [] => {
                let newest = self.new.or_else(|| self.sets.len().checked_sub(1));
                newest.into_iter().for_each(|i| self.resize(i, self.desired));
            }
            [only] => {
                self.resize(only, self.desired);
                self.annotate_size(only);
            }
            _ if self.is_saturated() => {
                let old: Vec<_> = active.into_iter().filter(|i| Some(*i) != self.new).collect();
                old.into_iter().for_each(|i| self.resize(i, 0));
            }
            _ if is_rolling(self.deployment) => self.spread(active),
            // Recreate sizes them by itself, once they say that they know of the wanted number.
            _ => active.into_iter().for_each(|i| self.annotate_size(i)),
        }
    }

    /// The new set alone has everything that is wanted, and its pods are available.
    fn is_saturated(&self) -> bool {
        self.new.is_some_and(|i| {
            let set = &self.sets[i];
            let sized_for = annotation(&set.set.metadata, DESIRED_REPLICAS).and_then(|n| n.parse().ok());
            set.replicas == self.desired
                && sized_for == Some(self.desired)
                && status::available(&set.set) == self.desired
        })
    }

    fn spread(&mut self, mut active: Vec<usize>) {
        let total: i32 = active.iter().map(|i| self.sets[*i].replicas).sum();
        let allowed = if self.desired > 0 { self.desired + self.surge } else { 0 };
        let change = allowed - total;
        // The largest first; of equals the newest grows first and the oldest shrinks first.
        let age = |i: &usize| created(&self.sets[*i].set.metadata);
        active.sort_by(|a, b| {
            let by_age = if change > 0 { age(b).cmp(&age(a)) } else { age(a).cmp(&age(b)) };
            self.sets[*b].replicas.cmp(&self.sets[*a].replicas).then(by_age)
        });
        let mut done = 0;
        let mut sizes: Vec<i32> = Vec::new();
        for i in &active {
            let share = self.share(*i, change, change - done);
            done += share;
            sizes.push(self.sets[*i].replicas + share);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + change - done).max(0);
        }
        for (i, size) in active.into_iter().zip(sizes) {
            self.resize(i, size);
            self.annotate_size(i);
        }
    }

    /// By how much a set changes: in proportion to its size when it was last sized, within what is left to give.
    fn share(&self, i: usize, change: i32, left: i32) -> i32 {
        let set = &self.sets[i];
        if change == 0 || left == 0 {
            return 0;
        }
        let fraction = if self.desired == 0 {
            -set.replicas
        } else {
            let max_before = annotation(&set.set.metadata, MAX_REPLICAS).and_then(|n| n.parse::<i32>().ok());
            let max_before = max_before.filter(|n| *n > 0).or(self.status.replicas).unwrap_or(0);
            if max_before == 0 {
                return 0;
            }
            let scaled = i64::from(set.replicas) * i64::from(self.desired + self.surge);
            let size = (scaled as f64 / f64::from(max_before)).round();
            size as i32 - set.replicas
        };
        if change > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    /// Finds or creates the new set and keeps its annotations and the deployment's revision. False when what follows
    /// has to wait for a write.
    pub fn sync_revision(&mut self, create: bool) -> bool {
        let next = self.old().filter_map(|i| revision_of(&self.sets[i].set)).max().unwrap_or(0) + 1;
        let Some(new) = self.new else {
            if create {
                self.create_set(next);
            }
            return false;
        };
        let deployment = self.deployment;
        let changes = new_set_annotations(deployment, Some(&self.sets[new].set), next);
        let revision = changes.get(REVISION).cloned();
        let set = &mut self.sets[new];
        set.annotations.extend(changes);
        let ready = spec(deployment).min_ready_seconds.unwrap_or(0);
        let written = set.set.spec.min_ready_seconds.unwrap_or(0);
        set.min_ready_seconds = (ready != written).then_some(ready);
        let found = format!("Found new replica set {:?}", name(&set.set.metadata));
        let revision = revision.or_else(|| annotation(&set.set.metadata, REVISION).map(String::from));
        self.note_revision(revision);
        if status::has_progress_deadline(spec(deployment)) && status::get(&self.status, status::PROGRESSING).is_none() {
            let condition = status::condition(status::PROGRESSING, "True", "FoundNewReplicaSet", &found, self.now);
            status::set(&mut self.status, condition);
        }
        true
    }

    fn create_set(&mut self, revision: i64) {
        let set_name = revision::set_name(self.deployment);
        if self.observed.name_taken_by.is_some() {
            // Another template has the same hash: the next name will differ.
            *self.status.collision_count.get_or_insert(0) += 1;
            return;
        }
        let replicas = if is_rolling(self.deployment) { self.room_for_new(0) } else { self.desired };
        self.actions.push(self.new_set(&set_name, replicas, revision));
        if replicas > 0 {
            self.scaling_event(format!("Scaled up replica set {set_name} from 0 to {replicas}"));
        }
        self.note_revision(Some(revision.to_string()));
        if status::has_progress_deadline(spec(self.deployment)) {
            let message = format!("Created new replica set {set_name:?}");
            let condition = status::condition(status::PROGRESSING, "True", "NewReplicaSetCreated", &message, self.now);
            status::set(&mut self.status, condition);
        }
    }

    fn new_set(&self, set_name: &str, replicas: i32, revision: i64) -> Action {
        let meta = &self.deployment.metadata;
        let spec = spec(self.deployment);
        let hash = revision::template_hash(self.deployment);
        let mut annotations = new_set_annotations(self.deployment, None, revision);
        annotations.extend(self.size_annotations());
        let mut template = json!(spec.template);
        template["metadata"]["labels"][POD_TEMPLATE_HASH] = json!(hash);
        let mut selector = json!(spec.selector);
        selector["matchLabels"][POD_TEMPLATE_HASH] = json!(hash);
        let mut body = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": set_name,
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [controller_reference::<Deployment>(meta)],
            },
            "spec": { "replicas": replicas, "selector": selector, "template": template },
        });
        if let Some(ready) = spec.min_ready_seconds {
            body["spec"]["minReadySeconds"] = json!(ready);
        }
        let namespace = meta.namespace.clone().unwrap_or_default();
        Action::Create { kind: KindRef::of::<ReplicaSet>(), namespace, body }
    }

    /// The deployment shows the revision of its new set.
    fn note_revision(&mut self, revision: Option<String>) {
        let meta = &self.deployment.metadata;
        let Some(revision) = revision.filter(|r| annotation(meta, REVISION) != Some(r)) else { return };
        let key = skiff_reconcile::ObjectKey::of(meta);
        let patch = json!({ "metadata": { "annotations": { REVISION: revision } } });
        let preconditions = skiff_reconcile::Preconditions { uid: meta.uid.clone(), resource_version: None };
        let kind = KindRef::of::<Deployment>();
        let write = Action::Patch { kind, key, subresource: None, patch, preconditions };
        if !self.actions.contains(&write) {
            self.actions.push(write);
        }
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |i| Some(*i) != new)
    }
    fn total(&self) -> i32 {
        self.sets.iter().map(|s| s.replicas).sum()
    }

    /// The size of the new set when all pods together may be `surge` more than wanted.
    fn room_for_new(&self, size: i32) -> i32 {
        let room = (self.desired + self.surge - self.total()).max(0);
        size + room.min(self.desired - size)
    }

    /// First the old pods that serve nobody, then as many as leave enough available ones. True if any.
    fn scale_old_down(&mut self, new: usize) -> bool {
        // A set that has not seen its size yet may count pods as available that it is about to give up.
        if self.sets.iter().any(|s| !s.is_observed()) {
            return false;
        }
        let enough = self.desired - self.unavailable;
        let new_missing = self.sets[new].replicas - self.sets[new].available();
        let mut may_go = self.total() - enough - new_missing;
        if may_go <= 0 {
            return false;
        }
        let mut changed = false;
        for i in self.old() {
            let idle = self.sets[i].replicas - self.sets[i].available();
            let cut = idle.min(may_go).max(0);
            self.resize(i, self.sets[i].replicas - cut);
            may_go -= cut;
            changed |= cut > 0;
        }
        let available: i32 = self.sets.iter().map(Set::available).sum();
        let mut spare = available - enough;
        for i in self.old() {
            let cut = self.sets[i].replicas.min(spare).max(0);
            self.resize(i, self.sets[i].replicas - cut);
            spare -= cut;
            changed |= cut > 0;
        }
        changed
    }

    fn resize(&mut self, i: usize, replicas: i32) {
        if self.sets[i].replicas != replicas {
            self.sets[i].replicas = replicas;
            self.annotate_size(i);
        }
    }

    fn size_annotations(&self) -> [(String, String); 2] {
        let max = self.desired + self.surge;
        [(DESIRED_REPLICAS.into(), self.desired.to_string()), (MAX_REPLICAS.into(), max.to_string())]
    }

    fn annotate_size(&mut self, i: usize) {
        for (key, value) in self.size_annotations() {
            if annotation(&self.sets[i].set.metadata, &key) != Some(&value) {
                self.sets[i].annotations.insert(key, value);
            }
        }
    }

    fn clean_up_when_complete(&mut self) {
        let seen = self.deployment.status.clone().unwrap_or_default();
        if status::is_complete(self.deployment, &seen) {
            self.clean_up_history();
        }
    }

    /// Deletes the oldest revisions beyond revisionHistoryLimit, if they have no pods.
    pub fn clean_up_history(&mut self) {
        let Some(limit) = spec(self.deployment).revision_history_limit.filter(|l| *l != i32::MAX) else { return };
        let mut old: Vec<usize> = self.old().filter(|i| !is_deleting(&self.sets[*i].set.metadata)).collect();
        let surplus = old.len().saturating_sub(limit.max(0) as usize);
        // Stable: sets of one revision stay in the order of their creation.
        old.sort_by_key(|i| revision_of(&self.sets[*i].set));
        for i in old.into_iter().take(surplus) {
            let set = &self.sets[i];
            let empty = status::set_status(&set.set).replicas == 0 && set.written() == 0 && set.replicas == 0;
            if empty && set.is_observed() {
                self.actions.push(delete::<ReplicaSet>(&set.set.metadata, None));
            }
        }
    }

    fn scaling_event(&mut self, message: String) {
        let meta = &self.deployment.metadata;
        self.events.push(event::<Deployment>(meta, EventType::Normal, "ScalingReplicaSet", message));
    }

    /// For rollouts: with the conditions about their progress.
    pub fn finish(mut self, plan: &mut Plan) {
        let old = self.deployment.status.clone().unwrap_or_default();
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().map(|s| s.set.clone()).collect();
        let sets: Vec<&ReplicaSet> = sets.iter().map(|s| &**s).collect();
        let new = self.new.map(|i| sets[i]);
        self.status = self.counted(&sets, new);
        // What this plan itself says (found, created, resumed) is news enough.
        if status::reason(&old, status::PROGRESSING) == status::reason(&self.status, status::PROGRESSING) {
            status::progressed(self.deployment, &old, &mut self.status, &sets, new, self.now);
        }
        plan.requeue = status::next_check(self.deployment, &self.status, self.now);
        self.write(plan);
    }

    /// While paused, scaled or deleted: counts alone.
    pub fn finish_without_progress(mut self, plan: &mut Plan) {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().map(|s| s.set.clone()).collect();
        let sets: Vec<&ReplicaSet> = sets.iter().map(|s| &**s).collect();
        self.status = self.counted(&sets, self.new.map(|i| sets[i]));
        self.write(plan);
    }

    fn counted(&self, sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> DeploymentStatus {
        status::counted(self.deployment, &self.status, sets, new, self.total(), self.now)
    }

    fn write(mut self, plan: &mut Plan) {
        let mut seen = BTreeSet::new();
        for i in 0..self.sets.len() {
            let set = &self.sets[i];
            let (from, to) = (set.written(), set.replicas);
            let annotations: Value = json!(set.annotations);
            if from != to || !set.annotations.is_empty() || set.min_ready_seconds.is_some() {
                let resized = (from != to).then_some(to);
                self.actions.push(set_patch(&set.set, resized, annotations, set.min_ready_seconds));
            }
            if from != to && seen.insert(i) {
                let direction = if from < to { "up" } else { "down" };
                let set_name = name(&self.sets[i].set.metadata).to_owned();
                self.scaling_event(format!("Scaled {direction} replica set {set_name} from {from} to {to}"));
            }
        }
        plan.actions.append(&mut self.actions);
        plan.events.append(&mut self.events);
        let meta = &self.deployment.metadata;
        let before = self.deployment.status.as_ref();
        plan.status = status_patch::<Deployment, _>(meta, before, &self.status, Guard::Same);
    }
}
