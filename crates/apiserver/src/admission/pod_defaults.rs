//! What a new pod gets from the cluster: its service account, the overhead and place of its runtime class, the number
//! of its priority class, and how long it stays on a node that has failed.

use serde_json::{Value, json};
use skiff_api::Status;

use super::{Rule, new_pod};
use crate::{context::Context, object, pipeline::Stage, registry};

pub(super) const SERVICE_ACCOUNT: Rule = Rule { mutate: Some(service_account), validate: None };
pub(super) const RUNTIME_CLASS: Rule = Rule { mutate: Some(runtime_class), validate: None };
pub(super) const PRIORITY: Rule = Rule { mutate: Some(priority), validate: None };
pub(super) const TOLERATION_SECONDS: Rule = Rule { mutate: Some(toleration_seconds), validate: None };

/// Only the name: no token volume is added while no node can serve one.
fn service_account(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    let Some(pod) = new_pod(cx, stage) else { return Ok(()) };
    let spec = object::map_at(pod, "spec");
    let named = |field: &str| spec.get(field).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
    let name = named("serviceAccountName").or_else(|| named("serviceAccount")).unwrap_or_else(|| "default".to_owned());
    spec.insert("serviceAccountName".to_owned(), name.clone().into());
    spec.insert("serviceAccount".to_owned(), name.into());
    Ok(())
}

/// A cluster-wide object that a pod names.
fn find(cx: &Context, group: &str, plural: &str, name: &str) -> Result<Option<Value>, Status> {
    let Some(resource) = cx.api.registry.find(group, "v1", plural) else { return Ok(None) };
    let entry = cx.api.store.get(&resource.key(None, name));
    entry.map(|e| registry::parse(&e.value)).transpose()
}

fn runtime_class(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    let Some(pod) = new_pod(cx, stage) else { return Ok(()) };
    let Some(name) = pod["spec"]["runtimeClassName"].as_str().filter(|n| !n.is_empty()).map(str::to_owned) else {
        return Ok(());
    };
    let Some(class) = find(cx, "node.k8s.io", "runtimeclasses", &name)? else {
        let why = format!("pod rejected: RuntimeClass {name:?} not found");
        return Err(Status::forbidden(cx.kind(), object::name(pod), &why));
    };
    let spec = object::map_at(pod, "spec");
    if let Some(overhead) = class["overhead"].get("podFixed").filter(|o| !o.is_null()) {
        match spec.get("overhead").filter(|o| !o.is_null()) {
            Some(sent) if sent != overhead => {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                let name = object::name(pod).to_owned();
                return Err(Status::forbidden(cx.kind(), &name, why));
            }
            _ => {
                spec.insert("overhead".to_owned(), overhead.clone());
            }
        }
    }
    let place = &class["scheduling"];
    if let Some(wanted) = place["nodeSelector"].as_object() {
        let own = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        for (key, value) in wanted {
            if own.get(key).is_some_and(|v| v != value) {
                let why =
                    "pod rejected: conflict: runtimeClass.scheduling.nodeSelector and pod.spec.nodeSelector differ";
                let name = object::name(pod).to_owned();
                return Err(Status::forbidden(cx.kind(), &name, why));
            }
            own[key] = value.clone();
        }
    }
    for toleration in place["tolerations"].as_array().into_iter().flatten() {
        tolerate(spec, toleration.clone());
    }
    Ok(())
}

fn tolerate(spec: &mut serde_json::Map<String, Value>, toleration: Value) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.contains(&toleration)
    {
        list.push(toleration);
    }
}

fn priority(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    let Some(pod) = new_pod(cx, stage) else { return Ok(()) };
    let named = pod["spec"]["priorityClassName"].as_str().filter(|n| !n.is_empty()).map(str::to_owned);
    let class = match &named {
        Some(name) => match find(cx, "scheduling.k8s.io", "priorityclasses", name)? {
            Some(class) => Some(class),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(Status::forbidden(cx.kind(), object::name(pod), &why));
            }
        },
        None => cx.api.default_priority.get(),
    };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
    let sent = pod["spec"]["priority"].as_i64();
    if let Some(sent) = sent.filter(|sent| *sent != value) {
        let why = format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(Status::forbidden(cx.kind(), object::name(pod), &why));
    }
    let spec = object::map_at(pod, "spec");
    if let Some(class) = &class {
        spec.insert("priorityClassName".to_owned(), object::name(class).into());
    }
    spec.insert("priority".to_owned(), value.into());
    spec.entry("preemptionPolicy").or_insert_with(|| policy.into());
    Ok(())
}

/// As upstream: five minutes on a node that is not ready or cannot be reached.
fn toleration_seconds(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    let Some(pod) = new_pod(cx, stage) else { return Ok(()) };
    let spec = object::map_at(pod, "spec");
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec.get("tolerations").and_then(Value::as_array).into_iter().flatten().any(|t| {
            let effect = t["effect"].as_str().unwrap_or("");
            let of = t["key"].as_str().unwrap_or("");
            (of == key || of.is_empty()) && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            tolerate(
                spec,
                json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }),
            );
        }
    }
    Ok(())
}
