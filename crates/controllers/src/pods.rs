//! What controllers know about pods: their state, how to make one from a template, which one to give up first.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};
use skiff_reconcile::{Action, Entropy, KindRef, Object};

use crate::objects::{annotation, controller_reference, created, is_deleting, namespace, uid};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The longest base of a generated name; five random characters follow.
const GENERATED_BASE_MAX: usize = 58;
/// Attempts to find a name that no pod of the same owner has.
const NAME_ATTEMPTS_MAX: usize = 16;

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}
pub fn is_succeeded(pod: &Pod) -> bool {
    phase(pod) == "Succeeded"
}
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}
/// Neither ended nor asked to end.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(&pod.metadata)
}
/// Asked to end and not yet ended.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleting(&pod.metadata)
}

pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|t| t.0))
}
pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// When a ready pod has been ready for `min_ready_seconds` (which may be in the past); `None` when it is not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let since = ready_since(pod)?;
    if min_ready_seconds <= 0 {
        return Some(Timestamp::MIN);
    }
    since?.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()
}

pub fn restarts(pod: &Pod) -> i64 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref());
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    containers.into_iter().chain(init).flatten().map(|c| i64::from(c.restart_count)).sum()
}

/// The body of a pod, without its name.
pub fn from_template<Owner: Object>(template: &PodTemplateSpec, owner: &ObjectMeta) -> Value {
    let empty = ObjectMeta::default();
    let meta = template.metadata.as_ref().unwrap_or(&empty);
    let mut metadata = json!({ "ownerReferences": [controller_reference::<Owner>(owner)] });
    for (field, value) in [
        ("labels", json!(meta.labels)),
        ("annotations", json!(meta.annotations)),
        ("finalizers", json!(meta.finalizers)),
    ] {
        if !value.is_null() {
            metadata[field] = value;
        }
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.spec })
}

/// Names for new pods of one owner that none of its pods has. They are chosen here and not by the server, so that the
/// event about a pod can say its name.
pub struct Names<'a>(HashSet<&'a str>);

impl<'a> Names<'a> {
    pub fn of(pods: &'a [Arc<Pod>]) -> Self {
        Self(pods.iter().filter_map(|p| p.metadata.name.as_deref()).collect())
    }

    /// `base` and five characters.
    pub fn next(&self, base: &str, entropy: &mut dyn Entropy) -> String {
        let mut end = base.len().min(GENERATED_BASE_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS_MAX {
            name = format!("{}{}", &base[..end], entropy.suffix(5));
            if !self.0.contains(name.as_str()) {
                break;
            }
        }
        name
    }
}

/// The create of a pod with this body under this name.
pub fn create(mut body: Value, base: &str, name: &str, owner: &ObjectMeta) -> Action {
    body["metadata"]["generateName"] = json!(base);
    body["metadata"]["name"] = json!(name);
    Action::Create { kind: KindRef::of::<Pod>(), namespace: namespace(owner).to_owned(), body }
}

/// Sorts pods so that the first is the best to delete: not scheduled, pending, not ready, cheap by annotation, on a
/// node with many of its kind, younger, restarted more often. Ages count by order of magnitude, so that pods of about
/// the same age are chosen evenly, by UID.
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], on_node: &BTreeMap<String, usize>, now: Timestamp) {
    pods.sort_by_cached_key(|pod| RankKey::new(pod, on_node, now));
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RankKey {
    scheduled: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    crowd: std::cmp::Reverse<usize>,
    ready_age: u32,
    calm: std::cmp::Reverse<i64>,
    age: u32,
    uid: String,
}

impl RankKey {
    fn new(pod: &Pod, on_node: &BTreeMap<String, usize>, now: Timestamp) -> Self {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty());
        Self {
            scheduled: node.is_some(),
            phase: match phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready: is_ready(pod),
            cost: annotation(&pod.metadata, DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0),
            crowd: std::cmp::Reverse(node.and_then(|n| on_node.get(n)).copied().unwrap_or(0)),
            ready_age: magnitude(ready_since(pod).flatten(), now),
            calm: std::cmp::Reverse(restarts(pod)),
            age: magnitude(created(&pod.metadata), now),
            uid: uid(&pod.metadata).to_owned(),
        }
    }
}

/// Twice as old is one more; unknown is youngest.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = since.map_or(0, |t| now.duration_since(t).as_secs().max(0)) as u64;
    u64::BITS - seconds.leading_zeros()
}

/// When the pod ended: the last of its containers, else when it stopped being ready, else when it was asked to.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let ends: Option<Vec<Timestamp>> =
        statuses.iter().map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).collect();
    ends.and_then(|e| e.into_iter().max())
        .or_else(|| condition(pod, "Ready").filter(|c| c.status == "False")?.last_transition_time.as_ref().map(|t| t.0))
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|t| t.0))
        .or_else(|| created(&pod.metadata))
}

/// Oldest first, then by name.
pub fn by_creation(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    created(a).cmp(&created(b)).then_with(|| a.name.cmp(&b.name))
}
