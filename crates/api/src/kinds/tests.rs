use std::collections::HashSet;

use super::*;

#[test]
fn kinds_and_plurals_are_unique_and_sorted_within_their_version() {
    let mut seen = HashSet::new();
    for kind in builtin() {
        assert!(seen.insert((kind.group.clone(), kind.version.clone(), kind.plural.clone())), "{kind:?} twice");
        assert!(seen.insert((kind.group.clone(), kind.version.clone(), kind.kind.clone())), "{kind:?} twice");
    }
    for pair in builtin().windows(2) {
        if pair[0].api_version() == pair[1].api_version() {
            assert!(pair[0].plural < pair[1].plural, "{:?} after {:?}", pair[0], pair[1]);
        }
    }
}

#[test]
fn a_group_is_one_run_of_rows() {
    let mut left = HashSet::new();
    for pair in builtin().windows(2) {
        if pair[0].group != pair[1].group {
            assert!(left.insert(pair[0].group.clone()));
            assert!(!left.contains(&pair[1].group), "{:?} is apart from its group", pair[1]);
        }
    }
}

#[test]
fn storage_kinds_exist_and_share_the_resource() {
    for kind in builtin() {
        let stored = stored_as(kind);
        assert_eq!(stored.storage, kind.storage, "{kind:?}");
        assert_eq!((&stored.group, &stored.version), (&kind.storage_version.0, &kind.storage_version.1));
    }
    let event = find("events.k8s.io", "v1", "events").expect("served");
    assert_eq!(format!("{:?}", stored_as(event)), "v1 Event");
}

/// A kind with a status has the subresource, and the other way round (but for the reviews, which answer in it).
#[test]
fn status_subresources_match_the_schemas() {
    for kind in builtin() {
        let schema = kind.schema();
        assert!(schema.field("metadata").is_some(), "{kind:?} has no metadata");
        let expected = schema.field("status").is_some() && kind.verbs != Verbs::CreateOnly;
        assert_eq!(kind.subresource("status").is_some(), expected, "{kind:?}");
    }
}
