//! Run plans against a model of the API until nothing is left to do.
//!
//! The model keeps what a controller can observe: uids, resource versions, generations, finalizers, graceful deletion
//! of pods on nodes, preconditions. It does not default, validate or collect garbage. What must stay true: a write
//! that changes nothing bumps no revision, so a controller that rewrites what is there already never looks quiet by
//! accident; it looks busy, and [`settle`] fails.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{Action, AnyObject, Codec, Controller, Entropy, KindRef, Object, ObjectKey, Plan, Preconditions, View};

/// How many plans in a row may have something to do.
pub const ROUNDS_MAX: usize = 100;

/// Why the API would not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    #[error("{0} already exists")]
    AlreadyExists(String),
    #[error("{0} not found")]
    NotFound(String),
    #[error("{0} has changed")]
    Conflict(String),
    #[error("some {0} remain")]
    Remaining(String),
    #[error("{0} does not decode: {1}")]
    Invalid(String, String),
}

/// A controller that does not come to rest.
#[derive(Debug, Error)]
pub enum NotQuiet {
    #[error("still busy after {ROUNDS_MAX} plans; the last one:\n{0}")]
    Busy(Box<Plan>),
    #[error("the plan\n{plan}was rejected: {reason}")]
    Rejected { plan: Box<Plan>, reason: Rejected },
}

/// A counter in base 27, written with the letters of generated names.
#[derive(Debug, Default)]
pub struct CountingEntropy(u64);

impl Entropy for CountingEntropy {
    fn suffix(&mut self, n: usize) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.0 += 1;
        let mut rest = self.0;
        let mut out = vec![b'b'; n];
        for c in out.iter_mut().rev() {
            *c = LETTERS[(rest % 27) as usize];
            rest /= 27;
        }
        out.into_iter().map(char::from).collect()
    }
}

struct Stored {
    value: Value,
    decoded: AnyObject,
}

/// The objects of a cluster, as a [`View`] and as what plans are executed against.
#[derive(Default)]
pub struct Model {
    objects: BTreeMap<(KindRef, ObjectKey), Stored>,
    codecs: BTreeMap<KindRef, Codec>,
    entropy: CountingEntropy,
    revision: u64,
}

impl Model {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the kind known; [`Self::insert`] and [`settle`] do it by themselves. Whole objects win over metadata.
    pub fn declare(&mut self, codec: Codec) {
        let known = self.codecs.entry(codec.kind).or_insert(codec);
        if known.metadata_only {
            *known = codec;
        }
    }

    /// Adds or replaces an object as it is, filling in uid, resource version and creation time where absent.
    /// Returns its uid.
    ///
    /// # Panics
    /// When the object does not survive its own JSON.
    pub fn insert<K: Object + Serialize>(&mut self, object: K, now: Timestamp) -> String {
        self.declare(Codec::of::<K>());
        let kind = KindRef::of::<K>();
        let mut value = serde_json::to_value(object).expect("k8s-openapi types serialize");
        self.complete(&kind, &mut value, now);
        let uid = text(&value, "/metadata/uid").to_owned();
        self.put(&kind, value).expect("a serialized object decodes");
        uid
    }

