//! From what the client sent to what would be stored: the metadata that the server owns, and the parts of the object
//! that this request may not touch.

use serde_json::{Map, Value, json};
use skiff_api::{FieldError, Status, kinds::Subresource, meta, patch::managed_fields};

use crate::{
    context::Context,
    http::errors,
    object::{self, keep, keep_meta, meta_str, metadata_mut, set_or_remove},
    pipeline::{Part, Stage, Write},
    registry,
};

/// Reads what is stored and applies the change to it.
pub(crate) fn observe(cx: &Context, write: &Write<'_>) -> Result<Stage, Status> {
    let resource = cx.resource();
    let mut name = write.name.to_owned();
    let mut object = None;
    let mut generated = false;
    if name.is_empty() {
        let mut sent = (write.change)(None)?;
        let prefix = meta_str(&sent, "generateName");
        if prefix.is_empty() {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            return Err(Status::invalid(cx.kind(), "", &vec![error]));
        }
        name = meta::generated_name(prefix, rand::random());
        metadata_mut(&mut sent).insert("name".to_owned(), name.clone().into());
        object = Some(sent);
        generated = true;
    }
    let key = cx.key(&name);
    // A name that was made up is meant for a new object: if it is taken, the commit says so.
    let entry = if generated { None } else { cx.api.store.get(&key) };
    match &entry {
        Some(_) if !write.may_update => return Err(Status::already_exists(cx.kind(), &name)),
        None if !write.may_create => return Err(Status::not_found(cx.kind(), &name)),
        _ => {}
    }
    let old = entry.as_ref().map(|e| registry::parse(&e.value)).transpose()?;
    let object = match object {
        Some(object) => object,
        None if resource.same => (write.change)(old.as_ref())?,
        None => {
            let mut served = old.clone();
            served.as_mut().map(|o| resource.unstore(o)).transpose()?;
            (write.change)(served.as_ref())?
        }
    };
    let mut stage =
        Stage { part: write.part, key, object, old, entry, guards: Vec::new(), applied: write.applies, generated };
    identify(cx, &name, &mut stage)?;
    Ok(stage)
}

/// Name, namespace, version and kind are those of the path; identity and revision, if sent, must be what is stored.
fn identify(cx: &Context, name: &str, stage: &mut Stage) -> Result<(), Status> {
    let kind = cx.kind();
    let namespace = cx.namespace();
    let sent_name = meta_str(&stage.object, "name");
    if !sent_name.is_empty() && sent_name != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({sent_name}) does not match the name on the URL ({name})"
        )));
    }
    let sent_namespace = meta_str(&stage.object, "namespace");
    if !sent_namespace.is_empty() && sent_namespace != namespace.unwrap_or("") {
        return Err(Status::bad_request(match kind.namespaced {
            true => "the namespace of the provided object does not match the namespace sent on the request",
            false => "namespace is not allowed on this type",
        }));
    }
    let (sent_revision, sent_uid) =
        (meta_str(&stage.object, "resourceVersion").to_owned(), meta_str(&stage.object, "uid").to_owned());
    match &stage.old {
        None if !sent_revision.is_empty() && sent_revision != "0" && cx.verb == crate::http::route::Verb::Create => {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        None if !sent_revision.is_empty() && sent_revision != "0" => {
            return Err(Status::not_found(kind, name));
        }
        None => {}
        Some(old) => {
            let revision = meta_str(old, "resourceVersion");
            let uid = meta_str(old, "uid");
            if !sent_uid.is_empty() && sent_uid != uid {
                return Err(errors::precondition(kind, name, "UID", &sent_uid, uid));
            }
            if sent_revision.is_empty() || sent_revision == "0" {
                if !kind.hooks.unconditional_update {
                    let error =
                        FieldError::invalid("metadata.resourceVersion", json!(0), "must be specified for an update");
                    return Err(Status::invalid(kind, name, &vec![error]));
                }
            } else if sent_revision != revision {
                return Err(Status::stale(kind, name));
            }
        }
    }
    let metadata = metadata_mut(&mut stage.object);
    metadata.insert("name".to_owned(), name.into());
    set_or_remove(metadata, "namespace", namespace.filter(|_| kind.namespaced).map(Into::into));
    metadata.remove("selfLink");
    stage.object["apiVersion"] = kind.api_version().into();
    stage.object["kind"] = kind.kind.as_ref().into();
    Ok(())
}

/// Defaults of the version that the client speaks, then the form in which the object is stored.
pub(crate) fn default(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    (cx.kind().hooks.default)(&mut stage.object);
    cx.resource().store(&mut stage.object)
}

