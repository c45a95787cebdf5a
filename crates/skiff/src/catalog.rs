//! What the cluster serves, and what a user may call it: `po`, `pods`, `deploy.apps`, `deployments.v1.apps`, `all`.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::server::{Query, Server};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One resource of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub namespaced: bool,
    short_names: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pod`, `deployment.apps`: how an object of it is named in output.
    pub fn prefix(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// `pods`, `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of the collection; `None` is every namespace.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let base = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{}", self.plural),
            None => format!("{base}/{}", self.plural),
        }
    }

    /// The path of one object.
    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.path(Some(namespace)))
    }

    fn is_called(&self, name: &str) -> bool {
        self.plural == name
            || self.singular == name
            || self.kind.to_lowercase() == name
            || self.short_names.iter().any(|s| s == name)
    }
    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// Every resource, preferred versions first.
#[derive(Clone, Debug)]
pub struct Catalog {
    resources: Vec<Resource>,
}

impl Catalog {
    /// # Errors
    /// When the server cannot be reached, or does not know aggregated discovery (before Kubernetes 1.27).
    pub async fn discover(server: &Server) -> Result<Self> {
        let none = Query::default();
        let (core, groups) =
            futures::try_join!(server.get("/api", &none, AGGREGATED), server.get("/apis", &none, AGGREGATED))?;
        let mut resources = Vec::new();
        for list in [&core, &groups] {
            if list["kind"] != "APIGroupDiscoveryList" {
                bail!("the server does not offer aggregated discovery (Kubernetes 1.27 and newer do)");
            }
            resources.extend(resources_of(list));
        }
        Ok(Self { resources })
    }

    /// One name or several with commas; a category stands for all of its resources.
    ///
    /// # Errors
    /// When the cluster serves nothing of that name.
    pub fn resolve(&self, names: &str) -> Result<Vec<Resource>> {
        let mut out: Vec<Resource> = Vec::new();
        for name in names.split(',').filter(|n| !n.is_empty()) {
            let found = self.find(&name.to_lowercase());
            if found.is_empty() {
                bail!("the server doesn't have a resource type {name:?}");
            }
            for resource in found {
                if !out.contains(&resource) {
                    out.push(resource);
                }
            }
        }
        Ok(out)
    }

    /// Exactly one resource.
    pub fn resolve_one(&self, name: &str) -> Result<Resource> {
        match <[Resource; 1]>::try_from(self.resolve(name)?) {
            Ok([one]) => Ok(one),
            Err(_) => bail!("{name:?} names several resource types: name one"),
        }
    }

    /// The resource of a manifest.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Result<Resource> {
        let found = self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version);
        match found {
            Some(resource) => Ok(resource.clone()),
            None => bail!("no matches for kind {kind:?} in version {api_version:?}"),
        }
    }

    fn find(&self, name: &str) -> Vec<Resource> {
        let (name, rest) = name.split_once('.').unwrap_or((name, ""));
        if rest.is_empty() {
            let all: Vec<Resource> = self
                .resources
                .iter()
                .filter(|r| r.categories.iter().any(|c| c == name) && r.can("list"))
                .cloned()
                .collect();
            let mut once: Vec<Resource> = Vec::new();
            for resource in all {
                // The preferred version of each stands for the others.
                if !once.iter().any(|r| r.plural == resource.plural && r.group == resource.group) {
                    once.push(resource);
                }
            }
            if !once.is_empty() {
                return once;
            }
        }
        let wanted = |r: &&Resource| {
            r.is_called(name)
                && (rest.is_empty() || r.group == rest || rest == format!("{}.{}", r.version, r.group) || {
                    r.group.is_empty() && r.version == rest
                })
        };
        self.resources.iter().find(wanted).cloned().into_iter().collect()
    }
}

