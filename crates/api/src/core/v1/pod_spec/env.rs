//! Environment variables and where they come from.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, has, text};

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];
const ONE_SOURCE: &str = "may not have more than one field specified at a time";

pub(super) fn variables(variables: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    for (i, variable) in variables.iter().enumerate() {
        let at = at.index(i);
        match text(variable, "name") {
            "" => out.push(FieldError::required(&at.child("name"), "")),
            name => invalid_each(out, &at.child("name"), name, names::env_name(name)),
        }
        if has(variable, "valueFrom") {
            value_from(variable, &at.child("valueFrom"), out);
        }
    }
}

fn value_from(variable: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let from = get(variable, "valueFrom");
    if has(from, "fieldRef") {
        field_ref(get(from, "fieldRef"), &FIELDS, &at.child("fieldRef"), out);
    }
    if has(from, "resourceFieldRef") {
        resource_ref(get(from, "resourceFieldRef"), false, &at.child("resourceFieldRef"), out);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if has(from, key) {
            key_ref(get(from, key), &at.child(key), out);
        }
    }
    let sources = SOURCES.iter().filter(|s| has(from, s)).count();
    if sources == 0 {
        out.push(FieldError::invalid(
            at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if !text(variable, "value").is_empty() {
        out.push(FieldError::invalid(at, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        out.push(FieldError::invalid(at, "", ONE_SOURCE));
    }
}

fn key_ref(reference: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let name = text(reference, "name");
    invalid_each(out, &at.child("name"), name, names::dns_subdomain(name));
    match text(reference, "key") {
        "" => out.push(FieldError::required(&at.child("key"), "")),
        key => invalid_each(out, &at.child("key"), key, names::config_key(key)),
    }
}

fn field_ref(reference: &Value, supported: &[&str], at: &Path<'_>, out: &mut FieldErrors) {
    let path = text(reference, "fieldPath");
    if text(reference, "apiVersion").is_empty() {
        return out.push(FieldError::required(&at.child("apiVersion"), ""));
    }
    if path.is_empty() {
        return out.push(FieldError::required(&at.child("fieldPath"), ""));
    }
    // `metadata.labels['key']`.
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        match map {
            "metadata.annotations" => invalid_each(out, at, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => invalid_each(out, at, key, names::qualified_name(key)),
            other => out.push(FieldError::invalid(at, other, "does not support subscript")),
        }
        return;
    }
    const KNOWN: [&str; 4] = ["metadata.annotations", "metadata.labels", "spec.restartPolicy", "status.phase"];
    if !FIELDS.contains(&path) && !KNOWN.contains(&path) {
        let message = format!("error converting fieldPath: field label not supported: {path}");
        out.push(FieldError::invalid(&at.child("fieldPath"), path, message));
    } else if !supported.contains(&path) {
        out.push(FieldError::not_supported(&at.child("fieldPath"), path, supported));
    }
}

fn resource_ref(reference: &Value, in_volume: bool, at: &Path<'_>, out: &mut FieldErrors) {
    let resource = text(reference, "resource");
    if in_volume && text(reference, "containerName").is_empty() {
        out.push(FieldError::required(&at.child("containerName"), ""));
    } else if resource.is_empty() {
        out.push(FieldError::required(&at.child("resource"), ""));
    } else if !RESOURCES.contains(&resource)
        && !["requests.hugepages-", "limits.hugepages-"].iter().any(|p| resource.starts_with(p))
    {
        out.push(FieldError::not_supported(&at.child("resource"), resource, &RESOURCES));
    }
}

/// An item of a downwardAPI volume, without its path.
pub(super) fn downward_item(item: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
        (true, true) => {
            out.push(FieldError::invalid(
                at,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ));
        }
        (true, false) => field_ref(get(item, "fieldRef"), &VOLUME_FIELDS, &at.child("fieldRef"), out),
        (false, true) => resource_ref(get(item, "resourceFieldRef"), true, &at.child("resourceFieldRef"), out),
        (false, false) => {
            out.push(FieldError::required(at, "one of fieldRef and resourceFieldRef is required"));
        }
    }
}

pub(super) fn sources(sources: &[Value], at: &Path<'_>, out: &mut FieldErrors) {
    for (i, source) in sources.iter().enumerate() {
        let here = at.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            invalid_each(out, &here.child("prefix"), prefix, names::env_name(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            if !has(source, key) {
                continue;
            }
            count += 1;
            let here = here.child(key);
            match text(get(source, key), "name") {
                "" => out.push(FieldError::required(&here.child("name"), "")),
                name => invalid_each(out, &here.child("name"), name, names::dns_subdomain(name)),
            }
        }
        match count {
            0 => out.push(FieldError::invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => out.push(FieldError::invalid(at, "", ONE_SOURCE)),
        }
    }
}