/// What the server owns, then who owns the rest.
pub(crate) fn prepare(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    of_server(cx, stage);
    let tracked = !stage.applied && !matches!(stage.part, Part::Whole | Part::Deletion);
    if tracked {
        let stored = &cx.resource().stored;
        let now = object::time(cx.now);
        managed_fields::update(stored.schema(), stage.old.as_ref(), &mut stage.object, &cx.writer(&now));
    }
    Ok(())
}

/// The metadata that the server owns and the part of the object that this write is about.
fn of_server(cx: &Context, stage: &mut Stage) {
    let stored = &cx.resource().stored;
    let has_status = stored.subresources.contains(&Subresource::Status);
    let object = &mut stage.object;
    let Some(old) = &stage.old else {
        let metadata = metadata_mut(object);
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), object::time(cx.now).into());
        if stored.hooks.generation_of.is_some() {
            metadata.insert("generation".to_owned(), 1.into());
        }
        // A kubelet registers its node together with its status.
        if has_status
            && !cx.resource().is("", "nodes")
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        (stored.hooks.prepare_create)(object);
        return;
    };
    if stage.part != Part::Deletion {
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            keep_meta(object, old, field);
        }
    }
    keep_meta(object, old, "resourceVersion");
    match stage.part {
        Part::Whole | Part::Deletion => {}
        Part::Main => {
            if has_status {
                keep(object, old, "status");
            }
            (stored.hooks.prepare_update)(object, old);
            count_generation(stored.hooks.generation_of, object, old);
        }
        Part::Status => {
            keep_all_but_status(object, old, stored);
            (stored.hooks.prepare_status)(object, old);
        }
        Part::Finalize => *object = with_spec_field(object, old, "finalizers"),
        Part::EphemeralContainers => *object = with_spec_field(object, old, "ephemeralContainers"),
        Part::Resize => {
            *object = with_resources(object, old);
            count_generation(stored.hooks.generation_of, object, old);
        }
    }
}

/// Only one field of the spec is written.
fn with_spec_field(new: &mut Value, old: &Value, field: &str) -> Value {
    let sent = new["spec"].get_mut(field).map(Value::take);
    let mut out = old.clone();
    set_or_remove(object::map_at(&mut out, "spec"), field, sent);
    keep_meta(&mut out, new, "managedFields");
    out
}

/// Only the resources of containers are written, by name.
fn with_resources(new: &mut Value, old: &Value) -> Value {
    let mut out = old.clone();
    for list in ["containers", "initContainers"] {
        for container in out["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let sent = new["spec"][list].as_array().into_iter().flatten().find(|c| c["name"] == container["name"]);
            for field in ["resources", "resizePolicy"] {
                if let (Some(sent), Some(map)) = (sent, container.as_object_mut()) {
                    set_or_remove(map, field, sent.get(field).cloned());
                }
            }
        }
    }
    keep_meta(&mut out, new, "managedFields");
    out
}

fn count_generation(generation_of: Option<fn(&Value) -> Value>, object: &mut Value, old: &Value) {
    let Some(generation_of) = generation_of else { return };
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
    let next = if generation_of(object) == generation_of(old) { generation } else { generation + 1 };
    if next > 0 {
        metadata_mut(object).insert("generation".to_owned(), next.into());
    }
}

/// Only the status is written, and the metadata that upstream lets through. What is equal already, mostly all of the
/// rest, is not copied.
fn keep_all_but_status(new: &mut Value, old: &Value, kind: &skiff_api::Kind) {
    // Upstream's deployments keep their labels when their status is written.
    let through: &[&str] = match kind.plural.as_ref() {
        "deployments" => &["annotations", "finalizers", "managedFields"],
        _ => &["labels", "annotations", "finalizers", "managedFields"],
    };
    keep_but(metadata_mut(new), object::metadata(old), through);
    if let Some(map) = new.as_object_mut() {
        keep_but(map, old.as_object(), &["metadata", "status"]);
    }
}

/// Makes every field that is not one of `through` what it was.
fn keep_but(new: &mut Map<String, Value>, old: Option<&Map<String, Value>>, through: &[&str]) {
    let was = |field: &str| old.and_then(|o| o.get(field));
    new.retain(|field, _| through.contains(&field.as_str()) || was(field).is_some());
    for (field, value) in old.into_iter().flatten() {
        if !through.contains(&field.as_str()) && new.get(field) != Some(value) {
            new.insert(field.clone(), value.clone());
        }
    }
}
