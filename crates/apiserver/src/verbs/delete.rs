//! DELETE of one object and of a collection: preconditions, grace, finalizers, propagation.
//!
//! An object goes when its grace is over and nothing holds it; until then it carries a deletion timestamp.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_api::Status;

use crate::{
    context::Context,
    encode,
    http::{
        body::{Sent, malformed},
        errors,
        present::Presenter,
        query::{self, ListOptions},
        route::{Target, Verb},
    },
    object::{self, metadata_mut},
    pipeline::{self, Part, Write, Written},
    registry::{filter::Filter, list},
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`, from the body or the query.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    pub(super) fn parse(cx: &Context, sent: &Sent) -> Result<Self, Status> {
        let mut options = if sent.bytes.is_empty() {
            Self::default()
        } else {
            serde_json::from_value(sent.value()?).map_err(|e| malformed(&e))?
        };
        let query = &cx.query;
        if let Some(seconds) = query.number("gracePeriodSeconds")? {
            options.grace_period_seconds = Some(seconds);
        }
        if let Some(policy) = query.text("propagationPolicy") {
            options.propagation_policy = Some(policy.to_owned());
        }
        if query.has("orphanDependents") {
            options.orphan_dependents = Some(query.flag("orphanDependents"));
        }
        Ok(options)
    }

    /// Those inside an Eviction.
    pub(super) fn of_eviction(eviction: &Value) -> Result<Self, Status> {
        match eviction.get("deleteOptions").filter(|o| !o.is_null()) {
            Some(options) => serde_json::from_value(options.clone()).map_err(|e| malformed(&e)),
            None => Ok(Self::default()),
        }
    }

    fn dry_run(&self) -> Result<bool, Status> {
        query::dry_run(self.dry_run.iter().flatten().map(String::as_str))
    }

    fn propagation(&self) -> Result<Option<Propagation>, Status> {
        let policy = match self.propagation_policy.as_deref() {
            None | Some("") => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let message = format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: \
                     supported values: \"Background\", \"Foreground\", \"Orphan\", \"nil\""
                );
                return Err(Status::new(422, "Invalid", message));
            }
        };
        match (policy, self.orphan_dependents) {
            (Some(_), Some(_)) => Err(Status::new(
                422,
                "Invalid",
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and \
                 deletionPropagation cannot be both set",
            )),
            (None, Some(true)) => Ok(Some(Propagation::Orphan)),
            (None, Some(false)) => Ok(Some(Propagation::Background)),
            (policy, None) => Ok(policy),
        }
    }
}

pub(super) async fn delete(cx: Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::parse(&cx, sent)?;
    let mut cx = cx;
    cx.options.dry_run |= options.dry_run()?;
    if cx.verb == Verb::DeleteCollection { collection(&cx, &options).await } else { one(&cx, &options).await }
}

async fn one(cx: &Context, options: &DeleteOptions) -> Result<Response<Body>, Status> {
    let written = remove(cx, cx.target.name(), options).await?;
    let waits = !written.deleted
        && (options.propagation()? == Some(Propagation::Foreground) || options.orphan_dependents == Some(false));
    let code = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
    if !written.deleted || returns_object(cx) {
        let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
        return Ok(super::respond(cx, code, presenter.object(&written.stored)?));
    }
    let gone = crate::registry::parse(&written.stored)?;
    let mut details = json!({ "name": cx.target.name(), "kind": cx.kind().plural, "uid": gone["metadata"]["uid"] });
    if !cx.kind().group.is_empty() {
        details["group"] = json!(cx.kind().group);
    }
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
    Ok(super::respond(cx, code, cx.accepted.format.transcode(encode::json(&status))?))
}

/// Kinds whose deletion answers with the object, as upstream.
fn returns_object(cx: &Context) -> bool {
    const OBJECT: &[(&str, &str)] = &[
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "pods"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
        ("", "services"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
        ("resource.k8s.io", "resourceslices"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "volumeattachments"),
        ("storage.k8s.io", "volumeattributesclasses"),
    ];
    OBJECT.iter().any(|(group, plural)| cx.resource().is(group, plural))
}

/// Marks the object, or removes it when nothing holds it.
pub(super) async fn remove(cx: &Context, name: &str, options: &DeleteOptions) -> Result<Written, Status> {
    let propagation = options.propagation()?;
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(cx.kind(), name))?;
        check(cx, name, old, options.preconditions.as_ref())?;
        Ok(marked(cx, old, options.grace_period_seconds, propagation))
    };
    let write =
        Write { part: Part::Deletion, name, may_create: false, may_update: true, applies: false, change: &change };
    let mut written = pipeline::write(cx, &write).await?;
    written.code = StatusCode::OK;
    Ok(written)
}

fn check(cx: &Context, name: &str, old: &Value, wanted: Option<&Preconditions>) -> Result<(), Status> {
    let Some(wanted) = wanted else { return Ok(()) };
    for (what, field, wanted) in
        [("UID", "uid", &wanted.uid), ("ResourceVersion", "resourceVersion", &wanted.resource_version)]
    {
        let found = object::meta_str(old, field);
        if let Some(wanted) = wanted.as_deref().filter(|w| *w != found) {
            return Err(errors::precondition(cx.kind(), name, what, wanted, found));
        }
    }
    Ok(())
}

/// The object with the marks of its deletion.
fn marked(cx: &Context, old: &Value, asked: Option<i64>, propagation: Option<Propagation>) -> Value {
    let mut object = old.clone();
    hold_for_propagation(&mut object, propagation);
    let grace = grace(cx, old, asked);
    let now = object::time(cx.now);
    if object::is_terminating(old) {
        let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        // A later deletion can only shorten the grace.
        if grace < left {
            let ends = object::meta_str(old, "deletionTimestamp").parse::<Timestamp>().unwrap_or(cx.now);
            let sooner = ends.checked_sub(SignedDuration::from_secs(left - grace)).unwrap_or(cx.now);
            let metadata = metadata_mut(&mut object);
            metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
            metadata.insert("deletionTimestamp".to_owned(), object::time(sooner).into());
        }
        return object;
    }
    let ends = cx.now.checked_add(SignedDuration::from_secs(grace)).map_or(now, object::time);
    let metadata = metadata_mut(&mut object);
    metadata.insert("deletionTimestamp".to_owned(), ends.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    if cx.resource().is("", "namespaces") {
        metadata.remove("deletionGracePeriodSeconds");
        object::map_at(&mut object, "status").insert("phase".to_owned(), "Terminating".into());
    }
    object
}

/// Seconds between the mark and the removal; 0: at once.
fn grace(cx: &Context, old: &Value, asked: Option<i64>) -> i64 {
    let default = cx.resource().stored.hooks.grace_seconds.map_or(0, |of| of(old));
    // The kind knows when nothing runs: then what was asked for does not matter.
    if default == 0 {
        return 0;
    }
    // Upstream: negative means the shortest grace there is.
    match asked.unwrap_or(default) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// The garbage collector works on what carries its finalizer.
fn hold_for_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    let value = (!finalizers.is_empty()).then(|| json!(finalizers));
    object::set_or_remove(metadata_mut(object), "finalizers", value);
}

/// Deletes what matches, one after the other, and answers with the list of it.
async fn collection(cx: &Context, options: &DeleteOptions) -> Result<Response<Body>, Status> {
    let listing = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(cx.resource(), cx.namespace(), None, &listing)?;
    let page = list::list(cx.api.store.as_ref(), cx.resource(), &filter, &listing).await?;
    for entry in &page.entries {
        let (namespace, name) = cx.resource().split_key(&entry.key);
        let target =
            Target { namespace: namespace.map(str::to_owned), name: Some(name.to_owned()), ..cx.target.clone() };
        match remove(&cx.with_target(target), name, options).await {
            // Somebody else was faster.
            Err(status) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    let presenter = Presenter::new(cx.resource(), cx.accepted, &cx.query, cx.now)?;
    Ok(super::respond(cx, StatusCode::OK, presenter.list(&page)?))
}
