//! `pods/NAME/binding` and the older `bindings`: a scheduler gives a pod its node.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_api::{FieldError, Status};

use crate::{
    context::Context,
    encode,
    http::{body::Sent, errors, route::Target},
    object::{self, map_at, meta_str},
    pipeline::{self, Part, Write},
};

pub(super) async fn bind(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let binding: Value = sent.value()?;
    let pods = cx.api.registry.find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let name = match cx.target.name.as_deref() {
        Some(name) => name.to_owned(),
        None => object::name(&binding).to_owned(),
    };
    let node = binding["target"]["name"].as_str().unwrap_or("").to_owned();
    let of_kind = binding["target"]["kind"].as_str().unwrap_or("");
    let mut wrong = Vec::new();
    if !of_kind.is_empty() && of_kind != "Node" {
        wrong.push(FieldError::not_supported("target.kind", of_kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        wrong.push(FieldError::required("target.name", ""));
    }
    if !wrong.is_empty() {
        return Err(Status::invalid(cx.kind(), &name, &wrong));
    }
    let target = Target { resource: pods, name: Some(name.clone()), subresource: None, ..cx.target.clone() };
    let cx = cx.with_target(target);
    let change = |old: Option<&Value>| {
        let pod = old.ok_or_else(|| Status::not_found(cx.kind(), &name))?;
        assign(&cx, pod, &binding, &node)
    };
    let write =
        Write { part: Part::Whole, name: &name, may_create: false, may_update: true, applies: false, change: &change };
    pipeline::write(&cx, &write).await?;
    let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    let bytes = cx.accepted.format.transcode(encode::json(&success))?;
    Ok(super::respond(&cx, StatusCode::CREATED, bytes))
}

fn assign(cx: &Context, pod: &Value, binding: &Value, node: &str) -> Result<Value, Status> {
    let name = object::name(pod);
    let (wanted, found) = (meta_str(binding, "uid"), meta_str(pod, "uid"));
    if !wanted.is_empty() && wanted != found {
        return Err(errors::precondition(cx.kind(), name, "UID", wanted, found));
    }
    if object::is_terminating(pod) {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Status::conflict(cx.kind(), name, &why));
    }
    if let Some(present) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        let why = format!("pod {name} is already assigned to node {present:?}");
        return Err(Status::conflict(cx.kind(), name, &why));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        let why = format!("pod {name} has non-empty .spec.schedulingGates");
        return Err(Status::conflict(cx.kind(), name, &why));
    }
    let mut pod = pod.clone();
    map_at(&mut pod, "spec").insert("nodeName".to_owned(), node.into());
    for field in ["annotations", "labels"] {
        let Some(sent) = binding["metadata"][field].as_object() else { continue };
        let slot = object::metadata_mut(&mut pod).entry(field).or_insert_with(|| json!({}));
        if let Some(map) = slot.as_object_mut() {
            map.extend(sent.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    scheduled(&mut pod, &object::time(cx.now));
    Ok(pod)
}

/// The condition `PodScheduled` becomes true.
fn scheduled(pod: &mut Value, now: &str) {
    let condition =
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now });
    let status = map_at(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(found) if found["status"] == "True" => {}
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}
