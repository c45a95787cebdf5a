//! JSON schema → [`Schema`], for k8s-openapi's definitions and for CRDs' structural schemas alike.

use serde_json::{Map, Value};

use super::facts::{FieldFacts, field_facts, type_is_atomic};
use super::{Definition, ListType, Merge, PatchStrategy, Schema, Shape};

/// Deeper schemas are refused: a CRD comes from a client.
const DEPTH_MAX: usize = 64;

/// Why a raw schema is not one that this model can hold.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("schema at {path} is deeper than {DEPTH_MAX} levels")]
    TooDeep { path: String },
    #[error("schema at {path} is not an object")]
    NotAnObject { path: String },
    #[error("schema at {path} has the unknown type {found:?}")]
    UnknownType { path: String, found: String },
    #[error("schema at {path} refers to {reference:?}: structural schemas have no references")]
    Reference { path: String, reference: String },
}

/// Finds what a `$ref` names. CRDs have none.
pub(super) type Resolve<'a> = &'a mut dyn FnMut(&str) -> Option<&'static Definition>;

impl Schema {
    /// From `spec.versions[].schema.openAPIV3Schema`; `apiVersion`, `kind` and `metadata` are added as the API
    /// server does.
    pub fn from_crd(raw: &Value) -> Result<Schema, SchemaError> {
        let mut schema = build(raw, "", 0, &mut |_| None)?;
        if matches!(schema.shape, Shape::Any) {
            schema.shape = Shape::Object(Box::default());
        }
        if let Shape::Object(fields) = &mut schema.shape {
            let mut all: Vec<_> = std::mem::take(fields).into_vec();
            all.retain(|(name, _)| !matches!(&**name, "apiVersion" | "kind" | "metadata"));
            all.push(("apiVersion".into(), Schema::new(Shape::String)));
            all.push(("kind".into(), Schema::new(Shape::String)));
            all.push(("metadata".into(), super::registry::object_meta()));
            *fields = sorted(all);
        }
        Ok(schema)
    }
}

/// The definition called `name`, with the facts about it.
pub(super) fn definition(name: &str, raw: &Value, resolve: Resolve<'_>) -> Result<Schema, SchemaError> {
    if let Some(shape) = special(name) {
        let preserve_unknown = matches!(shape, Shape::Any);
        return Ok(Schema { shape, preserve_unknown, ..Schema::default() });
    }
    let mut schema = build(raw, name, 0, resolve)?;
    if type_is_atomic(name) {
        schema.merge.atomic = Some(true);
    }
    if let Shape::Object(fields) = &mut schema.shape {
        for (field, schema) in fields.iter_mut() {
            if let Some(facts) = field_facts(name, field) {
                schema.merge = merge_of_facts(&facts);
            }
        }
    }
    Ok(schema)
}

/// Types whose JSON is not what their schema says.
fn special(name: &str) -> Option<Shape> {
    Some(match name.strip_prefix("io.k8s.")? {
        "apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
        "apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
        "apimachinery.pkg.apis.meta.v1.FieldsV1"
        | "apimachinery.pkg.runtime.RawExtension"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => Shape::Any,
        _ => return None,
    })
}

fn merge_of_facts(facts: &FieldFacts) -> Merge {
    Merge {
        list_type: facts.list_type.unwrap_or_default(),
        map_keys: facts.map_keys.iter().map(|&k| k.into()).collect(),
        atomic: facts.map_atomic,
        patch_strategy: facts.patch_strategy,
        patch_merge_key: facts.patch_merge_key.map(Into::into),
        key_default: facts.key_default.map(Into::into),
    }
}

fn build(raw: &Value, path: &str, depth: usize, resolve: Resolve<'_>) -> Result<Schema, SchemaError> {
    if depth > DEPTH_MAX {
        return Err(SchemaError::TooDeep { path: path.to_owned() });
    }
    let Value::Object(raw) = raw else {
        // `true` is "anything" in JSON schema.
        return if raw.as_bool() == Some(true) {
            Ok(Schema::any())
        } else {
            Err(SchemaError::NotAnObject { path: path.to_owned() })
        };
    };
    let flag = |name: &str| raw.get(name).and_then(Value::as_bool).unwrap_or(false);
    let shape = shape(raw, path, depth, resolve)?;
    let preserve_unknown = flag("x-kubernetes-preserve-unknown-fields");
    Ok(Schema {
        shape,
        merge: merge_of_raw(raw),
        nullable: flag("nullable"),
        preserve_unknown,
        embedded_resource: flag("x-kubernetes-embedded-resource"),
    })
}

