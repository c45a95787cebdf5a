//! Which pod and container a verb is about, when the user names a pod or what pods belong to.

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use crate::{
    catalog::{Resource, Target},
    server::{JSON, Query},
    session::Session,
};

/// An object that was named, and the pods that are meant by it.
pub struct Found {
    pub resource: Resource,
    pub object: Value,
    /// Those that run first.
    pub pods: Vec<Value>,
}

/// By name (`web-1`), or by what they belong to (`deploy/web`, `svc/web`).
///
/// # Errors
/// When there is no such object, or it has no pods.
pub async fn find(session: &Session, target: &str) -> Result<Found> {
    let pods = session.catalog.resolve_one("pods")?;
    let words = if target.contains('/') { vec![target.to_owned()] } else { vec!["pods".to_owned(), target.to_owned()] };
    let mut targets = session.targets(&words)?;
    let Some(Target { resource, name: Some(name), .. }) = targets.pop() else { bail!("name a pod") };
    let object = session.server.get(&session.path_of(&resource, None, &name), &Query::default(), JSON).await?;
    if resource == pods {
        return Ok(Found { resource, pods: vec![object.clone()], object });
    }
    let selector = &object["spec"]["selector"];
    let is_map = resource.kind == "Service" || resource.kind == "ReplicationController";
    let selector = if is_map {
        let pairs = selector.as_object().into_iter().flatten();
        skiff_api::selector::LabelSelector::from_map(pairs.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
    } else {
        skiff_api::selector::LabelSelector::from_object(selector)
    };
    if selector.to_string().is_empty() {
        bail!("{}/{name} has no pods of its own: name a pod", resource.prefix());
    }
    let mut found = list(session, &selector.to_string()).await?;
    if found.is_empty() {
        bail!("no pods of {}/{name} yet", resource.prefix());
    }
    // Upstream chooses so.
    found.sort_by_key(|pod| pod["status"]["phase"] != "Running");
    Ok(Found { resource, object, pods: found })
}

/// One pod, by name or by what it belongs to.
///
/// # Errors
/// Those of [`find`].
pub async fn one(session: &Session, target: &str) -> Result<Value> {
    Ok(find(session, target).await?.pods.swap_remove(0))
}

/// The pods of the namespace with these labels.
///
/// # Errors
/// When the server refuses.
pub async fn list(session: &Session, selector: &str) -> Result<Vec<Value>> {
    let pods = session.catalog.resolve_one("pods")?;
    let query = Query::default().with("labelSelector", selector);
    let mut list = session.server.get(&pods.path(Some(&session.namespace)), &query, JSON).await?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

pub fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// A client of the pods beside this one.
pub fn api(session: &Session, pod: &Value) -> Api<Pod> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or(&session.namespace);
    Api::namespaced(session.server.client().clone(), namespace)
}

/// The container that is named, or the annotated one, or the first.
///
/// # Errors
/// When the pod has no container of that name.
pub fn container<'p>(pod: &'p Value, named: Option<&'p str>, quiet: bool) -> Result<&'p str> {
    let Some(named) = named else { return Ok(default_container(pod, quiet)) };
    let all: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|key| pod["spec"][*key].as_array().into_iter().flatten())
        .filter_map(|c| c["name"].as_str())
        .collect();
    if all.contains(&named) {
        return Ok(named);
    }
    bail!("container {named} is not valid for pod {}: it has {}", name(pod), all.join(", "))
}

/// The annotated one, else the first; says so when there are several.
pub fn default_container(pod: &Value, quiet: bool) -> &str {
    let containers: Vec<&str> =
        pod["spec"]["containers"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = annotated.filter(|name| containers.contains(name)) {
        return name;
    }
    if let ([first, _, ..], false) = (&containers[..], quiet) {
        eprintln!("Defaulted container {first:?} out of: {}", containers.join(", "));
    }
    containers.first().copied().unwrap_or_default()
}
