//! Pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod_spec::{self, Owner, defaults, qos};
use super::pod_status;
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{at, flag, get, has, int, items, keep_status, name, object, same, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    warnings,
    columns: COLUMNS,
    row,
    fields,
    field_labels: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    grace_seconds: Some(grace_seconds),
    ..Hooks::GENERIC
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new("Ready", "string").about("Containers that are ready, of how many."),
    Column::new("Status", "string").about("The phase, or what keeps the pod from it."),
    Column::new("Restarts", "string").about("How often containers were restarted, and when last."),
    Column::AGE,
    Column::new("IP", "string").wide(),
    Column::new("Node", "string").wide(),
    Column::new("Nominated Node", "string").wide(),
    Column::new("Readiness Gates", "string").wide(),
];

fn default(pod: &mut Value) {
    if let Some(spec) = object(pod, "spec") {
        defaults::pod_spec(spec);
        defaults::pod_only(spec);
    }
}

/// A new pod is pending, whatever status it was sent with.
fn prepare_create(pod: &mut Value) {
    if let Some(spec) = object(pod, "spec")
        && let Some(account) = spec.get("serviceAccountName").cloned()
    {
        spec.insert("serviceAccount".to_owned(), account);
    }
    let mut status = json!({ "phase": "Pending", "qosClass": qos::qos_class(get(pod, "spec")) });
    if !items(get(pod, "spec"), "schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": at(pod, &["metadata", "creationTimestamp"]),
        }]);
    }
    if let Some(pod) = pod.as_object_mut() {
        pod.insert("status".to_owned(), status);
    }
}

fn validate(pod: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(pod, "spec");
    let at = Path::new("spec");
    pod_spec::validate(spec, Owner::Pod, &at, &mut out);
    if text(spec, "serviceAccountName").is_empty() {
        for (i, volume) in items(spec, "volumes").iter().enumerate() {
            for (j, source) in items(get(volume, "projected"), "sources").iter().enumerate() {
                if has(source, "serviceAccountToken") {
                    let volumes = at.child("volumes");
                    let (volume, projected) = (volumes.index(i), "projected");
                    out.push(FieldError::forbidden(
                        &volume.child(projected).child("sources").index(j).child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    ));
                }
            }
        }
    }
    // Neither can be said of a stored pod: ephemeral containers come by their subresource, and a bound pod has no gates.
    let created = !has(get(pod, "metadata"), "resourceVersion");
    if created && !items(spec, "ephemeralContainers").is_empty() {
        out.push(FieldError::forbidden(&at.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        let message = "cannot be set until all schedulingGates have been cleared";
        out.push(FieldError::forbidden(&at.child("nodeName"), message));
    }
    out
}

/// What an update of the pod may change; all else is what the pod was made with.
fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    let at = Path::new("spec");
    for key in ["containers", "initContainers"] {
        if items(spec, key).len() != items(old_spec, key).len() {
            out.push(FieldError::forbidden(&at.child(key), "pod updates may not add or remove containers"));
            return out;
        }
    }
    deadline_update(spec, old_spec, &at, &mut out);
    let tolerations = items(spec, "tolerations");
    let kept = |old: &Value| tolerations.iter().any(|t| same_but(t, old, "tolerationSeconds"));
    if !items(old_spec, "tolerations").iter().all(kept) {
        let message = "existing toleration can not be modified except its tolerationSeconds";
        out.push(FieldError::forbidden(&at.child("tolerations"), message));
    }
    let old_gates = items(old_spec, "schedulingGates");
    for (i, gate) in items(spec, "schedulingGates").iter().enumerate() {
        if !old_gates.iter().any(|g| text(g, "name") == text(gate, "name")) {
            let gates = at.child("schedulingGates");
            let message = format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            out.push(FieldError::forbidden(&gates.index(i).child("name"), message));
        }
    }
    if same(spec, old_spec) {
        return out;
    }
    let munged = with_what_may_change(spec, old_spec);
    if !same(&munged, old_spec) {
        let changed: Vec<&str> = munged
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, v)| !same(v, get(old_spec, k)))
            .map(|(k, _)| k.as_str())
            .chain(old_spec.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).filter(|k| !has(&munged, k)))
            .collect();
        out.push(FieldError::forbidden(
            &at,
            format!(
                "pod updates may not change fields other than `spec.containers[*].image`,\
                 `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                 existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                 previously negative)\nchanged: {}",
                changed.join(", ")
            ),
        ));
    }
    out
}