fn shape(raw: &Map<String, Value>, path: &str, depth: usize, resolve: Resolve<'_>) -> Result<Shape, SchemaError> {
    if let Some(reference) = raw.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return resolve(name)
            .map(Shape::Ref)
            .ok_or_else(|| SchemaError::Reference { path: path.to_owned(), reference: reference.to_owned() });
    }
    if raw.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true) {
        return Ok(Shape::IntOrString);
    }
    let format = raw.get("format").and_then(Value::as_str).unwrap_or("");
    let Some(type_name) = raw.get("type").and_then(Value::as_str) else {
        return untyped(raw, path, depth, resolve);
    };
    Ok(match (type_name, format) {
        ("object", _) => object(raw, path, depth, resolve)?,
        ("array", _) => {
            let items = raw.get("items").map(|i| build(i, &format!("{path}[]"), depth + 1, resolve)).transpose()?;
            Shape::List(Box::new(items.unwrap_or_else(Schema::any)))
        }
        ("string", "byte") => Shape::Bytes,
        ("string", _) => Shape::String,
        ("integer", "int32") => Shape::Int32,
        ("integer", _) => Shape::Int64,
        ("number", _) => Shape::Number,
        ("boolean", _) => Shape::Bool,
        (found, _) => {
            return Err(SchemaError::UnknownType { path: path.to_owned(), found: found.to_owned() });
        }
    })
}

/// Without a type: alternatives of k8s-openapi, properties of a CRD that forgot `type: object`, or anything.
fn untyped(raw: &Map<String, Value>, path: &str, depth: usize, resolve: Resolve<'_>) -> Result<Shape, SchemaError> {
    // A structural schema's own oneOf only constrains: its alternatives carry no shape.
    let alternatives = raw.get("oneOf").and_then(Value::as_array);
    if let Some(all) = alternatives.filter(|all| all.iter().all(|a| a.get("$ref").or(a.get("type")).is_some())) {
        let all = all.iter().map(|a| build(a, path, depth + 1, resolve)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Shape::OneOf(all.into()));
    }
    if raw.contains_key("properties") || raw.contains_key("additionalProperties") {
        return object(raw, path, depth, resolve);
    }
    Ok(Shape::Any)
}

fn object(raw: &Map<String, Value>, path: &str, depth: usize, resolve: Resolve<'_>) -> Result<Shape, SchemaError> {
    if let Some(Value::Object(properties)) = raw.get("properties") {
        let fields = properties
            .iter()
            .map(|(name, s)| Ok((name.as_str().into(), build(s, &format!("{path}.{name}"), depth + 1, resolve)?)))
            .collect::<Result<Vec<_>, SchemaError>>()?;
        return Ok(Shape::Object(sorted(fields)));
    }
    match raw.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Ok(Shape::Object(Box::default())),
        Some(value) => Ok(Shape::Map(Box::new(build(value, &format!("{path}{{}}"), depth + 1, resolve)?))),
    }
}

fn sorted(mut fields: Vec<(Box<str>, Schema)>) -> Box<[(Box<str>, Schema)]> {
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields.into()
}

/// The extensions of a CRD's schema; k8s-openapi's has none of them.
fn merge_of_raw(raw: &Map<String, Value>) -> Merge {
    let text = |name: &str| raw.get(name).and_then(Value::as_str);
    let keys = raw.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    Merge {
        list_type: match text("x-kubernetes-list-type") {
            Some("map") => ListType::Map,
            Some("set") => ListType::Set,
            _ => ListType::Atomic,
        },
        map_keys: keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect(),
        atomic: text("x-kubernetes-map-type").map(|t| t == "atomic"),
        patch_strategy: PatchStrategy::default(),
        patch_merge_key: None,
        key_default: text("default").map(Into::into),
    }
}
