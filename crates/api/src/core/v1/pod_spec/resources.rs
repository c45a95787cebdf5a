//! Requests, limits and other lists of amounts.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{Object, get};
use crate::quantity::Quantity;

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}
/// Scarce things that cannot be shared: `example.com/gpu`.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io"))
}
/// Only these may be requested below their limit.
fn may_be_overcommitted(name: &str) -> bool {
    !is_huge_page(name) && !is_extended(name)
}

fn resource_name(name: &str, at: &Path<'_>, out: &mut FieldErrors) {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        return invalid_each(out, at, name, messages);
    }
    if name.contains('/') || is_huge_page(name) || matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return;
    }
    if !matches!(name, "storage" | "pods" | "services" | "configmaps" | "secrets") {
        out.push(FieldError::invalid(at, name, "must be a standard resource type or fully qualified"));
    }
    out.push(FieldError::invalid(at, name, "must be a standard resource for containers"));
}

/// An amount that is not negative, and whole where the resource cannot be divided.
fn amount(name: &str, value: &Value, at: &Path<'_>, out: &mut FieldErrors) -> Option<Quantity> {
    match Quantity::from_json(value) {
        Err(e) => {
            out.push(FieldError::invalid(at, value.clone(), e.to_string()));
            None
        }
        Ok(q) => {
            if q.is_negative() {
                out.push(FieldError::invalid(at, q.to_string(), NOT_NEGATIVE));
            }
            if is_extended(name) && !q.is_whole() {
                out.push(FieldError::invalid(at, q.to_string(), "must be an integer"));
            }
            Some(q)
        }
    }
}

/// Any list of amounts by resource name.
pub fn validate_resource_list(list: &Object, at: &Path<'_>, out: &mut FieldErrors) {
    for (name, value) in list {
        amount(name, value, &at.key(name), out);
    }
}

/// A container's `resources`.
pub(super) fn requirements(resources: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let limits = get(resources, "limits");
    let (at_limits, at_requests) = (at.child("limits"), at.child("requests"));
    for (name, value) in limits.as_object().into_iter().flatten() {
        resource_name(name, &at_limits.key(name), out);
        amount(name, value, &at_limits.key(name), out);
    }
    for (name, value) in get(resources, "requests").as_object().into_iter().flatten() {
        let here = at_requests.key(name);
        resource_name(name, &here, out);
        let Some(request) = amount(name, value, &here, out) else { continue };
        match limits.get(name).map(Quantity::from_json) {
            Some(Ok(limit)) if request != limit && !may_be_overcommitted(name) => {
                let message = format!("must be equal to {name} limit of {limit}");
                out.push(FieldError::invalid(&at_requests, request.to_string(), message));
            }
            Some(Ok(limit)) if request > limit => {
                let message = format!("must be less than or equal to {name} limit of {limit}");
                out.push(FieldError::invalid(&at_requests, request.to_string(), message));
            }
            None if !may_be_overcommitted(name) => {
                out.push(FieldError::required(&at_limits, "Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
    }
}