fn resources_of(list: &Value) -> Vec<Resource> {
    let array = |v: &Value, key: &str| v[key].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let texts = |v: &Value, key: &str| array(v, key).iter().map(text).collect::<Vec<_>>();
    let mut out = Vec::new();
    for group in array(list, "items") {
        for version in array(&group, "versions") {
            for resource in array(&version, "resources") {
                let kind = &resource["responseKind"];
                out.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&kind["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    namespaced: resource["scope"] == "Namespaced",
                    short_names: texts(&resource, "shortNames"),
                    categories: texts(&resource, "categories"),
                    verbs: texts(&resource, "verbs"),
                });
            }
        }
    }
    out
}

/// What the words after a verb name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    /// `None`: all of them, by a selector or not.
    pub name: Option<String>,
    /// Where a manifest says that it is.
    pub namespace: Option<String>,
}

/// `TYPE[,TYPE] [NAME…]` or `TYPE/NAME…`.
///
/// # Errors
/// When a type is unknown or the two forms are mixed.
pub fn targets(catalog: &Catalog, words: &[String]) -> Result<Vec<Target>> {
    if words.iter().any(|w| w.contains('/')) {
        return words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
                    Ok(Target { resource: catalog.resolve_one(kind)?, name: Some(name.to_owned()), namespace: None })
                }
                _ => bail!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'TYPE/NAME'): {word:?}"),
            })
            .collect();
    }
    let Some((kinds, names)) = words.split_first() else { bail!("name a resource type, as in `pods` or `pod/NAME`") };
    let resources = catalog.resolve(kinds)?;
    if names.is_empty() {
        return Ok(resources.into_iter().map(|resource| Target { resource, name: None, namespace: None }).collect());
    }
    let named = |r: &Resource| {
        names
            .iter()
            .map(|name| Target { resource: r.clone(), name: Some(name.clone()), namespace: None })
            .collect::<Vec<_>>()
    };
    Ok(resources.iter().flat_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog() -> Catalog {
        let resource = |plural: &str, singular: &str, kind: &str, short: &str, categories: &[&str]| {
            json!({"resource": plural, "singularResource": singular, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "shortNames": [short], "categories": categories, "verbs": ["list"]})
        };
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
            resource("pods", "pod", "Pod", "po", &["all"]), resource("events", "event", "Event", "ev", &[])]}]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "deployment", "Deployment", "deploy", &["all"])]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [resource("events", "event", "Event", "ev", &[])]}]}]});
        Catalog { resources: [resources_of(&core), resources_of(&groups)].concat() }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_resources_may_be_called() {
        let catalog = catalog();
        let found = |name: &str| {
            catalog
                .resolve(name)
                .map(|r| r.iter().map(Resource::qualified).collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        };
        for (name, expected) in [
            ("po", "pods"),
            ("Pod", "pods"),
            ("pods,deploy,po", "pods deployments.apps"),
            ("all", "pods deployments.apps"),
            ("events", "events"),
            ("events.events.k8s.io", "events.events.k8s.io"),
            ("deployments.v1.apps", "deployments.apps"),
            ("pods.v1", "pods"),
            ("deploy.batch", ""),
            ("nothing", ""),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
        assert_eq!(
            catalog.resolve("deploy").unwrap()[0].object_path("n", "x"),
            "/apis/apps/v1/namespaces/n/deployments/x"
        );
    }

    #[test]
    fn what_words_name() {
        let catalog = catalog();
        let named = |text: &str| {
            let targets = targets(&catalog, &words(text)).map_err(|e| e.to_string())?;
            let show = |t: &Target| format!("{}/{}", t.resource.prefix(), t.name.as_deref().unwrap_or("*"));
            Ok::<_, String>(targets.iter().map(show).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(named("pods a b").unwrap(), "pod/a pod/b");
        assert_eq!(named("po/a deploy/b").unwrap(), "pod/a deployment.apps/b");
        assert_eq!(named("po,deploy").unwrap(), "pod/* deployment.apps/*");
        assert!(named("po/a b").unwrap_err().contains("TYPE/NAME"));
        assert!(named("x/a").unwrap_err().contains("doesn't have a resource type"));
    }
}
