//! The discovery documents, from any iterator of kinds: built in, and those of CRDs.
//!
//! Groups come in the order in which the iterator first names them, and so do the versions of a group, the preferred
//! one first.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::{Kind, Subresource, Verbs};

/// The media type of [`aggregated`].
pub const AGGREGATED_MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api`: `address` is where clients reach this server (`10.0.0.1:6443`).
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`.
pub fn group_list<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let groups: Vec<Value> = groups(kinds).iter().filter(|g| !g.name.is_empty()).map(group_fields).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`; `None`: no such group.
pub fn group<'a>(kinds: impl IntoIterator<Item = &'a Kind>, name: &str) -> Option<Value> {
    let group = groups(kinds).into_iter().find(|g| g.name == name)?;
    let mut out = group_fields(&group);
    out["kind"] = json!("APIGroup");
    out["apiVersion"] = json!("v1");
    Some(out)
}

/// `/api/v1`, `/apis/GROUP/VERSION`; `None`: no such version.
pub fn resource_list<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    let mut group_version = None;
    for kind in kinds.into_iter().filter(|k| k.group == group && k.version == version) {
        group_version.get_or_insert_with(|| kind.api_version());
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|s| subresource(kind, *s)));
    }
    let mut out = json!({ "kind": "APIResourceList", "groupVersion": group_version?, "resources": resources });
    // Upstream leaves the version out of the core group's list, and client-go does not mind either way.
    if !group.is_empty() {
        out["apiVersion"] = json!("v1");
    }
    Some(out)
}

/// `/api` (`core`) or `/apis` as [`AGGREGATED_MEDIA_TYPE`]: everything in one document.
pub fn aggregated<'a>(kinds: impl IntoIterator<Item = &'a Kind>, core: bool) -> Value {
    let items: Vec<Value> = groups(kinds)
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|(version, kinds)| {
                    let resources: Vec<Value> = kinds.iter().map(|k| aggregated_resource(k)).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let mut metadata = Map::new();
            if !core {
                metadata.insert("name".into(), json!(group.name));
            }
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

struct Group<'a> {
    name: &'a str,
    versions: Vec<(&'a str, Vec<&'a Kind>)>,
}

fn groups<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Vec<Group<'a>> {
    let mut out: Vec<Group<'a>> = Vec::new();
    for kind in kinds {
        let at = out.iter().position(|g| g.name == kind.group).unwrap_or_else(|| {
            out.push(Group { name: &kind.group, versions: Vec::new() });
            out.len() - 1
        });
        let versions = &mut out[at].versions;
        match versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, kinds)) => kinds.push(kind),
            None => versions.push((&kind.version, vec![kind])),
        }
    }
    out
}

fn group_fields(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({ "groupVersion": format!("{}/{version}", group.name), "version": version }))
        .collect();
    json!({ "name": group.name, "preferredVersion": versions.first(), "versions": versions })
}

fn resource(kind: &Kind) -> Value {
    let mut out = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": kind.verbs.names(),
    });
    add_names(&mut out, kind);
    if matches!(kind.verbs, Verbs::All | Verbs::NoDeleteCollection) {
        out["storageVersionHash"] = json!(storage_version_hash(kind));
    }
    out
}

fn add_names(out: &mut Value, kind: &Kind) {
    if !kind.short_names.is_empty() {
        out["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        out["categories"] = json!(kind.categories);
    }
}

fn subresource(kind: &Kind, subresource: Subresource) -> Value {
    let mut out = json!({
        "name": format!("{}/{}", kind.plural, subresource.name()), "singularName": "", "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": subresource.verbs(),
    });
    if let Some((group, version, body)) = subresource.body(kind) {
        out["kind"] = json!(body);
        if group != kind.group {
            out["group"] = json!(group);
            out["version"] = json!(version);
        }
    }
    out
}

fn aggregated_resource(kind: &Kind) -> Value {
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|s| {
            let (group, version, name) =
                s.body(kind).filter(|(g, _, _)| *g != kind.group).unwrap_or(("", "", kind.kind.clone()));
            let name = s.body(kind).map_or(name, |(_, _, body)| body);
            json!({ "subresource": s.name(), "verbs": s.verbs(),
                "responseKind": { "group": group, "version": version, "kind": name } })
        })
        .collect();
    let mut out = json!({
        "resource": kind.plural, "singularResource": kind.singular, "verbs": kind.verbs.names(),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "responseKind": { "group": "", "version": "", "kind": kind.kind },
    });
    add_names(&mut out, kind);
    if !subresources.is_empty() {
        out["subresources"] = json!(subresources);
    }
    out
}

/// Tells clients that two resources share their objects; the same hash as upstream's.
fn storage_version_hash(kind: &Kind) -> String {
    use base64::Engine as _;
    let (group, version) = &kind.storage_version;
    let digest = Sha256::digest(format!("{group}/{version}/{}", kind.kind));
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::builtin;

    #[test]
    fn the_core_list_has_subresources_and_names() {
        let list = resource_list(builtin(), "", "v1").expect("served");
        let resources = list["resources"].as_array().expect("a list");
        let by_name = |name: &str| resources.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(by_name("pods")["shortNames"], json!(["po"]));
        assert_eq!(by_name("pods")["categories"], json!(["all"]));
        assert_eq!(by_name("pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
        assert_eq!(by_name("pods/eviction")["group"], "policy");
        assert_eq!(by_name("pods/binding")["kind"], "Binding");
        assert!(by_name("pods/binding").get("group").is_none());
        assert_eq!(by_name("nodes/proxy")["kind"], "NodeProxyOptions");
        assert_eq!(by_name("bindings")["verbs"], json!(["create"]));
        assert_eq!(resource_list(builtin(), "apps", "v2"), None);
    }

    #[test]
    fn kinds_that_share_storage_have_one_hash() {
        let hash = |group: &str, version: &str, name: &str| {
            let list = resource_list(builtin(), group, version).expect("served");
            let all = list["resources"].as_array().expect("a list").clone();
            all.into_iter().find(|r| r["name"] == name).expect("served")["storageVersionHash"].clone()
        };
        assert_eq!(hash("", "v1", "events"), "r2yiGXH7wu8=");
        assert_eq!(hash("events.k8s.io", "v1", "events"), "r2yiGXH7wu8=");
        assert_eq!(
            hash("autoscaling", "v1", "horizontalpodautoscalers"),
            hash("autoscaling", "v2", "horizontalpodautoscalers")
        );
    }

    #[test]
    fn groups_prefer_their_first_version() {
        let list = group_list(builtin());
        let groups = list["groups"].as_array().expect("a list");
        assert!(groups.iter().all(|g| g["name"] != ""));
        assert_eq!(groups[0]["name"], "apiregistration.k8s.io");
        let autoscaling = group(builtin(), "autoscaling").expect("served");
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(autoscaling["versions"].as_array().map(Vec::len), Some(2));
        assert_eq!(group(builtin(), "nothing"), None);
    }

    /// Both forms of discovery say the same.
    #[test]
    fn aggregated_discovery_agrees_with_the_plain_one() {
        for core in [true, false] {
            let document = aggregated(builtin(), core);
            for group in document["items"].as_array().expect("a list") {
                let name = group["metadata"]["name"].as_str().unwrap_or("");
                for version in group["versions"].as_array().expect("a list") {
                    let plain = resource_list(builtin(), name, version["version"].as_str().expect("text"));
                    let plain = plain.expect("served");
                    for resource in version["resources"].as_array().expect("a list") {
                        let of = |r: &Value| r["name"] == resource["resource"];
                        let same =
                            plain["resources"].as_array().expect("a list").iter().find(|r| of(r)).expect("there");
                        for field in ["verbs", "shortNames", "categories"] {
                            assert_eq!(same[field], resource[field], "{same}");
                        }
                        assert_eq!(same["kind"], resource["responseKind"]["kind"]);
                    }
                }
            }
        }
    }
}
