//! The garbage collector's decisions: who depends on whom, and what to do about an object whose owner is going.
//!
//! Background: dependents go when all their owners are gone. Foreground: an owner waits, with the
//! `foregroundDeletion` finalizer, until the dependents that block it are gone. Orphan: the dependents lose the
//! reference, then the owner its `orphan` finalizer.
//!
//! What must stay true:
//! - nothing is deleted because of what this graph says: an owner that it does not know is read again by its UID first
//!   ([`Look::Owners`] lists whom to read);
//! - an owner of a kind that the server does not have, or that cannot own the dependent (a namespaced owner of a
//!   cluster-scoped object), is left alone, and with it the dependent;
//! - a solid owner keeps its dependents, whatever becomes of the others.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use skiff_reconcile::{Action, KindRef, ObjectKey, Preconditions};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub uid: String,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// The owner's foreground deletion waits for this dependent.
    pub blocks: bool,
}

/// What matters of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: KindRef,
    pub key: ObjectKey,
    pub uid: String,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    pub foreground: bool,
    pub orphan: bool,
}

impl Node {
    pub fn new(kind: KindRef, meta: &ObjectMeta) -> Self {
        let has = |name: &str| meta.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == name));
        let owners = meta.owner_references.iter().flatten().map(|r| Owner {
            uid: r.uid.clone(),
            api_version: r.api_version.clone(),
            kind: r.kind.clone(),
            name: r.name.clone(),
            blocks: r.block_owner_deletion == Some(true),
        });
        Self {
            kind,
            key: ObjectKey::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            owners: owners.collect(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }
    /// It is being deleted and waits for its dependents.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// Who depends on whom, as the caches show it. Bounded by the objects of the cluster.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// Owner UID to the UIDs of its dependents.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// An object came or changed. Returns the UIDs to look at.
    pub fn upsert(&mut self, node: Node) -> Vec<String> {
        if self.nodes.get(&node.uid) == Some(&node) {
            return Vec::new();
        }
        let uid = node.uid.clone();
        let old = self.unlink(&uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let mut look = self.waiting_owners(old.iter().chain([&node]).flat_map(|n| &n.owners));
        if node.waits_for_dependents() {
            // Those that it does not wait for learn that they have lost this owner.
            look.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        let unsure = |o: &Owner| self.nodes.get(&o.uid).is_none_or(Node::waits_for_dependents);
        if node.deleting && (node.foreground || node.orphan) || (!node.deleting && node.owners.iter().any(unsure)) {
            look.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        look.sort();
        look.dedup();
        look
    }

    /// An object is gone. Returns the UIDs to look at: its dependents, and owners that waited for it.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(old) = self.unlink(uid) else { return Vec::new() };
        let mut look = self.waiting_owners(old.owners.iter());
        look.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        look
    }

    fn unlink(&mut self, uid: &str) -> Option<Node> {
        let old = self.nodes.remove(uid)?;
        for owner in &old.owners {
            if let Some(siblings) = self.dependents.get_mut(&owner.uid) {
                siblings.remove(uid);
                if siblings.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(old)
    }

    fn waiting_owners<'a>(&self, owners: impl Iterator<Item = &'a Owner>) -> Vec<String> {
        let waiting = owners.filter(|o| self.nodes.get(&o.uid).is_some_and(Node::waits_for_dependents));
        waiting.map(|o| o.uid.clone()).collect()
    }

    /// What to find out before [`decide`] can say what to do about an object.
    pub fn look(&self, uid: &str) -> Look<'_> {
        let Some(node) = self.nodes.get(uid) else { return Look::Nothing };
        if node.deleting {
            return match (node.orphan, node.foreground) {
                (true, _) => Look::Orphan(node),
                (false, true) => Look::Foreground(node),
                (false, false) => Look::Nothing,
            };
        }
        let unsure = |o: &Owner| self.nodes.get(&o.uid).is_none_or(Node::waits_for_dependents);
        if node.owners.iter().any(unsure) { Look::Owners(node) } else { Look::Nothing }
    }

    /// For an owner that waits for its dependents: those that still block it.
    pub fn blocking(&self, uid: &str) -> Vec<&Node> {
        self.dependents(uid).filter(|d| d.owners.iter().any(|o| o.uid == uid && o.blocks)).collect()
    }

    fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.get(uid).is_some_and(|d| !d.is_empty())
    }
    /// One of its dependents waits in turn: were it to block its own owner as well, a circle would wait for ever.
    fn has_waiting_dependents(&self, uid: &str) -> bool {
        self.dependents(uid).any(Node::waits_for_dependents)
    }
}

/// What the loop does before it decides.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<'a> {
    Nothing,
    /// Read the object and its owners from the API, then [`decide`].
    Owners(&'a Node),
    /// Delete what blocks it ([`Graph::blocking`]); with nothing left, [`without_finalizer`].
    Foreground(&'a Node),
    /// [`disown`] its dependents, then [`without_finalizer`].
    Orphan(&'a Node),
}

/// What the API says about one owner reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Solid,
    /// No object of this name has this UID.
    Absent,
    /// It is being deleted in the foreground.
    Waiting,
    /// Its kind is not served, or it could not own the object: nobody knows.
    Unknown,
}

/// What to do about an object that was read just now (`meta`) and its owners.
pub fn decide(graph: &Graph, node: &Node, meta: &ObjectMeta, states: &[OwnerState]) -> Option<Action> {
    if meta.uid.as_deref() != Some(node.uid.as_str()) || meta.deletion_timestamp.is_some() || states.is_empty() {
        return None;
    }
    let any = |state| states.contains(&state);
    if any(OwnerState::Solid) || any(OwnerState::Unknown) {
        let going: Vec<usize> = positions(states, |s| matches!(s, OwnerState::Absent | OwnerState::Waiting));
        // With an unknown owner nothing is certain: hold still.
        if going.is_empty() || any(OwnerState::Unknown) {
            return None;
        }
        return Some(drop_references(node, meta, &going));
    }
    let live = Node::new(node.kind, meta);
    let waiting = any(OwnerState::Waiting) && graph.has_dependents(&node.uid);
    if waiting && graph.has_waiting_dependents(&node.uid) && live.owners.iter().any(|o| o.blocks) {
        return Some(unblock(node, meta));
    }
    let propagation = match () {
        () if live.orphan => "Orphan",
        () if live.foreground || waiting => "Foreground",
        () => "Background",
    };
    Some(Action::Delete {
        kind: node.kind,
        key: node.key.clone(),
        propagation: Some(propagation),
        grace_seconds: None,
        // The version too: somebody may have given it another owner since.
        preconditions: Preconditions { uid: Some(node.uid.clone()), resource_version: meta.resource_version.clone() },
    })
}

fn positions(states: &[OwnerState], wanted: impl Fn(&OwnerState) -> bool) -> Vec<usize> {
    states.iter().enumerate().filter(|(_, s)| wanted(s)).map(|(at, _)| at).collect()
}

fn drop_references(node: &Node, meta: &ObjectMeta, going: &[usize]) -> Action {
    let kept = meta.owner_references.iter().flatten().enumerate().filter(|(at, _)| !going.contains(at));
    let kept: Vec<_> = kept.map(|(_, r)| r).collect();
    patch(node, meta, json!({ "ownerReferences": kept }))
}

fn unblock(node: &Node, meta: &ObjectMeta) -> Action {
    let mut references: Vec<_> = meta.owner_references.iter().flatten().cloned().collect();
    references.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
    patch(node, meta, json!({ "ownerReferences": references }))
}

/// Takes the reference to an owner off a dependent that was read just now; `None` if it has none.
pub fn disown(node: &Node, meta: &ObjectMeta, owner_uid: &str) -> Option<Action> {
    let references: Vec<_> = meta.owner_references.iter().flatten().collect();
    let kept: Vec<_> = references.iter().filter(|r| r.uid != owner_uid).collect();
    if meta.uid.as_deref() != Some(node.uid.as_str()) || kept.len() == references.len() {
        return None;
    }
    Some(patch(node, meta, json!({ "ownerReferences": kept })))
}

/// Takes a finalizer off an object that was read just now; `None` if it has it not.
pub fn without_finalizer(node: &Node, meta: &ObjectMeta, finalizer: &str) -> Option<Action> {
    let there: Vec<_> = meta.finalizers.iter().flatten().collect();
    let kept: Vec<_> = there.iter().filter(|f| f.as_str() != finalizer).collect();
    if meta.uid.as_deref() != Some(node.uid.as_str()) || kept.len() == there.len() {
        return None;
    }
    Some(patch(node, meta, json!({ "finalizers": kept })))
}

fn patch(node: &Node, meta: &ObjectMeta, metadata: Value) -> Action {
    Action::Patch {
        kind: node.kind,
        key: node.key.clone(),
        subresource: None,
        patch: json!({ "metadata": metadata }),
        preconditions: Preconditions { uid: Some(node.uid.clone()), resource_version: meta.resource_version.clone() },
    }
}

/// Where to read an owner: `None` when the kind is not served or could not own the dependent.
pub fn owner_at(dependent: &Node, owner: &Owner, served: &[KindRef]) -> Option<(KindRef, ObjectKey)> {
    let kind = *served.iter().find(|k| k.kind == owner.kind && k.api_version() == owner.api_version)?;
    if kind.namespaced && dependent.key.namespace.is_empty() {
        return None;
    }
    let namespace = if kind.namespaced { dependent.key.namespace.clone() } else { String::new() };
    Some((kind, ObjectKey::new(namespace, owner.name.clone())))
}

#[cfg(test)]
#[path = "garbage_collector_tests.rs"]
mod tests;
