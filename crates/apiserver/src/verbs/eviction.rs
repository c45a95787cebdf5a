//! `pods/NAME/eviction`: a deletion that disruption budgets may hold up.

use std::ops::Bound;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_api::{Status, selector::LabelSelector};
use skiff_store::ListRequest;

use super::delete::{self, DeleteOptions};
use crate::{
    context::Context,
    encode,
    http::{body::Sent, errors, route::Target},
    object::{self, map_at},
    pipeline::{self, Part, Write},
    registry,
};

pub(super) async fn evict(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let eviction = sent.value()?;
    let name = cx.target.name();
    let named = object::name(&eviction);
    if !named.is_empty() && named != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = DeleteOptions::of_eviction(&eviction)?;
    let pods = cx.with_target(Target { subresource: None, ..cx.target.clone() });
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    let pod = registry::parse(&entry.value)?;
    // What does not run disrupts nobody.
    let idle = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || object::is_terminating(&pod);
    if !idle {
        spend_budget(cx, &pod).await?;
    }
    delete::remove(&pods, name, &options).await?;
    let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    let bytes = cx.accepted.format.transcode(encode::json(&success))?;
    Ok(super::respond(cx, StatusCode::CREATED, bytes))
}

/// Takes one disruption from the budget that the pod is under.
async fn spend_budget(cx: &Context, pod: &Value) -> Result<(), Status> {
    let Some(resource) = cx.api.registry.find("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let request = ListRequest { prefix: resource.prefix(cx.namespace()), start: Bound::Unbounded, limit: 0, at: None };
    let listing = cx.api.store.list(request).await.map_err(errors::of_store)?;
    let mut budgets = Vec::new();
    for entry in &listing.entries {
        let budget = registry::parse(&entry.value)?;
        if LabelSelector::from_object(&budget["spec"]["selector"]).matches_object(pod) {
            budgets.push(budget);
        }
    }
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "InternalError", message));
        }
    };
    let name = object::name(budget).to_owned();
    let target = Target { resource, name: Some(name.clone()), subresource: None, ..cx.target.clone() };
    let cx = cx.with_target(target);
    let change = |old: Option<&Value>| spend(cx.kind(), old, object::name(pod), &object::time(cx.now));
    let write =
        Write { part: Part::Whole, name: &name, may_create: false, may_update: true, applies: false, change: &change };
    pipeline::write(&cx, &write).await.map(drop)
}

/// The budget after one more disruption.
fn spend(kind: &skiff_api::Kind, budget: Option<&Value>, pod: &str, now: &str) -> Result<Value, Status> {
    let mut budget = budget.cloned().ok_or_else(|| Status::not_found(kind, ""))?;
    let name = object::name(&budget).to_owned();
    let refused = |message: String| {
        let message_short = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut status = Status::too_many_requests(message_short, 10);
        status.details["causes"] = json!([{ "reason": "DisruptionBudget", "message": message }]);
        status
    };
    let seen = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if seen < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Err(refused(format!("The disruption budget {name} is still being processed by the server.")));
    }
    let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    if allowed <= 0 {
        let needs = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
        let has = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
        return Err(refused(format!(
            "The disruption budget {name} needs {needs} healthy pods and has {has} currently"
        )));
    }
    let status = map_at(&mut budget, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    status.entry("disruptedPods").or_insert_with(|| json!({}))[pod] = now.into();
    Ok(budget)
}
