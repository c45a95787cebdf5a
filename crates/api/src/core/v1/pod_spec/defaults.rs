//! What upstream fills in when a pod spec leaves it out. In place, total, idempotent.

use serde_json::Value;

use crate::object::{Object, child, default, default_nonzero, default_object, each, existing};
use crate::quantity::Quantity;

/// Of a pod and of a template.
pub fn pod_spec(spec: &mut Object) {
    let account = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|k| spec.get(*k).and_then(Value::as_str).filter(|s| !s.is_empty()))
        .map(str::to_owned);
    if let Some(account) = account {
        spec.insert("serviceAccount".to_owned(), account.as_str().into());
        spec.insert("serviceAccountName".to_owned(), account.into());
    }
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default_object(spec, "securityContext");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, key).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
    if let Some(overhead) = existing(spec, "overhead") {
        resource_list(overhead);
    }
    if let Some(resources) = existing(spec, "resources") {
        requirements(resources);
    }
}

/// What a pod gets beyond its template: requests from limits, service links, host ports.
pub fn pod_only(spec: &mut Object) {
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for key in ["containers", "initContainers"] {
        for c in each(spec, key) {
            if let Some(resources) = existing(c, "resources") {
                requests_from_limits(resources);
            }
            if host_network {
                for port in each(c, "ports") {
                    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
                        default_nonzero(port, "hostPort", number);
                    }
                }
            }
        }
    }
    default(spec, "enableServiceLinks", true);
}

/// Amounts in canonical form, rounded up to thousandths.
pub fn resource_list(list: &mut Object) {
    for amount in list.values_mut() {
        if let Ok(q) = Quantity::from_json(amount) {
            *amount = q.round_up_to_milli().into();
        }
    }
}

/// The limits and requests of a container.
fn requirements(resources: &mut Object) {
    for key in ["limits", "requests"] {
        if let Some(list) = existing(resources, key) {
            resource_list(list);
        }
    }
}

fn requests_from_limits(resources: &mut Object) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let Some(requests) = child(resources, "requests") else { return };
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

fn container(c: &mut Object) {
    if c.get("imagePullPolicy").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let latest = is_latest(c.get("image").and_then(Value::as_str).unwrap_or_default());
        c.insert("imagePullPolicy".to_owned(), if latest { "Always" } else { "IfNotPresent" }.into());
    }
    default(c, "terminationMessagePath", "/dev/termination-log");
    default(c, "terminationMessagePolicy", "File");
    if let Some(resources) = child(c, "resources") {
        requirements(resources);
    }
    each(c, "ports").for_each(|port| default(port, "protocol", "TCP"));
    for variable in each(c, "env") {
        let Some(from) = existing(variable, "valueFrom") else { continue };
        if let Some(field) = existing(from, "fieldRef") {
            default(field, "apiVersion", "v1");
        }
        if let Some(resource) = existing(from, "resourceFieldRef") {
            default(resource, "divisor", "0");
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = existing(c, key) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = existing(c, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = existing(lifecycle, key) {
                handler_defaults(handler);
            }
        }
    }
    if let Some(context) = existing(c, "securityContext")
        && context.get("procMount").is_some_and(|m| m.as_str() == Some(""))
    {
        context.insert("procMount".to_owned(), "Default".into());
    }
}

fn probe(probe: &mut Object) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_nonzero(probe, key, value);
    }
    handler_defaults(probe);
    if let Some(grpc) = existing(probe, "grpc")
        && grpc.get("service").is_none_or(Value::is_null)
    {
        grpc.insert("service".to_owned(), "".into());
    }
}

fn handler_defaults(handler: &mut Object) {
    if let Some(http) = existing(handler, "httpGet") {
        default(http, "path", "/");
        default(http, "scheme", "HTTP");
    }
}

/// A volume without a source is an empty directory.
fn volume(volume: &mut Object) {
    if !volume.iter().any(|(k, v)| k != "name" && !v.is_null()) {
        default_object(volume, "emptyDir");
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = existing(volume, key) {
            default(source, "defaultMode", 0o644);
            each(source, "items").for_each(downward_item);
            each(source, "sources").for_each(projection);
        }
    }
    if let Some(source) = existing(volume, "hostPath")
        && source.get("type").is_none_or(Value::is_null)
    {
        source.insert("type".to_owned(), "".into());
    }
    if let Some(limit) = existing(volume, "emptyDir").and_then(|e| e.get_mut("sizeLimit"))
        && let Ok(q) = Quantity::from_json(limit)
    {
        *limit = q.into();
    }
    if let Some(image) = existing(volume, "image") {
        let latest = is_latest(image.get("reference").and_then(Value::as_str).unwrap_or_default());
        default(image, "pullPolicy", if latest { "Always" } else { "IfNotPresent" });
    }
    if let Some(iscsi) = existing(volume, "iscsi") {
        default(iscsi, "iscsiInterface", "default");
    }
    if let Some(spec) =
        existing(volume, "ephemeral").and_then(|e| existing(e, "volumeClaimTemplate")).and_then(|t| existing(t, "spec"))
    {
        claim_spec(spec);
    }
}

fn downward_item(item: &mut Object) {
    if let Some(field) = existing(item, "fieldRef") {
        default(field, "apiVersion", "v1");
    }
    if let Some(resource) = existing(item, "resourceFieldRef") {
        default(resource, "divisor", "0");
    }
}

fn projection(source: &mut Object) {
    if let Some(token) = existing(source, "serviceAccountToken") {
        default(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = existing(source, "downwardAPI") {
        each(downward, "items").for_each(downward_item);
    }
}

/// Of a PersistentVolumeClaim, wherever one is written.
pub fn claim_spec(spec: &mut Object) {
    default(spec, "volumeMode", "Filesystem");
    if let Some(resources) = child(spec, "resources") {
        requirements(resources);
    }
}

/// No tag and no digest means `latest`.
fn is_latest(image: &str) -> bool {
    if image.is_empty() {
        return false;
    }
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_images_are_latest() {
        for (image, expected) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1", false),
            ("localhost:5000/nginx", true),
            ("localhost:5000/a/b:v1", false),
            ("a@sha256:00", false),
            ("a:latest@sha256:00", true),
            ("", false),
        ] {
            assert_eq!(is_latest(image), expected, "{image}");
        }
    }
}
