//! Nothing is created in a namespace that does not exist or is going away, and the system's namespaces stay.
//!
//! The namespace as it was seen is a precondition of the commit: a create and the end of its namespace cannot both
//! happen.

use serde_json::json;
use skiff_api::Status;
use skiff_store::Expect;

use super::Rule;
use crate::{
    context::Context,
    http::route::Verb,
    object,
    pipeline::{Part, Stage},
    registry,
};

pub(super) const RULE: Rule = Rule { mutate: Some(guard), validate: Some(keep_system) };

/// As upstream: these cannot be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

fn guard(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    let Some(namespace) = cx.namespace().filter(|_| stage.old.is_none() && cx.kind().namespaced) else { return Ok(()) };
    let Some(namespaces) = cx.api.registry.find("", "v1", "namespaces") else { return Ok(()) };
    let key = namespaces.key(None, namespace);
    let Some(entry) = cx.api.store.get(&key) else { return Err(Status::not_found(&namespaces.kind, namespace)) };
    // Only a namespace that ends carries this word; then it is read properly.
    let marked = entry.value.windows(DELETION.len()).any(|w| w == DELETION);
    if marked && object::is_terminating(&registry::parse(&entry.value)?) {
        return Err(terminating(cx, namespace, object::name(&stage.object)));
    }
    stage.guards.push((key, Expect::At(entry.revision)));
    Ok(())
}

const DELETION: &[u8] = b"\"deletionTimestamp\"";

fn terminating(cx: &Context, namespace: &str, name: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(cx.kind(), name, &why);
    status.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    status
}

fn keep_system(cx: &Context, stage: &Stage) -> Result<(), Status> {
    let name = object::name(&stage.object);
    let deletes = stage.part == Part::Deletion && matches!(cx.verb, Verb::Delete | Verb::DeleteCollection);
    if deletes && cx.resource().is("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(cx.kind(), name, "this namespace may not be deleted"));
    }
    Ok(())
}
