//! The decision about a batch of pods.

use std::sync::Arc;

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use crate::{
    PodInfo, Profile, Rejection, Snapshot, Template, Verdict, diagnosis::Diagnosis, evaluation::Evaluation,
    framework::Permit,
};

/// Templates of one batch whose evaluations are kept at a time; beyond it all are dropped and computed again when needed.
const EVALUATIONS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub pod: PodInfo,
    pub outcome: Outcome,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Post `binding` to the pod's `binding` subresource. The pod already counts on the node; when the post fails,
    /// [`Snapshot::forget`] it and [`crate::Queue::requeue`] it.
    Bind { node: Arc<str>, binding: Value },
    /// Hold the pod until `plugin` lets it go, then post `binding`; after `timeout` give up as when a post fails.
    Wait { node: Arc<str>, binding: Value, plugin: &'static str, timeout: Duration },
    /// Write the condition, record a `FailedScheduling` event, and hand it to [`crate::Queue::unschedulable`].
    Unschedulable(Arc<Rejection>),
    /// It has a node already: drop it from the queue.
    Placed { node: Arc<str> },
}

/// Decides the pods in order; each counts in the snapshot for those after it. Pods with equal templates share their
/// work: a burst of equal pods costs little more than one.
pub fn schedule(batch: &[PodInfo], snapshot: &mut Snapshot, profile: &Profile) -> Vec<Decision> {
    let mut cycle = Cycle { snapshot, profile, evaluations: Vec::new(), by_hash: HashMap::new(), log: Vec::new() };
    batch.iter().map(|pod| Decision { pod: pod.clone(), outcome: cycle.decide(pod) }).collect()
}

struct Cycle<'a> {
    snapshot: &'a mut Snapshot,
    profile: &'a Profile,
    evaluations: Vec<Evaluation>,
    /// Template hash to positions in `evaluations`.
    by_hash: HashMap<u64, Vec<usize>>,
    /// The index of the node of each assignment so far.
    log: Vec<usize>,
}

impl Cycle<'_> {
    fn decide(&mut self, pod: &PodInfo) -> Outcome {
        if let Some(node) = self.snapshot.node_of(&pod.uid) {
            return Outcome::Placed { node: node.clone() };
        }
        let at = self.evaluation_of(&pod.template);
        let evaluation = &mut self.evaluations[at];
        evaluation.catch_up(self.profile, self.snapshot.nodes(), &self.log);
        let Some(index) = evaluation.best() else {
            return Outcome::Unschedulable(evaluation.rejection(self.profile, self.snapshot.nodes(), pod.priority));
        };
        self.place(pod, index)
    }

    /// Reserve, permit, bind.
    fn place(&mut self, pod: &PodInfo, index: usize) -> Outcome {
        let node = &self.snapshot.nodes()[index];
        let mut wait = None;
        for (plugin, _) in &self.profile.plugins {
            let points = plugin.points();
            let verdict = if points.reserve { plugin.reserve(pod, node) } else { Verdict::Fit };
            if !verdict.is_fit() {
                return reject_one(&**plugin, &verdict);
            }
            match if points.permit { plugin.permit(pod, node) } else { Permit::Allow } {
                Permit::Allow => {}
                Permit::Wait(timeout) => wait = wait.or(Some((plugin.name(), timeout))),
                Permit::Reject(reason) => return reject_one(&**plugin, &Verdict::Unschedulable(vec![reason])),
            }
        }
        let name = node.name.clone();
        let mut binders = self.profile.plugins.iter().filter(|(p, _)| p.points().bind);
        let binding = binders.find_map(|(p, _)| p.bind(pod, &name)).unwrap_or(Value::Null);
        self.snapshot.assume(pod, &name);
        self.log.push(index);
        match wait {
            None => Outcome::Bind { node: name, binding },
            Some((plugin, timeout)) => Outcome::Wait { node: name, binding, plugin, timeout },
        }
    }

    fn evaluation_of(&mut self, template: &Arc<Template>) -> usize {
        let hash = template.template_hash();
        let known = self.by_hash.get(&hash).into_iter().flatten().copied().find(|at| {
            let other = &self.evaluations[*at].template;
            Arc::ptr_eq(other, template) || other == template
        });
        if let Some(at) = known {
            return at;
        }
        if self.evaluations.len() == EVALUATIONS_MAX {
            self.evaluations.clear();
            self.by_hash.clear();
        }
        let evaluation = Evaluation::new(template.clone(), self.profile, self.snapshot.nodes(), self.log.len());
        self.evaluations.push(evaluation);
        self.by_hash.entry(hash).or_default().push(self.evaluations.len() - 1);
        self.evaluations.len() - 1
    }
}

fn reject_one(plugin: &dyn crate::Plugin, verdict: &Verdict) -> Outcome {
    let mut diagnosis = Diagnosis::default();
    // Whether preemption could help is not known here: say nothing about it.
    diagnosis.add(plugin, &Verdict::Unschedulable(verdict.reasons().to_vec()), true);
    Outcome::Unschedulable(Arc::new(diagnosis.finish()))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