    /// Changes an object behind the controller's back, as users, nodes and other controllers do.
    ///
    /// # Panics
    /// When the object does not exist.
    pub fn change<K: Object + Serialize>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut K)) {
        let kind = KindRef::of::<K>();
        let stored = self.objects.get(&(kind, key.clone())).expect("the object to change exists");
        let mut object: K = serde_json::from_value(stored.value.clone()).expect("a stored object decodes");
        change(&mut object);
        let value = serde_json::to_value(object).expect("k8s-openapi types serialize");
        self.put(&kind, value).expect("a serialized object decodes");
    }

    /// Takes an object away at once.
    pub fn remove<K: Object>(&mut self, key: &ObjectKey) {
        self.objects.remove(&(KindRef::of::<K>(), key.clone()));
        self.revision += 1;
    }

    /// The object as it is stored.
    pub fn json(&self, kind: &KindRef, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(&(*kind, key.clone())).map(|s| &s.value)
    }

    /// Executes one write.
    pub fn apply(&mut self, action: &Action, now: Timestamp) -> Result<(), Rejected> {
        match action {
            Action::Create { kind, namespace, body } => self.create(kind, namespace, body, now),
            Action::Patch { kind, key, subresource, patch, preconditions } => {
                let mut new = self.guarded(kind, key, preconditions)?;
                let patch = only(patch, *subresource);
                merge(&mut new, &patch);
                self.write(kind, key, new)
            }
            Action::Update { kind, key, subresource, body } => {
                let preconditions = Preconditions {
                    uid: body.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned),
                    resource_version: body
                        .pointer("/metadata/resourceVersion")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                };
                let old = self.guarded(kind, key, &preconditions)?;
                let mut new = body.clone();
                match subresource {
                    Some("status") => {
                        new = old.clone();
                        new["status"] = body["status"].clone();
                    }
                    Some("finalize") => {
                        new = old.clone();
                        new["spec"]["finalizers"] = body["spec"]["finalizers"].clone();
                    }
                    _ => new["status"] = old["status"].clone(),
                }
                self.write(kind, key, new)
            }
            Action::Delete { kind, key, propagation, grace_seconds, preconditions } => {
                let old = self.guarded(kind, key, preconditions)?;
                self.delete(kind, key, old, *propagation, *grace_seconds, now)
            }
            Action::DeleteCollection { kind, namespace } => self.delete_all(kind, namespace, now),
        }
    }

    fn create(&mut self, kind: &KindRef, namespace: &str, body: &Value, now: Timestamp) -> Result<(), Rejected> {
        let mut value = body.clone();
        if kind.namespaced {
            value["metadata"]["namespace"] = json!(namespace);
        }
        if text(&value, "/metadata/name").is_empty() {
            let name = format!("{}{}", text(&value, "/metadata/generateName"), self.entropy.suffix(5));
            value["metadata"]["name"] = json!(name);
        }
        let key = key_of(&value);
        if self.objects.contains_key(&(*kind, key.clone())) {
            return Err(Rejected::AlreadyExists(format!("{} {key}", kind.kind)));
        }
        if value.get("spec").is_some() {
            value["metadata"]["generation"] = json!(1);
        }
        self.complete(kind, &mut value, now);
        self.put(kind, value)
    }

    fn complete(&mut self, kind: &KindRef, value: &mut Value, now: Timestamp) {
        value["apiVersion"] = json!(kind.api_version());
        value["kind"] = json!(kind.kind);
        let next = self.revision + 1;
        let meta = &mut value["metadata"];
        for (field, filler) in
            [("uid", json!(format!("uid-{next}"))), ("creationTimestamp", json!(now.strftime("%FT%TZ").to_string()))]
        {
            if meta.get(field).is_none_or(Value::is_null) {
                meta[field] = filler;
            }
        }
    }

    fn put(&mut self, kind: &KindRef, mut value: Value) -> Result<(), Rejected> {
        let key = key_of(&value);
        let what = format!("{} {key}", kind.kind);
        let codec = self.codecs.get(kind).ok_or_else(|| Rejected::Invalid(what.clone(), "unknown kind".into()))?;
        value["metadata"]["resourceVersion"] = json!((self.revision + 1).to_string());
        let decoded = (codec.object)(value.clone()).map_err(|e| Rejected::Invalid(what, e.to_string()))?;
        self.revision += 1;
        self.objects.insert((*kind, key), Stored { value, decoded });
        Ok(())
    }

    fn guarded(&self, kind: &KindRef, key: &ObjectKey, pre: &Preconditions) -> Result<Value, Rejected> {
        let what = || format!("{} {key}", kind.kind);
        let old = &self.objects.get(&(*kind, key.clone())).ok_or_else(|| Rejected::NotFound(what()))?.value;
        let differs = |wanted: &Option<String>, at: &str| wanted.as_deref().is_some_and(|w| w != text(old, at));
        if differs(&pre.uid, "/metadata/uid") || differs(&pre.resource_version, "/metadata/resourceVersion") {
            return Err(Rejected::Conflict(what()));
        }
        Ok(old.clone())
    }

    /// Writes `new` over the object if it differs; an object that is being deleted goes with its last finalizer.
    fn write(&mut self, kind: &KindRef, key: &ObjectKey, mut new: Value) -> Result<(), Rejected> {
        let old = self.objects.get(&(*kind, key.clone())).map_or(Value::Null, |s| s.value.clone());
        if new == old {
            return Ok(());
        }
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64);
        if let (true, Some(generation)) = (new["spec"] != old["spec"], generation) {
            new["metadata"]["generation"] = json!(generation + 1);
        }
        let deleting = !text(&new, "/metadata/deletionTimestamp").is_empty();
        if deleting && !has_finalizers(&new) && !lingers(kind, &new) {
            self.objects.remove(&(*kind, key.clone()));
            self.revision += 1;
            return Ok(());
        }
        self.put(kind, new)
    }

    fn delete_all(&mut self, kind: &KindRef, namespace: &str, now: Timestamp) -> Result<(), Rejected> {
        let here = |model: &Self| -> Vec<ObjectKey> {
            let of_kind = model.objects.keys().filter(|(k, key)| k == kind && key.namespace == namespace);
            of_kind.map(|(_, key)| key.clone()).collect()
        };
        for key in here(self) {
            let old = self.guarded(kind, &key, &Preconditions::default())?;
            self.delete(kind, &key, old, Some("Background"), None, now)?;
        }
        if here(self).is_empty() { Ok(()) } else { Err(Rejected::Remaining(format!("{} in {namespace}", kind.plural))) }
    }

    fn delete(
        &mut self,
        kind: &KindRef,
        key: &ObjectKey,
        old: Value,
        propagation: Option<&str>,
        grace_seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<(), Rejected> {
        let mut new = old;
        let finalizer = match propagation {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let list = new["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            if !list.iter().any(|f| f == finalizer) {
                new["metadata"]["finalizers"] = Value::Array([list, vec![json!(finalizer)]].concat());
            }
        }
        let waits = has_finalizers(&new) || (lingers(kind, &new) && grace_seconds != Some(0));
        if !waits {
            self.objects.remove(&(*kind, key.clone()));
            self.revision += 1;
            return Ok(());
        }
        if text(&new, "/metadata/deletionTimestamp").is_empty() {
            new["metadata"]["deletionTimestamp"] = json!(now.strftime("%FT%TZ").to_string());
            if kind.kind == "Namespace" {
                new["status"]["phase"] = json!("Terminating");
            }
        }
        self.write(kind, key, new)
    }
}

