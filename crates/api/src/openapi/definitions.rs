//! The schemas of both documents, descriptions included.

use std::collections::BTreeMap;

use k8s_openapi::api::{authentication, autoscaling, core, policy};
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::kinds::{Kind, SchemaSource, Subresource};
use crate::schema::{ListType, field_facts, type_is_atomic};

/// The two renderings differ in where references point and in what may stand beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V2,
    V3,
}

impl Form {
    pub(super) fn reference(self, name: &str) -> Value {
        let prefix = match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        };
        json!({ "$ref": format!("{prefix}{name}") })
    }
}

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The schema of what a subresource takes and answers, where it has one.
pub(super) fn body_schema(kind: &Kind, subresource: Subresource) -> Option<String> {
    Some(match subresource {
        Subresource::Scale => "io.k8s.api.autoscaling.v1.Scale".to_owned(),
        Subresource::Eviction => "io.k8s.api.policy.v1.Eviction".to_owned(),
        Subresource::Binding => "io.k8s.api.core.v1.Binding".to_owned(),
        Subresource::Token => "io.k8s.api.authentication.v1.TokenRequest".to_owned(),
        Subresource::Status
        | Subresource::EphemeralContainers
        | Subresource::Resize
        | Subresource::Finalize
        | Subresource::Approval => kind.schema_name.to_string(),
        Subresource::Log | Subresource::Exec | Subresource::Attach | Subresource::PortForward | Subresource::Proxy => {
            return None;
        }
    })
}

/// Everything that `kinds` and their subresources refer to, by name.
pub(super) fn definitions(kinds: &[&Kind], form: Form) -> BTreeMap<String, Value> {
    let mut generator = SchemaGenerator::new(SchemaSettings::openapi3());
    let _ = generator.subschema_for::<meta::v1::ObjectMeta>();
    let _ = generator.subschema_for::<meta::v1::ListMeta>();
    let _ = generator.subschema_for::<meta::v1::DeleteOptions>();
    let _ = generator.subschema_for::<meta::v1::Status>();
    for kind in kinds {
        if let SchemaSource::BuiltIn(lazy) = &kind.schema {
            let _ = lazy.generate(&mut generator);
        }
        for subresource in kind.subresources.iter() {
            let _ = match subresource {
                Subresource::Scale => generator.subschema_for::<autoscaling::v1::Scale>(),
                Subresource::Eviction => generator.subschema_for::<policy::v1::Eviction>(),
                Subresource::Token => generator.subschema_for::<authentication::v1::TokenRequest>(),
                Subresource::Binding => generator.subschema_for::<core::v1::Binding>(),
                _ => continue,
            };
        }
    }
    let mut out = BTreeMap::new();
    for (name, mut raw) in generator.take_definitions(false) {
        render(&name, &mut raw, form);
        out.insert(name, raw);
    }
    out.insert(format!("{META}Patch"), json!({ "description": "The body of a patch.", "type": "object" }));
    for kind in kinds {
        add_kind(&mut out, kind, form);
    }
    add_group_versions(&mut out, kinds);
    out
}

/// The kind's own schema if it is a CRD's, its list, and the group, version and kind of both.
fn add_kind(out: &mut BTreeMap<String, Value>, kind: &Kind, form: Form) {
    if let SchemaSource::Custom { raw, .. } = &kind.schema {
        out.insert(kind.schema_name.to_string(), custom(raw, form));
    }
    if let Some(schema) = out.get_mut(&*kind.schema_name) {
        schema["x-kubernetes-group-version-kind"] = json!([gvk(kind, &kind.kind)]);
    }
    if kind.verbs.allows("list") {
        let mut list = json!({
            "description": format!("{} is a list of {}.", kind.list_kind(), kind.kind),
            "type": "object", "required": ["items"],
            "properties": {
                "apiVersion": { "type": "string", "description": "The version of the schema of this object." },
                "kind": { "type": "string", "description": "The kind of this object." },
                "items": { "type": "array", "description": format!("The {}.", kind.plural),
                    "items": form.reference(&kind.schema_name) },
            },
            "x-kubernetes-group-version-kind": [gvk(kind, &kind.list_kind())],
        });
        list["properties"]["metadata"] = form.reference(&format!("{META}ListMeta"));
        out.insert(format!("{}List", kind.schema_name), list);
    }
}

/// A structural schema as it is, with the three fields that every object has.
fn custom(raw: &Value, form: Form) -> Value {
    let mut schema = raw.clone();
    if !schema.is_object() {
        schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({ "type": "string", "description": "The version of the schema of this object." });
    properties["kind"] = json!({ "type": "string", "description": "The kind of this object." });
    properties["metadata"] = form.reference(&format!("{META}ObjectMeta"));
    if form == Form::V2 {
        strip_for_v2(&mut schema);
    }
    schema
}

/// What swagger 2.0 does not have; clients of that document refuse to parse it.
fn strip_for_v2(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for word in ["nullable", "oneOf", "anyOf", "not"] {
                map.remove(word);
            }
            if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
                map.remove("type");
            }
            map.values_mut().for_each(strip_for_v2);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_for_v2),
        _ => {}
    }
}

