//! The graph and the decisions, one sentence per case; and the collector as a whole on random families.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Node as ClusterNode, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};

use super::*;

struct Meta(ObjectMeta);
fn object(uid: &str) -> Meta {
    Meta(ObjectMeta {
        name: Some(format!("name-{uid}")),
        namespace: Some("default".into()),
        uid: Some(uid.into()),
        resource_version: Some("7".into()),
        ..ObjectMeta::default()
    })
}
impl Meta {
    fn owned_by(mut self, uid: &str, blocks: bool) -> Self {
        let reference = OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: format!("name-{uid}"),
            uid: uid.into(),
            controller: None,
            block_owner_deletion: Some(blocks),
        };
        self.0.owner_references.get_or_insert_default().push(reference);
        self
    }
    fn finalizer(mut self, name: &str) -> Self {
        self.0.finalizers.get_or_insert_default().push(name.into());
        self
    }
    fn deleting(mut self) -> Self {
        self.0.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        self
    }
    fn node(&self) -> Node {
        Node::new(KindRef::of::<ReplicaSet>(), &self.0)
    }
}

fn graph(objects: &[&Meta]) -> Graph {
    let mut graph = Graph::default();
    for object in objects {
        graph.upsert(object.node());
    }
    graph
}

#[test]
fn what_is_looked_at_after_a_change() {
    let mut g = Graph::default();
    assert_eq!(g.upsert(object("rs").node()), Vec::<String>::new(), "no owners: nothing to do");
    assert_eq!(g.upsert(object("a").owned_by("rs", true).node()), Vec::<String>::new(), "its owner is there");
    assert_eq!(g.upsert(object("b").owned_by("nobody", true).node()), ["b"], "its owner may never have been there");
    assert_eq!(g.remove("rs"), ["a"], "the owner is gone: its dependents");
    assert_eq!(g.remove("rs"), Vec::<String>::new());
    assert_eq!(g.upsert(object("rs").node()), Vec::<String>::new());
    assert_eq!(
        g.upsert(object("rs").deleting().finalizer(FOREGROUND).node()),
        ["a", "rs"],
        "an owner begins to wait: it and its dependents"
    );
    assert_eq!(g.upsert(object("a").owned_by("rs", true).deleting().node()), ["rs"], "a dependent of one that waits");
    assert_eq!(g.remove("a"), ["rs"]);
    assert_eq!(g.upsert(object("o").deleting().finalizer(ORPHAN).node()), ["o"]);
}

#[test]
fn what_to_do_about_an_object_by_the_state_of_its_owners() {
    use OwnerState::{Absent, Solid, Unknown, Waiting};
    let one = object("p").owned_by("x", true);
    let two = object("p").owned_by("x", true).owned_by("y", false);
    let delete = |p: &str| Some(format!("delete ReplicaSet default/name-p {p}"));
    let keep_y = r#"{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":false,"kind":"ReplicaSet","name":"name-y","uid":"y"}]}}"#;
    let cases: [(&str, &Meta, &[OwnerState], Option<String>); 10] = [
        ("its owner is there: nothing", &one, &[Solid], None),
        ("its only owner is gone: it goes", &one, &[Absent], delete("Background")),
        ("its owner waits for it: it goes", &one, &[Waiting], delete("Background")),
        ("nobody knows: nothing", &one, &[Unknown], None),
        ("both are gone: it goes", &two, &[Absent, Absent], delete("Background")),
        (
            "one is there: only the reference goes",
            &two,
            &[Absent, Solid],
            Some(format!("patch ReplicaSet default/name-p {keep_y}")),
        ),
        (
            "one is there, the other waits: likewise",
            &two,
            &[Waiting, Solid],
            Some(format!("patch ReplicaSet default/name-p {keep_y}")),
        ),
        ("one is gone, of the other nobody knows: nothing", &two, &[Absent, Unknown], None),
        ("already being deleted: nothing", &object("p").owned_by("x", true).deleting(), &[Absent], None),
        ("another object by now: nothing", &object("q").owned_by("x", true), &[Absent], None),
    ];
    for (sentence, meta, states, expected) in cases {
        let node = object("p").owned_by("x", true).node();
        let action = decide(&Graph::default(), &node, &meta.0, states);
        assert_eq!(action.map(|a| a.to_string()), expected, "{sentence}");
    }
}

