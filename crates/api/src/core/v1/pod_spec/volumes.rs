//! Volumes and what they are made of.

use std::collections::BTreeSet;

use serde_json::Value;

use super::env;
use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{get, has, int, items, text};
use crate::quantity::Quantity;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The names of the volumes that are right, for the mounts to refer to.
pub(super) fn validate<'v>(volumes: &'v [Value], at: &Path<'_>, out: &mut FieldErrors) -> BTreeSet<&'v str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = at.index(i);
        let errors_before = out.len();
        source(volume, &at, out);
        let name = text(volume, "name");
        if name.is_empty() {
            out.push(FieldError::required(&at.child("name"), ""));
        } else {
            invalid_each(out, &at.child("name"), name, names::dns_label(name));
        }
        if seen.contains(name) {
            out.push(FieldError::duplicate(&at.child("name"), name));
        }
        if out.len() == errors_before {
            seen.insert(name);
        }
    }
    seen
}

/// Exactly one source, by the name of its member.
fn source(volume: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let mut found = false;
    for (key, source) in volume.as_object().into_iter().flatten() {
        if key == "name" || source.is_null() {
            continue;
        }
        let at = at.child(key);
        if found {
            out.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        let required = |member: &str, out: &mut FieldErrors| {
            if text(source, member).is_empty() {
                out.push(FieldError::required(&at.child(member), ""));
            }
        };
        match key.as_str() {
            "emptyDir" => empty_dir(source, &at, out),
            "hostPath" => host_path(source, &at, out),
            "secret" => {
                required("secretName", out);
                files(source, &at, out);
            }
            "configMap" => {
                required("name", out);
                files(source, &at, out);
            }
            "persistentVolumeClaim" => required("claimName", out),
            "downwardAPI" => {
                mode(source, "defaultMode", &at, out);
                downward_items(source, &at, out);
            }
            "projected" => projected(source, &at, out),
            "nfs" => {
                required("server", out);
                required("path", out);
                if !text(source, "path").is_empty() && !text(source, "path").starts_with('/') {
                    let message = "must be an absolute path";
                    out.push(FieldError::invalid(&at.child("path"), text(source, "path"), message));
                }
            }
            "csi" => required("driver", out),
            "image" => required("reference", out),
            "ephemeral" if !has(source, "volumeClaimTemplate") => {
                out.push(FieldError::required(&at.child("volumeClaimTemplate"), ""));
            }
            _ => {}
        }
    }
    if !found {
        out.push(FieldError::required(at, "must specify a volume type"));
    }
}

fn empty_dir(source: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let limit = get(source, "sizeLimit");
    if !limit.is_null() && Quantity::from_json(limit).is_ok_and(|q| q.is_negative()) {
        let message = "SizeLimit field must be a valid resource quantity";
        out.push(FieldError::forbidden(&at.child("sizeLimit"), message));
    }
}

fn host_path(source: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let path = text(source, "path");
    if path.is_empty() {
        return out.push(FieldError::required(&at.child("path"), ""));
    }
    no_backsteps(path, &at.child("path"), out);
    let kind = text(source, "type");
    if !HOST_PATH_TYPES.contains(&kind) {
        out.push(FieldError::not_supported(&at.child("type"), kind, &HOST_PATH_TYPES));
    }
}

fn mode(v: &Value, key: &str, at: &Path<'_>, out: &mut FieldErrors) {
    if let Some(mode) = int(v, key).filter(|m| !(0..=0o777).contains(m)) {
        out.push(FieldError::invalid(&at.child(key), mode, MODE));
    }
}

/// `defaultMode` and `items` of a secret or config map.
fn files(source: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    mode(source, "defaultMode", at, out);
    for (i, item) in items(source, "items").iter().enumerate() {
        let list = at.child("items");
        let at = list.index(i);
        for key in ["key", "path"] {
            if text(item, key).is_empty() {
                out.push(FieldError::required(&at.child(key), ""));
            }
        }
        local_path(text(item, "path"), &at.child("path"), out);
        mode(item, "mode", &at, out);
    }
}

fn downward_items(source: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    for item in items(source, "items") {
        let path = text(item, "path");
        if path.is_empty() {
            out.push(FieldError::required(&at.child("path"), ""));
        }
        local_path(path, &at.child("path"), out);
        env::downward_item(item, at, out);
        mode(item, "mode", at, out);
    }
}

fn projected(source: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    mode(source, "defaultMode", at, out);
    let mut paths = BTreeSet::new();
    for (i, projection) in items(source, "sources").iter().enumerate() {
        let list = at.child("sources");
        let here = list.index(i);
        let kinds = projection.as_object().map_or(0, |o| o.values().filter(|v| !v.is_null()).count());
        for key in ["secret", "configMap"] {
            let from = get(projection, key);
            if from.is_null() {
                continue;
            }
            if text(from, "name").is_empty() {
                out.push(FieldError::required(&here.child(key).child("name"), ""));
            }
            files(from, &here.child(key), out);
        }
        downward_items(get(projection, "downwardAPI"), &here.child("downwardAPI"), out);
        if has(projection, "serviceAccountToken") {
            token(get(projection, "serviceAccountToken"), at, &here.child("serviceAccountToken"), out);
        }
        for key in ["secret", "configMap", "downwardAPI"] {
            for item in items(get(projection, key), "items") {
                let path = text(item, "path");
                if !path.is_empty() && !paths.insert(path) {
                    out.push(FieldError::invalid(at, path, "conflicting duplicate paths"));
                }
            }
        }
        if kinds > 1 {
            out.push(FieldError::forbidden(&here, "may not specify more than 1 volume type per source"));
        }
    }
}

fn token(token: &Value, at_volume: &Path<'_>, at: &Path<'_>, out: &mut FieldErrors) {
    match int(token, "expirationSeconds") {
        None => out.push(FieldError::required(&at.child("expirationSeconds"), "")),
        Some(seconds) if seconds < 600 => {
            let message = "may not specify a duration less than 10 minutes";
            out.push(FieldError::invalid(&at.child("expirationSeconds"), seconds, message));
        }
        Some(seconds) if seconds > 1 << 32 => {
            let message = "may not specify a duration larger than 2^32 seconds";
            out.push(FieldError::invalid(&at.child("expirationSeconds"), seconds, message));
        }
        Some(_) => {}
    }
    let path = text(token, "path");
    if path.is_empty() {
        out.push(FieldError::required(&at_volume.child("path"), ""));
    }
    local_path(path, &at_volume.child("path"), out);
}

fn no_backsteps(path: &str, at: &Path<'_>, out: &mut FieldErrors) {
    if path.split('/').any(|part| part == "..") {
        out.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

/// Relative, and not above where it starts.
pub(super) fn descending_path(path: &str, at: &Path<'_>, out: &mut FieldErrors) {
    if path.starts_with('/') {
        out.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    no_backsteps(path, at, out);
}

/// As [`descending_path`], and not a name that the node's atomic writer uses.
fn local_path(path: &str, at: &Path<'_>, out: &mut FieldErrors) {
    descending_path(path, at, out);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        out.push(FieldError::invalid(at, path, "must not start with '..'"));
    }
}