pub(super) fn gvk(kind: &Kind, name: &str) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": name })
}

/// DeleteOptions and Status are spoken in every group and version.
fn add_group_versions(out: &mut BTreeMap<String, Value>, kinds: &[&Kind]) {
    let mut all: Vec<Value> = Vec::new();
    for kind in kinds {
        let entry = gvk(kind, "DeleteOptions");
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    if let Some(options) = out.get_mut(&format!("{META}DeleteOptions")) {
        options["x-kubernetes-group-version-kind"] = json!(all);
    }
    for (name, group, version, kind) in [
        (&*format!("{META}Status"), "", "v1", "Status"),
        ("io.k8s.api.autoscaling.v1.Scale", "autoscaling", "v1", "Scale"),
        ("io.k8s.api.policy.v1.Eviction", "policy", "v1", "Eviction"),
        ("io.k8s.api.authentication.v1.TokenRequest", "authentication.k8s.io", "v1", "TokenRequest"),
    ] {
        if let Some(schema) = out.get_mut(name) {
            schema["x-kubernetes-group-version-kind"] = json!([{ "group": group, "version": version, "kind": kind }]);
        }
    }
}

/// Brings a definition of k8s-openapi into upstream's form.
fn render(name: &str, raw: &mut Value, form: Form) {
    if let Some(special) = special(name, form) {
        let description = raw["description"].take();
        *raw = special;
        raw["description"] = description;
        return;
    }
    if type_is_atomic(name) {
        raw["x-kubernetes-map-type"] = json!("atomic");
    }
    // k8s-openapi requires the metadata of every kind; upstream requires it of this one alone.
    let keeps_metadata = name == "io.k8s.api.core.v1.Event";
    if let Some(Value::Array(required)) = raw.get_mut("required").filter(|_| !keeps_metadata) {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            raw.as_object_mut().map(|raw| raw.remove("required"));
        }
    }
    let Some(Value::Object(properties)) = raw.get_mut("properties") else { return };
    for (field, schema) in properties.iter_mut() {
        add_facts(name, field, schema);
        references(schema, form);
    }
}

/// Types that are written otherwise than their JSON schema would.
fn special(name: &str, form: Form) -> Option<Value> {
    let short = name.strip_prefix("io.k8s.")?;
    Some(match (short, form) {
        ("apimachinery.pkg.api.resource.Quantity", Form::V2) => json!({ "type": "string" }),
        ("apimachinery.pkg.api.resource.Quantity", Form::V3) => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })
        }
        ("apimachinery.pkg.util.intstr.IntOrString", Form::V2) => {
            json!({ "type": "string", "format": "int-or-string" })
        }
        ("apimachinery.pkg.util.intstr.IntOrString", Form::V3) => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        _ => match short.strip_prefix("apiextensions-apiserver.pkg.apis.apiextensions.v1.")? {
            "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => json!({}),
            _ => return None,
        },
    })
}

fn add_facts(type_name: &str, field: &str, schema: &mut Value) {
    let Some(facts) = field_facts(type_name, field) else { return };
    let mut set = |key: &str, value: Value| schema[key] = value;
    if let Some(list_type) = facts.list_type {
        let text = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        set("x-kubernetes-list-type", json!(text));
    }
    if !facts.map_keys.is_empty() {
        set("x-kubernetes-list-map-keys", json!(facts.map_keys));
    }
    if let Some(atomic) = facts.map_atomic {
        set("x-kubernetes-map-type", json!(if atomic { "atomic" } else { "granular" }));
    }
    if let Some(strategy) = facts.patch_strategy_text {
        set("x-kubernetes-patch-strategy", json!(strategy));
    }
    if let Some(key) = facts.patch_merge_key {
        set("x-kubernetes-patch-merge-key", json!(key));
    }
    if let Some(default) = facts.key_default {
        set("default", json!(default));
    }
}

/// References in the form of the document. OpenAPI 3.0 ignores what stands beside one, hence `allOf`.
fn references(schema: &mut Value, form: Form) {
    let Value::Object(map) = schema else { return };
    if let Some(reference) = map.remove("$ref") {
        let name = reference.as_str().and_then(|r| r.rsplit('/').next()).unwrap_or("");
        let reference = form.reference(name);
        if form == Form::V3 && !map.is_empty() {
            map.insert("allOf".to_owned(), json!([reference]));
        } else if let Value::Object(reference) = reference {
            map.extend(reference);
        }
        return;
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(word) {
            references(inner, form);
        }
    }
}

/// For tests and for [`super::paths`]: `{}` without allocation in the callers.
pub(super) fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
}
