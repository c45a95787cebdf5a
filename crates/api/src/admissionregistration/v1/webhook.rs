//! What mutating and validating webhook configurations share.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Hooks;
use crate::core::v1::pod_spec::{one_of, one_of_if_set};
use crate::field::{FieldError, FieldErrors, Path};
use crate::names;
use crate::object::{child, default as default_to, each, existing, get, has, int, items, name, text};
use crate::selector::validate_selector;
use crate::table::{self, Column};

pub(super) const HOOKS: Hooks = Hooks {
    default,
    validate,
    columns: &[Column::NAME, Column::new("Webhooks", "integer").about("How many it has."), Column::AGE],
    row,
    generation_of: Some(|c| get(c, "webhooks").clone()),
    ..Hooks::PLAIN
};

fn default(configuration: &mut Value) {
    let mutating = text(configuration, "kind") == "MutatingWebhookConfiguration";
    let Some(configuration) = configuration.as_object_mut() else { return };
    for webhook in each(configuration, "webhooks") {
        default_to(webhook, "failurePolicy", "Fail");
        default_to(webhook, "matchPolicy", "Equivalent");
        default_to(webhook, "timeoutSeconds", 10);
        if mutating {
            default_to(webhook, "reinvocationPolicy", "Never");
        }
        for key in ["namespaceSelector", "objectSelector"] {
            let _ = child(webhook, key);
        }
        each(webhook, "rules").for_each(|rule| default_to(rule, "scope", "*"));
        if let Some(service) = existing(webhook, "clientConfig").and_then(|c| existing(c, "service")) {
            default_to(service, "port", 443);
        }
    }
}

fn validate(configuration: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let list = Path::new("webhooks");
    let mut seen = BTreeSet::new();
    for (i, webhook) in items(configuration, "webhooks").iter().enumerate() {
        let at = list.index(i);
        let webhook_name = text(webhook, "name");
        let messages = names::dns_subdomain(webhook_name);
        if webhook_name.is_empty() {
            out.push(FieldError::required(&at.child("name"), ""));
        } else if !messages.is_empty() {
            out.push(FieldError::invalid(&at.child("name"), webhook_name, messages.join(",")));
        } else if webhook_name.split('.').count() < 3 {
            let message = "should be a domain with at least three segments separated by dots";
            out.push(FieldError::invalid(&at.child("name"), webhook_name, message));
        }
        if !seen.insert(webhook_name) {
            out.push(FieldError::duplicate(&at.child("name"), webhook_name));
        }
        validate_one(webhook, &at, &mut out);
    }
    out
}

fn validate_one(webhook: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let versions = items(webhook, "admissionReviewVersions");
    let at_versions = at.child("admissionReviewVersions");
    if versions.is_empty() {
        out.push(FieldError::required(&at_versions, "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        let message = "must include at least one of v1, v1beta1";
        out.push(FieldError::invalid(&at_versions, versions.to_vec(), message));
    }
    one_of(webhook, "sideEffects", &["None", "NoneOnDryRun"], at, out);
    one_of_if_set(webhook, "failurePolicy", &["Fail", "Ignore"], at, out);
    one_of_if_set(webhook, "matchPolicy", &["Equivalent", "Exact"], at, out);
    if let Some(seconds) = int(webhook, "timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
        let message = "the timeout value must be between 1 and 30 seconds";
        out.push(FieldError::invalid(&at.child("timeoutSeconds"), seconds, message));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        validate_selector(get(webhook, key), &at.child(key), out);
    }
    let client = get(webhook, "clientConfig");
    match (has(client, "url"), has(client, "service")) {
        (true, false) | (false, true) => {}
        _ => out.push(FieldError::required(&at.child("clientConfig"), "exactly one of url or service is required")),
    }
    for (i, rule) in items(webhook, "rules").iter().enumerate() {
        let list = at.child("rules");
        let at = list.index(i);
        for key in ["operations", "apiGroups", "apiVersions", "resources"] {
            if items(rule, key).is_empty() {
                out.push(FieldError::required(&at.child(key), ""));
            }
        }
    }
}

fn row(configuration: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(configuration).into(), json!(items(configuration, "webhooks").len()), table::age(configuration, now)]
}