fn deadline_update(spec: &Value, old_spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let at = at.child("activeDeadlineSeconds");
    match (int(spec, "activeDeadlineSeconds"), int(old_spec, "activeDeadlineSeconds")) {
        (Some(new), Some(old)) if old < new => {
            out.push(FieldError::invalid(&at, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            out.push(FieldError::invalid(&at, Value::Null, "must not update from a positive integer to nil value"));
        }
        _ => {}
    }
}

/// The new spec with everything that may change taken from the old one.
fn with_what_may_change(spec: &Value, old_spec: &Value) -> Value {
    let mut out = spec.clone();
    for key in ["containers", "initContainers"] {
        let images = items(old_spec, key).iter().map(|c| get(c, "image").clone()).collect::<Vec<_>>();
        let containers = out.get_mut(key).and_then(Value::as_array_mut);
        for (container, image) in containers.into_iter().flatten().zip(images) {
            if let Some(container) = container.as_object_mut() {
                container.insert("image".to_owned(), image);
            }
        }
    }
    let mut free = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if int(old_spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && int(spec, "terminationGracePeriodSeconds") == Some(1)
    {
        free.push("terminationGracePeriodSeconds");
    }
    if !items(old_spec, "schedulingGates").is_empty() {
        // A gated pod may still be given more to ask of its node.
        free.extend(["nodeSelector", "affinity"]);
    }
    if let Some(map) = out.as_object_mut() {
        for key in free {
            map.insert(key.to_owned(), get(old_spec, key).clone());
        }
    }
    out
}

fn same_but(a: &Value, b: &Value, key: &str) -> bool {
    let without = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.remove(key);
        }
        v
    };
    same(&without(a), &without(b))
}

fn validate_status(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (status, old_status) = (get(new, "status"), get(old, "status"));
    let at = Path::new("status");
    let nominated = text(status, "nominatedNodeName");
    if nominated != text(old_status, "nominatedNodeName") && !nominated.is_empty() {
        invalid_each(&mut out, &at.child("nominatedNodeName"), nominated, names::dns_subdomain(nominated));
    }
    let class = text(status, "qosClass");
    if class != text(old_status, "qosClass") && !text(old_status, "qosClass").is_empty() {
        out.push(FieldError::invalid(&at.child("qosClass"), class, "field is immutable"));
    }
    // A container that must not run again cannot leave the terminated state.
    if text(get(old, "spec"), "restartPolicy") != "Always" {
        for old_container in items(old_status, "containerStatuses") {
            let exited = get(get(old_container, "state"), "terminated");
            let is_final = match text(get(old, "spec"), "restartPolicy") {
                "OnFailure" => int(exited, "exitCode") == Some(0),
                _ => true,
            };
            let container = items(get(old, "spec"), "containers")
                .iter()
                .find(|c| text(c, "name") == text(old_container, "name"))
                .unwrap_or(&Value::Null);
            if exited.is_null() || !is_final || has(container, "restartPolicy") {
                continue;
            }
            let statuses = items(status, "containerStatuses").iter().enumerate();
            for (i, c) in statuses.filter(|(_, c)| text(c, "name") == text(old_container, "name")) {
                if !has(get(c, "state"), "terminated") {
                    let list = at.child("containerStatuses");
                    let message = "may not be transitioned to non-terminated state";
                    out.push(FieldError::forbidden(&list.index(i).child("state"), message));
                }
            }
        }
    }
    out
}

fn warnings(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let messages = names::dns_label(name(pod));
    if !messages.is_empty() && !name(pod).is_empty() {
        out.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
             is recommended: [{}]",
            messages.join(" ")
        ));
    }
    out.extend(spec_warnings(get(pod, "spec"), &Path::new("spec")));
    out
}

