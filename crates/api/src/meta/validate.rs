//! What metadata must look like, on create and on update. Run by the pipeline before a kind's own validation.

use serde_json::Value;

use super::*;

/// What is wrong with a name; empty: nothing.
pub type NameRule = fn(&str) -> Vec<String>;

/// The syntax of `metadata.name` for a kind.
pub fn name_rule(kind: &Kind) -> NameRule {
    match (&*kind.group, &*kind.plural) {
        ("", "namespaces" | "services") => names::dns_label,
        ("apps", "statefulsets") => names::dns_label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        ("certificates.k8s.io", "clustertrustbundles") => trust_bundle,
        ("networking.k8s.io", "ipaddresses") => ip_address,
        _ => names::dns_subdomain,
    }
}

/// `SIGNER:NAME` or `NAME`; which of them is right depends on the spec, which the kind's hooks know.
fn trust_bundle(name: &str) -> Vec<String> {
    name.rsplit(':').next().map_or_else(Vec::new, names::dns_subdomain)
}

fn ip_address(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(ip) => vec![format!("must be in canonical form (\"{ip}\")")],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// On create: the object as it would be stored.
pub fn validate(object: &Value, kind: &Kind) -> FieldErrors {
    let mut out = FieldErrors::new();
    let rule = name_rule(kind);
    let prefix = generate_name(object);
    if !prefix.is_empty() {
        // A prefix may end in a dash: the suffix follows.
        let masked = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |p| format!("{p}a"));
        append(&mut out, "metadata.generateName", prefix, rule(&masked));
    }
    match name(object) {
        "" => out.push(FieldError::required("metadata.name", "name or generateName is required")),
        name => append(&mut out, "metadata.name", name, rule(name)),
    }
    match (kind.namespaced, namespace(object)) {
        (true, "") => out.push(FieldError::required("metadata.namespace", "")),
        (true, namespace) => append(&mut out, "metadata.namespace", namespace, names::dns_label(namespace)),
        (false, "") => {}
        (false, _) => out.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    validate_common(object, &mut out);
    out
}

/// On update and patch: both as they would be stored, with what the client left out carried over.
pub fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = FieldErrors::new();
    if is_deleting(old) {
        let mut extra: Vec<&str> = finalizers(new).filter(|f| !finalizers(old).any(|o| o == *f)).collect();
        if !extra.is_empty() {
            extra.sort_unstable();
            let list = extra.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            out.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{list}}}"
                ),
            ));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if get(new, field) != get(old, field) {
            out.push(immutable(field, get(new, field)));
        }
    }
    validate_common(new, &mut out);
    out
}

fn validate_common(object: &Value, out: &mut FieldErrors) {
    if generation(object) < 0 {
        out.push(FieldError::invalid("metadata.generation", generation(object), "must be greater than or equal to 0"));
    }
    for (key, value) in labels(object).into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        append(out, "metadata.labels", key, names::qualified_name(key));
        append(out, "metadata.labels", value, names::label_value(value));
    }
    let mut size = 0;
    for (key, value) in annotations(object).into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        let messages = if key.bytes().any(|b| b.is_ascii_uppercase()) {
            names::qualified_name(&key.to_ascii_lowercase())
        } else {
            names::qualified_name(key)
        };
        append(out, "metadata.annotations", key, messages);
    }
    if size > ANNOTATIONS_BYTES_MAX {
        out.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    validate_owners(object, out);
    validate_finalizers(object, out);
    validate_managed_fields(object, out);
}

fn validate_owners(object: &Value, out: &mut FieldErrors) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for (at, owner) in owner_references(object).iter().enumerate() {
        let field = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or("");
        for name in ["apiVersion", "kind", "name", "uid"] {
            if field(name).is_empty() {
                out.push(FieldError::required(format!("{PATH}[{at}].{name}"), "must not be empty"));
            }
        }
        let version = field("apiVersion");
        if !version.is_empty() && (version.matches('/').count() > 1 || version.ends_with('/')) {
            let path = format!("{PATH}[{at}].apiVersion");
            out.push(FieldError::invalid(path, version, "must be <group>/<version> or <version>"));
        }
        if (version, field("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            out.push(FieldError::invalid(format!("{PATH}[{at}]"), owner.clone(), why));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", field("kind"), field("name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => out.push(FieldError::invalid(
                    PATH,
                    get(object, "ownerReferences").clone(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {this}"
                    ),
                )),
            }
        }
    }
}

fn validate_finalizers(object: &Value, out: &mut FieldErrors) {
    const PATH: &str = "metadata.finalizers";
    for finalizer in finalizers(object) {
        append(out, PATH, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers(object).any(|f| f == name);
    if has(FINALIZER_ORPHAN) && has(FINALIZER_FOREGROUND) {
        out.push(FieldError::invalid(
            PATH,
            get(object, "finalizers").clone(),
            format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set"),
        ));
    }
}

fn validate_managed_fields(object: &Value, out: &mut FieldErrors) {
    for (at, entry) in get(object, "managedFields").as_array().into_iter().flatten().enumerate() {
        let path = |field: &str| format!("metadata.managedFields[{at}].{field}");
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("");
        match field("operation") {
            "Apply" | "Update" => {}
            "" => out.push(FieldError::required(path("operation"), "must not be empty")),
            other => out.push(FieldError::not_supported(path("operation"), other, &["Apply", "Update"])),
        }
        if !matches!(field("fieldsType"), "" | "FieldsV1") {
            out.push(FieldError::invalid(path("fieldsType"), field("fieldsType"), "must be `FieldsV1`"));
        }
        if field("manager").len() > 128 {
            out.push(FieldError::too_long(path("manager"), 128));
        }
    }
}
