//! Probes and lifecycle handlers.

use serde_json::Value;

use super::containers::port_number;
use super::validate::one_of;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, has, int, items, text};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// `kind` is the name of the container's field.
pub(super) fn probe(probe: &Value, kind: &str, grace_seconds: Option<i64>, at: &Path<'_>, out: &mut FieldErrors) {
    if probe.is_null() {
        return;
    }
    handler(probe, grace_seconds, at, out);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(n) = int(probe, key).filter(|n| *n < 0) {
            out.push(FieldError::invalid(&at.child(key), n, NOT_NEGATIVE));
        }
    }
    let seconds = int(probe, "terminationGracePeriodSeconds");
    let at_seconds = at.child("terminationGracePeriodSeconds");
    if let Some(n) = seconds.filter(|n| *n <= 0) {
        out.push(FieldError::invalid(&at_seconds, n, "must be greater than 0"));
    }
    if kind == "readinessProbe" {
        if let Some(n) = seconds {
            out.push(FieldError::invalid(&at_seconds, n, "must not be set for readinessProbes"));
        }
    } else if let Some(n) = int(probe, "successThreshold").filter(|n| *n != 1) {
        out.push(FieldError::invalid(&at.child("successThreshold"), n, "must be 1"));
    }
}

/// Exactly one of the handler types.
pub(super) fn handler(handler: &Value, grace_seconds: Option<i64>, at: &Path<'_>, out: &mut FieldErrors) {
    let mut found = false;
    for key in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = get(handler, key);
        if action.is_null() {
            continue;
        }
        let at = at.child(key);
        if found {
            out.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match key {
            "exec" if items(action, "command").is_empty() => out.push(FieldError::required(&at.child("command"), "")),
            "exec" => {}
            "httpGet" => http_get(action, &at, out),
            "sleep" => sleep(action, grace_seconds, &at, out),
            _ => port(get(action, "port"), &at.child("port"), out),
        }
    }
    if !found {
        out.push(FieldError::required(at, "must specify a handler type"));
    }
}

fn http_get(action: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if text(action, "path").is_empty() {
        out.push(FieldError::required(&at.child("path"), ""));
    }
    port(get(action, "port"), &at.child("port"), out);
    if has(action, "scheme") {
        one_of(action, "scheme", &["HTTP", "HTTPS"], at, out);
    }
    for header in items(action, "httpHeaders") {
        let name = text(header, "name");
        invalid_each(out, &at.child("httpHeaders"), name, names::http_header_name(name));
    }
}

fn sleep(action: &Value, grace_seconds: Option<i64>, at: &Path<'_>, out: &mut FieldErrors) {
    let seconds = int(action, "seconds").unwrap_or(0);
    if let Some(grace) = grace_seconds.filter(|g| !(0..=*g).contains(&seconds)) {
        let message = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        out.push(FieldError::invalid(at, seconds, message));
    }
}

/// A number or a name.
pub(crate) fn port(port: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    match port {
        Value::String(name) => invalid_each(out, at, name, names::port_name(name)),
        other => port_number(other.as_i64().unwrap_or(0), at, out),
    }
}
