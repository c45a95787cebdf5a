//! Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::config_map::{SIZE_MAX, immutable};
use crate::Hooks;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{annotation, default as default_to, entries, get, has, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::new("Type", "string").about("What the keys are meant for."),
        Column::new("Data", "string").about("How many keys it has."),
        Column::AGE,
    ],
    row,
    fields: |secret| vec![("type", text(secret, "type").to_owned())],
    field_labels: &["type"],
    ..Hooks::PLAIN
};

/// `stringData` is for writing only: it ends up in `data`.
fn default(secret: &mut Value) {
    let plain = secret.as_object_mut().and_then(|s| s.remove("stringData"));
    if let Some(Value::Object(plain)) = plain
        && let Some(data) = object(secret, "data")
    {
        for (key, value) in plain {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
    if let Some(map) = secret.as_object_mut() {
        default_to(map, "type", "Opaque");
    }
}

pub(super) fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

fn validate(secret: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let at = Path::new("data");
    let data = get(secret, "data");
    let mut size = 0;
    for (key, value) in entries(secret, "data") {
        invalid_each(&mut out, &at.key(key), key, names::config_key(key));
        size += decoded_length(value.as_str().unwrap_or_default());
    }
    if size > SIZE_MAX {
        out.push(FieldError::too_long(&at, SIZE_MAX));
    }
    let require = |key: &str, out: &mut FieldErrors| {
        if data.get(key).is_none() {
            out.push(FieldError::required(&at.key(key), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if annotation(secret, ACCOUNT).unwrap_or_default().is_empty() {
                let metadata = Path::new("metadata");
                out.push(FieldError::required(&metadata.child("annotations").key(ACCOUNT), ""));
            }
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", &at, &mut out),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", &at, &mut out),
        "kubernetes.io/basic-auth" if !has(data, "username") && !has(data, "password") => {
            require("username", &mut out);
            require("password", &mut out);
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            out.push(FieldError::required(&at.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            require("tls.crt", &mut out);
            require("tls.key", &mut out);
        }
        _ => {}
    }
    out
}

fn docker_config(data: &Value, key: &str, at: &Path<'_>, out: &mut FieldErrors) {
    let Some(value) = data.get(key).and_then(Value::as_str) else {
        return out.push(FieldError::required(&at.key(key), ""));
    };
    let parsed = STANDARD
        .decode(value)
        .map_err(|e| e.to_string())
        .and_then(|bytes| serde_json::from_slice::<crate::object::Object>(&bytes).map_err(|e| e.to_string()));
    if let Err(why) = parsed {
        out.push(FieldError::invalid(&at.key(key), "<secret contents redacted>", why));
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    if text(new, "type") != text(old, "type") {
        out.push(FieldError::invalid("type", text(new, "type"), "field is immutable"));
    }
    out.extend(immutable(new, old, &["data"]));
    out
}

fn row(secret: &Value, now: Timestamp) -> Vec<Value> {
    let keys = entries(secret, "data").count();
    vec![name(secret).into(), text(secret, "type").into(), keys.into(), table::age(secret, now)]
}