impl View for Model {
    fn get_any(&self, kind: &KindRef, key: &ObjectKey) -> Option<AnyObject> {
        self.objects.get(&(*kind, key.clone())).map(|s| s.decoded.clone())
    }
    fn list_any(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<AnyObject> {
        let of_kind = self
            .objects
            .iter()
            .filter(|((k, key), _)| k == kind && namespace.is_none_or(|namespace| namespace == key.namespace));
        of_kind.map(|(_, s)| s.decoded.clone()).collect()
    }
    fn owned_any(&self, kind: &KindRef, owner_uid: &str) -> Vec<AnyObject> {
        let owned = self.objects.iter().filter(|((k, _), s)| {
            let owners = s.value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            k == kind && owners.is_some_and(|refs| refs.iter().any(|r| r["uid"] == owner_uid))
        });
        owned.map(|(_, s)| s.decoded.clone()).collect()
    }
    fn list_metadata(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<ObjectMeta> {
        let Some(codec) = self.codecs.get(kind) else { return Vec::new() };
        self.list_any(kind, namespace).iter().filter_map(|o| (codec.meta)(o).cloned()).collect()
    }
}

/// Reconciles one key until its plan is empty; returns the plans that had something to do.
pub fn settle<C: Controller>(
    controller: &C,
    model: &mut Model,
    key: &ObjectKey,
    now: Timestamp,
) -> Result<Vec<Plan>, NotQuiet> {
    for watch in controller.watches() {
        model.declare(watch.codec);
    }
    let mut plans = Vec::new();
    let mut entropy = CountingEntropy(1_000_000);
    loop {
        let Some(observed) = controller.observe(model, key) else { return Ok(plans) };
        let plan = controller.reconcile(&observed, now, &mut entropy);
        if plan.is_empty() {
            return Ok(plans);
        }
        if plans.len() == ROUNDS_MAX {
            return Err(NotQuiet::Busy(Box::new(plan)));
        }
        for action in plan.actions.iter().chain(&plan.status) {
            match model.apply(action, now) {
                Ok(()) => {}
                // The executor would look again later.
                Err(Rejected::Remaining(_)) => break,
                Err(reason) => return Err(NotQuiet::Rejected { plan: Box::new(plan), reason }),
            }
        }
        plans.push(plan);
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn key_of(value: &Value) -> ObjectKey {
    ObjectKey::new(text(value, "/metadata/namespace"), text(value, "/metadata/name"))
}

fn has_finalizers(value: &Value) -> bool {
    let any =
        |pointer| value.pointer(pointer).and_then(Value::as_array).is_some_and(|list: &Vec<Value>| !list.is_empty());
    any("/metadata/finalizers") || (value["kind"] == "Namespace" && any("/spec/finalizers"))
}

/// A pod that a node runs stays until the node has stopped it.
fn lingers(kind: &KindRef, value: &Value) -> bool {
    kind.kind == "Pod"
        && !text(value, "/spec/nodeName").is_empty()
        && !matches!(text(value, "/status/phase"), "Succeeded" | "Failed")
}

/// The part of a merge patch that the main resource or the subresource lets through.
fn only(patch: &Value, subresource: Option<&str>) -> Value {
    let mut patch = patch.as_object().cloned().unwrap_or_default();
    match subresource {
        Some("status") => patch.retain(|field, _| matches!(field.as_str(), "status" | "metadata")),
        _ => drop(patch.remove("status")),
    }
    Value::Object(patch)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{ConfigMap, Pod};

    use super::*;
    use crate::{ViewExt, Watch};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// Writes `data.copies` until it is "3"; `restless` writes something new each time.
    struct Counting {
        restless: bool,
    }
    impl Controller for Counting {
        type Observed = Arc<ConfigMap>;
        const NAME: &'static str = "counting";
        fn watches(&self) -> Vec<Watch> {
            vec![Watch::itself::<ConfigMap>()]
        }
        fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Self::Observed> {
            view.get(key)
        }
        fn reconcile(&self, map: &Self::Observed, _: Timestamp, entropy: &mut dyn Entropy) -> Plan {
            let copies = map.data.as_ref().and_then(|d| d.get("copies")).map_or(0, |c| c.len());
            if copies == 3 && !self.restless {
                return Plan::default();
            }
            let data = if self.restless { entropy.suffix(4) } else { "x".repeat(copies + 1) };
            let patch = Action::Patch {
                kind: KindRef::of::<ConfigMap>(),
                key: ObjectKey::of(&map.metadata),
                subresource: None,
                patch: json!({ "data": { "copies": data } }),
                preconditions: Preconditions {
                    resource_version: map.metadata.resource_version.clone(),
                    ..Preconditions::default()
                },
            };
            Plan { actions: vec![patch], ..Plan::default() }
        }
    }

    fn model() -> (Model, ObjectKey) {
        let mut model = Model::new();
        let mut map = ConfigMap::default();
        map.metadata.name = Some("a".into());
        map.metadata.namespace = Some("default".into());
        model.insert(map, NOW);
        (model, ObjectKey::new("default", "a"))
    }

    #[test]
    fn a_controller_that_comes_to_rest_settles_and_stays_there() {
        let (mut model, key) = model();
        assert_eq!(settle(&Counting { restless: false }, &mut model, &key, NOW).expect("settles").len(), 3);
        assert_eq!(settle(&Counting { restless: false }, &mut model, &key, NOW).expect("settles").len(), 0);
    }

    #[test]
    fn a_controller_that_never_rests_is_found_out() {
        let (mut model, key) = model();
        assert!(matches!(settle(&Counting { restless: true }, &mut model, &key, NOW), Err(NotQuiet::Busy(_))));
    }

    #[test]
    fn preconditions_hold() {
        let (mut model, key) = model();
        let delete = |uid: &str| Action::Delete {
            kind: KindRef::of::<ConfigMap>(),
            key: key.clone(),
            propagation: None,
            grace_seconds: None,
            preconditions: Preconditions { uid: Some(uid.into()), resource_version: None },
        };
        assert!(matches!(model.apply(&delete("other"), NOW), Err(Rejected::Conflict(_))));
        let uid = model.get::<ConfigMap>(&key).and_then(|m| m.metadata.uid.clone()).expect("a uid");
        assert_eq!(model.apply(&delete(&uid), NOW), Ok(()));
        assert!(matches!(model.apply(&delete(&uid), NOW), Err(Rejected::NotFound(_))));
    }

    #[test]
    fn a_pod_on_a_node_lingers_until_the_node_lets_it_go() {
        let mut model = Model::new();
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.namespace = Some("default".into());
        pod.spec.get_or_insert_default().node_name = Some("n".into());
        model.insert(pod, NOW);
        let key = ObjectKey::new("default", "p");
        let delete = |grace_seconds| Action::Delete {
            kind: KindRef::of::<Pod>(),
            key: key.clone(),
            propagation: None,
            grace_seconds,
            preconditions: Preconditions::default(),
        };
        model.apply(&delete(None), NOW).expect("accepted");
        assert!(model.get::<Pod>(&key).expect("still there").metadata.deletion_timestamp.is_some());
        model.apply(&delete(Some(0)), NOW).expect("accepted");
        assert!(model.get::<Pod>(&key).is_none());
    }
}
