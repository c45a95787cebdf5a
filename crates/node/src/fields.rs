//! The downward API: what fields and resources of a pod are as text.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use skiff_api::quantity::Quantity;

/// What the node adds to what the object says.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// The node's allocatable resources, for limits that the container does not set.
    pub allocatable: BTreeMap<String, ApiQuantity>,
}

/// # Errors
/// A message that names the field.
pub fn field(pod: &Pod, facts: &NodeFacts, selector: &ObjectFieldSelector) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |v: Option<&String>| Ok(v.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => text(facts.host_ips.first()),
        "status.hostIPs" => Ok(facts.host_ips.join(",")),
        "status.podIP" => text(facts.pod_ips.first()),
        "status.podIPs" => Ok(facts.pod_ips.join(",")),
        _ => subscript(path)
            .and_then(|(map, key)| match map {
                "metadata.labels" => Some(meta.labels.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default()),
                "metadata.annotations" => {
                    Some(meta.annotations.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default())
                }
                _ => None,
            })
            .ok_or_else(|| format!("unsupported fieldPath: {path}")),
    }
}

/// `metadata.labels['key']`
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="escaped value"` per line, sorted, as the downward API's files have it.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}"));
    quoted.collect::<Vec<_>>().join("\n")
}

/// A resource of a container in units of the divisor, rounded up.
///
/// # Errors
/// A message that names the resource.
pub fn resource(pod: &Pod, own: &Container, facts: &NodeFacts, of: &ResourceFieldSelector) -> Result<String, String> {
    let container = match of.container_name.as_deref().filter(|n| !n.is_empty()) {
        None => own,
        Some(name) => named(pod, name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let unsupported = || format!("unsupported container resource : {}", of.resource);
    let (list, name) = of.resource.split_once('.').ok_or_else(unsupported)?;
    let set = container.resources.as_ref();
    let from = |m: Option<&BTreeMap<String, ApiQuantity>>| m.and_then(|m| m.get(name)).cloned();
    let (limits, requests) = (set.and_then(|r| from(r.limits.as_ref())), set.and_then(|r| from(r.requests.as_ref())));
    let quantity = match list {
        "limits" => limits.or_else(|| facts.allocatable.get(name).cloned()),
        "requests" => requests.or(limits),
        _ => return Err(unsupported()),
    };
    let amount = amount(quantity.as_ref());
    let divisor = amount_or(of.divisor.as_ref(), if name == "cpu" { 1000 } else { 1 }, name);
    let amount = if name == "cpu" { amount.1 } else { i128::from(amount.0) };
    Ok(amount.div_ceil_to(divisor).to_string())
}

fn named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

/// In units, and in thousandths.
fn amount(quantity: Option<&ApiQuantity>) -> (i64, i128) {
    let parsed = quantity.and_then(|q| Quantity::parse(&q.0).ok());
    parsed.map_or((0, 0), |q| (q.value(), i128::from(q.milli_value())))
}

/// The divisor in the same unit as the amount; one whole unit if there is none.
fn amount_or(divisor: Option<&ApiQuantity>, default: i128, name: &str) -> i128 {
    let (units, millis) = amount(divisor);
    let given = if name == "cpu" { millis } else { i128::from(units) };
    if given <= 0 { default } else { given }
}

trait DivCeil {
    fn div_ceil_to(self, divisor: i128) -> i128;
}

impl DivCeil for i128 {
    fn div_ceil_to(self, divisor: i128) -> i128 {
        self.div_euclid(divisor) + i128::from(self.rem_euclid(divisor) != 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "app": "web", "b": "x\"y" } },
            "spec": { "nodeName": "node", "containers": [
                { "name": "a", "resources": { "limits": { "cpu": "250m", "memory": "64Mi" }, "requests": { "cpu": "1500m" } } },
                { "name": "b" },
            ] },
        }))
        .expect("a pod")
    }

    #[test]
    fn fields_are_told_as_text() {
        let facts = NodeFacts { pod_ips: vec!["10.0.0.1".into(), "fd::1".into()], ..NodeFacts::default() };
        for (path, expected) in [
            ("metadata.name", Ok("p")),
            ("metadata.labels['app']", Ok("web")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.labels", Ok("app=\"web\"\nb=\"x\\\"y\"")),
            ("spec.nodeName", Ok("node")),
            ("status.podIPs", Ok("10.0.0.1,fd::1")),
            ("status.phase", Err("unsupported fieldPath: status.phase")),
        ] {
            let selector = ObjectFieldSelector { api_version: None, field_path: path.into() };
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(field(&pod(), &facts, &selector), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_rounded_up_in_units_of_the_divisor() {
        let pod = pod();
        let spec = pod.spec.as_ref().expect("a spec");
        let allocatable = [("memory", "8Gi"), ("cpu", "2")].map(|(k, v)| (k.to_owned(), ApiQuantity(v.to_owned())));
        let facts = NodeFacts { allocatable: allocatable.into(), ..NodeFacts::default() };
        for (container, name, divisor, expected) in [
            (0, "limits.cpu", None, "1"),
            (0, "limits.cpu", Some("1m"), "250"),
            (0, "requests.cpu", None, "2"),
            (0, "limits.memory", Some("1Mi"), "64"),
            (0, "requests.memory", None, "67108864"),
            (1, "limits.memory", Some("1Gi"), "8"),
            (1, "requests.cpu", None, "0"),
        ] {
            let selector = ResourceFieldSelector {
                container_name: None,
                resource: name.into(),
                divisor: divisor.map(|d| ApiQuantity(d.to_owned())),
            };
            let got = resource(&pod, &spec.containers[container], &facts, &selector);
            assert_eq!(got.as_deref(), Ok(expected), "{container} {name} {divisor:?}");
        }
    }
}
