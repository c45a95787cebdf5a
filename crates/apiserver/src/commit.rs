//! The end of a write: one transaction, or nothing when nothing changed.

use http::StatusCode;
use skiff_api::Status;
use skiff_store::{Error, Expect, Op, Transaction};

use crate::{
    context::Context,
    encode,
    http::errors,
    object::{self, metadata_mut},
    pipeline::{Stage, Written},
};

/// A write that changes nothing is not written and keeps its revision.
pub(crate) fn unchanged(stage: &mut Stage) -> Option<Written> {
    let (old, entry) = (stage.old.as_ref()?, stage.entry.as_ref()?);
    if stage.object != *old || released(stage) {
        return None;
    }
    Some(Written { code: StatusCode::OK, stored: entry.value.clone(), deleted: false })
}

/// A deletion waited for the finalizers that are gone now.
fn released(stage: &Stage) -> bool {
    let object = &stage.object;
    if stage.old.is_none() || !object::is_terminating(object) || !object::finalizers(object).is_empty() {
        return false;
    }
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let of_namespace = object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
        && stage.key.as_str().starts_with("core/namespaces/");
    grace == 0 && !of_namespace
}

/// `None`: another writer came first, go again.
pub(crate) async fn commit(cx: &Context, mut stage: Stage) -> Result<Option<Written>, Status> {
    let code = if stage.old.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    let deletes = released(&stage);
    if cx.options.dry_run {
        if stage.old.is_none() {
            metadata_mut(&mut stage.object).remove("resourceVersion");
        }
        return Ok(Some(Written { code, stored: encode::json(&stage.object), deleted: deletes }));
    }
    // What goes at once was never marked: watchers see it as it was.
    let last = match &stage.old {
        Some(old) if deletes && !object::is_terminating(old) => old,
        _ => &stage.object,
    };
    let draft = encode::draft(&cx.resource().stored_envelope, last);
    let own = match &stage.entry {
        Some(entry) => Expect::At(entry.revision),
        _ => Expect::Absent,
    };
    let mut expect = vec![(stage.key.clone(), own)];
    expect.append(&mut stage.guards);
    let op = if deletes { Op::Delete(stage.key.clone(), Some(draft)) } else { Op::Put(stage.key.clone(), draft) };
    match cx.api.store.transact(Transaction { expect, ops: vec![op] }).await {
        Ok(committed) => match committed.entries.first() {
            Some(entry) => Ok(Some(Written { code, stored: entry.value.clone(), deleted: deletes })),
            None => Err(Status::internal("the store committed without an entry")),
        },
        Err(Error::Conflict { key, .. }) => {
            let taken = key == stage.key && own == Expect::Absent && !stage.generated;
            // What came first may be deleted again or be what an update-or-create wants to change: go again and see.
            if taken && cx.verb == crate::http::route::Verb::Create {
                return Err(Status::already_exists(cx.kind(), object::name(&stage.object)));
            }
            Ok(None)
        }
        Err(error) => Err(errors::of_store(error)),
    }
}
