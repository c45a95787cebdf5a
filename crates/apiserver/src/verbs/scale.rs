//! `scale`: the number of replicas of whatever has one, as an `autoscaling/v1 Scale`.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_api::{FieldError, Status, hooks::Scale, selector::LabelSelector};

use super::patch::Patcher;
use crate::{
    context::Context,
    encode,
    http::{body::Sent, route::Verb},
    object::{self, meta_str},
    pipeline::{self, Part, Write},
    registry,
};

fn hook(cx: &Context) -> Result<Scale, Status> {
    cx.kind().hooks.scale.ok_or_else(Status::no_such_resource)
}

pub(super) fn get(cx: &Context) -> Result<Response<Body>, Status> {
    let name = cx.target.name();
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    answer(cx, &registry::parse(&entry.value)?)
}

pub(super) async fn put(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    write(cx, |_| sent.value()).await
}

pub(super) async fn patch(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let patcher = Patcher::new(sent, None)?;
    write(cx, |present| patcher.apply(present)).await
}

async fn write(
    cx: &Context,
    next: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
) -> Result<Response<Body>, Status> {
    let hook = hook(cx)?;
    let name = cx.target.name();
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(cx.kind(), name))?;
        let scale = next(&scale_of(hook, old))?;
        apply(cx, hook, &scale, old)
    };
    let write = Write { part: Part::Main, name, may_create: false, may_update: true, applies: false, change: &change };
    let written = pipeline::write(cx, &write).await?;
    answer(cx, &registry::parse(&written.stored)?)
}

fn answer(cx: &Context, object: &Value) -> Result<Response<Body>, Status> {
    let scale = scale_of(hook(cx)?, object);
    let code = if cx.verb == Verb::Create { StatusCode::CREATED } else { StatusCode::OK };
    Ok(super::respond(cx, code, cx.accepted.format.transcode(encode::json(&scale))?))
}

/// The object with the replicas of the scale; revision and uid of the scale are preconditions.
fn apply(cx: &Context, hook: Scale, scale: &Value, old: &Value) -> Result<Value, Status> {
    let replicas = match scale["spec"].get("replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(|| Status::bad_request("spec.replicas must be an integer"))?,
    };
    if replicas < 0 || replicas > i64::from(i32::MAX) {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(cx.kind(), object::name(old), &vec![error]));
    }
    let mut object = old.clone();
    set(&mut object, hook.spec_replicas, replicas.into());
    for field in ["resourceVersion", "uid"] {
        let sent = meta_str(scale, field);
        if !sent.is_empty() {
            object::metadata_mut(&mut object).insert(field.to_owned(), sent.into());
        }
    }
    Ok(object)
}

/// Sets the value at a JSON pointer, making the objects on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut slot = object;
    for part in pointer.split('/').skip(1) {
        if !slot.is_object() {
            *slot = json!({});
        }
        slot = &mut slot[part];
    }
    *slot = value;
}

fn scale_of(hook: Scale, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        object::set_or_remove(&mut metadata, field, object["metadata"].get(field).cloned());
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": number(hook.spec_replicas) },
        "status": { "replicas": number(hook.status_replicas) },
    });
    let selector = match object.pointer(hook.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(map) if map.get("matchLabels").is_some() || map.get("matchExpressions").is_some() => {
            LabelSelector::from_object(map).to_string()
        }
        Some(Value::Object(map)) => {
            LabelSelector::from_map(map.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))).to_string()
        }
        _ => String::new(),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}