/// Of a pod's spec and of a template's.
pub fn spec_warnings(spec: &Value, at: &Path<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for key in ["initContainers", "containers"] {
        let list = at.child(key);
        for (i, container) in items(spec, key).iter().enumerate() {
            let at = list.index(i);
            let env = items(container, "env");
            for (j, variable) in env.iter().enumerate() {
                let name = text(variable, "name");
                if env[..j].iter().any(|v| text(v, "name") == name) {
                    let at = at.child("env");
                    out.push(format!(
                        "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                        at.index(j)
                    ));
                }
            }
            let ports = items(container, "ports");
            let key = |p| (int(p, "containerPort"), text(p, "protocol"), int(p, "hostPort"), text(p, "hostIP"));
            for (j, port) in ports.iter().enumerate() {
                if let Some(k) = ports[..j].iter().position(|p| key(p) == key(port)) {
                    let at = at.child("ports");
                    out.push(format!("{}: duplicate port definition with {}", at.index(j), at.index(k)));
                }
            }
        }
    }
    out
}

/// Seconds; 0 for a pod that no node runs.
fn grace_seconds(pod: &Value) -> i64 {
    let spec = get(pod, "spec");
    if text(spec, "nodeName").is_empty() || pod_status::is_finished(pod) {
        return 0;
    }
    match int(spec, "terminationGracePeriodSeconds").unwrap_or(0) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn fields(pod: &Value) -> Vec<(&'static str, String)> {
    let (spec, status) = (get(pod, "spec"), get(pod, "status"));
    let ips: Vec<&str> = items(status, "podIPs").iter().map(|ip| text(ip, "ip")).collect();
    vec![
        ("spec.nodeName", text(spec, "nodeName").to_owned()),
        ("spec.restartPolicy", text(spec, "restartPolicy").to_owned()),
        ("spec.schedulerName", text(spec, "schedulerName").to_owned()),
        ("spec.serviceAccountName", text(spec, "serviceAccountName").to_owned()),
        ("spec.hostNetwork", flag(spec, "hostNetwork").to_string()),
        ("status.phase", text(status, "phase").to_owned()),
        ("status.podIP", ips.first().copied().unwrap_or_default().to_owned()),
        ("status.podIPs", ips.join(",")),
        ("status.nominatedNodeName", text(status, "nominatedNodeName").to_owned()),
    ]
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(pod, "spec"), get(pod, "status"));
    let shown = pod_status::summary(pod);
    let restarts = match shown.last_restart {
        Some(time) if shown.restarts != 0 => {
            let ago = table::short_duration(now.as_second() - time.as_second());
            format!("{} ({ago} ago)", shown.restarts)
        }
        _ => shown.restarts.to_string(),
    };
    let gates = items(spec, "readinessGates");
    let open = gates
        .iter()
        .filter(|g| {
            pod_status::condition(status, text(g, "conditionType")).is_some_and(|c| text(c, "status") == "True")
        })
        .count();
    vec![
        name(pod).into(),
        format!("{}/{}", shown.ready, shown.total).into(),
        shown.reason.into(),
        restarts.into(),
        table::age(pod, now),
        table::or_none(items(status, "podIPs").first().map(|ip| text(ip, "ip")).unwrap_or_default()),
        table::or_none(text(spec, "nodeName")),
        table::or_none(text(status, "nominatedNodeName")),
        if gates.is_empty() { "<none>".into() } else { format!("{open}/{}", gates.len()).into() },
    ]
}
