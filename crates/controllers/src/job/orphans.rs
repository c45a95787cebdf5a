//! Frees pods whose Job is gone: their tracking finalizer would hold them forever.
//!
//! What must stay true: a pod of a Job that exists is never touched here; its own controller counts it first.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use skiff_reconcile::{Controller, Entropy, ObjectKey, Plan, View, ViewExt, Watch};

use super::TRACKING_FINALIZER;
use crate::objects::{controller_of, has_finalizer, namespace, remove_finalizer, uid};

/// Its keys are those of pods, and only of such that look lost.
#[derive(Debug, Default)]
pub struct JobOrphansController;

impl Controller for JobOrphansController {
    type Observed = Arc<Pod>;
    const NAME: &'static str = "job-orphans-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![Watch::by::<Pod>(lost), Watch::by::<Job>(pods_of_gone)]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Arc<Pod>> {
        view.get::<Pod>(key).filter(|pod| is_lost(view, pod))
    }

    fn reconcile(&self, pod: &Arc<Pod>, _: Timestamp, _: &mut dyn Entropy) -> Plan {
        Plan { actions: vec![remove_finalizer::<Pod>(&pod.metadata, TRACKING_FINALIZER)], ..Plan::default() }
    }
}

fn lost(view: &dyn View, pod: &Pod) -> Vec<ObjectKey> {
    is_lost(view, pod).then(|| ObjectKey::of(&pod.metadata)).into_iter().collect()
}

/// A Job that is still there owns its pods; asked for every change of a Job, so the usual answer is cheap.
fn pods_of_gone(view: &dyn View, job: &Job) -> Vec<ObjectKey> {
    let there = view.get::<Job>(&ObjectKey::of(&job.metadata)).is_some_and(|j| j.metadata.uid == job.metadata.uid);
    if there {
        return Vec::new();
    }
    view.owned::<Pod>(uid(&job.metadata)).iter().map(|p| ObjectKey::of(&p.metadata)).collect()
}

fn is_lost(view: &dyn View, pod: &Pod) -> bool {
    if !has_finalizer(&pod.metadata, TRACKING_FINALIZER) {
        return false;
    }
    let Some(owner) = controller_of(&pod.metadata) else {
        // Orphaned, unless a Job with a manual selector is about to adopt it: then it will be given a new finalizer.
        return true;
    };
    let job = view.get::<Job>(&ObjectKey::new(namespace(&pod.metadata), &owner.name));
    owner.kind == "Job" && job.is_none_or(|j| uid(&j.metadata) != owner.uid)
}