#[test]
fn a_dependent_with_dependents_goes_in_the_foreground_when_its_owner_waits() {
    let middle = object("rs").owned_by("d", true);
    let g = graph(&[&middle, &object("pod").owned_by("rs", true)]);
    let action = decide(&g, &middle.node(), &middle.0, &[OwnerState::Waiting]).map(|a| a.to_string());
    assert_eq!(action.as_deref(), Some("delete ReplicaSet default/name-rs Foreground"));
    // In a circle, the dependent stops blocking first.
    let g = graph(&[&middle, &object("d").owned_by("rs", true).deleting().finalizer(FOREGROUND)]);
    let action = decide(&g, &middle.node(), &middle.0, &[OwnerState::Waiting]).map(|a| a.to_string());
    assert!(action.as_deref().is_some_and(|a| a.contains("\"blockOwnerDeletion\":false")), "{action:?}");
}

#[test]
fn a_finalizer_of_the_object_decides_how_it_goes() {
    for (finalizer, propagation) in [(ORPHAN, "Orphan"), (FOREGROUND, "Foreground")] {
        let meta = object("p").owned_by("x", true).finalizer(finalizer);
        let action = decide(&Graph::default(), &meta.node(), &meta.0, &[OwnerState::Absent]);
        assert_eq!(action.map(|a| a.to_string()), Some(format!("delete ReplicaSet default/name-p {propagation}")));
    }
}

#[test]
fn only_dependents_that_block_are_waited_for() {
    let owner = object("o").deleting().finalizer(FOREGROUND);
    let g = graph(&[&owner, &object("a").owned_by("o", true), &object("b").owned_by("o", false)]);
    assert_eq!(g.look("o"), Look::Foreground(&owner.node()));
    assert_eq!(g.blocking("o").iter().map(|n| n.uid.as_str()).collect::<Vec<_>>(), ["a"]);
    let off = without_finalizer(&owner.node(), &owner.0, FOREGROUND).map(|a| a.to_string());
    assert_eq!(off.as_deref(), Some(r#"patch ReplicaSet default/name-o {"metadata":{"finalizers":[]}}"#));
    assert_eq!(without_finalizer(&owner.node(), &object("o").0, FOREGROUND), None, "it is off already");
}

#[test]
fn orphans_lose_one_reference_only() {
    let meta = object("p").owned_by("x", true).owned_by("y", true);
    let patch = disown(&meta.node(), &meta.0, "x").map(|a| a.to_string()).unwrap_or_default();
    assert!(patch.contains("name-y") && !patch.contains("name-x"), "{patch}");
    assert_eq!(disown(&meta.node(), &meta.0, "z"), None);
}

#[test]
fn owners_are_found_where_they_can_be() {
    let served = [KindRef::of::<Deployment>(), KindRef::of::<ClusterNode>(), KindRef::of::<ReplicaSet>()];
    let owner = |api_version: &str, kind: &str| Owner {
        uid: "u".into(),
        api_version: api_version.into(),
        kind: kind.into(),
        name: "n".into(),
        blocks: false,
    };
    let pod = Node::new(KindRef::of::<Pod>(), &object("p").0);
    let mut cluster = Node::new(KindRef::of::<ClusterNode>(), &object("c").0);
    cluster.key.namespace.clear();
    for (sentence, dependent, owner, expected) in [
        ("of the same namespace", &pod, owner("apps/v1", "ReplicaSet"), Some("default/n")),
        ("a cluster-scoped owner of a namespaced object", &pod, owner("v1", "Node"), Some("/n")),
        ("a namespaced owner of a cluster-scoped object", &cluster, owner("apps/v1", "ReplicaSet"), None),
        ("a kind that is not served", &pod, owner("example.com/v1", "ReplicaSet"), None),
    ] {
        let at = owner_at(dependent, &owner, &served).map(|(_, key)| key.to_string());
        assert_eq!(at.as_deref(), expected, "{sentence}");
    }
}
