//! What the fields of a kind are: the model that decoding, pruning and the structured patches walk.
//!
//! One type for both sources: built-in kinds ([`of`], from k8s-openapi's JSON schemas and the merge facts that those
//! leave out) and CustomResourceDefinitions ([`Schema::from_crd`]). It knows shapes, not constraints, and carries
//! no descriptions: those are for `crate::openapi`.

mod build;
mod facts;
mod registry;

pub use build::SchemaError;
pub use facts::{FieldFacts, field_facts, type_is_atomic};
pub use registry::{Definition, Lazy, named};

use crate::Kind;

/// The schema of a whole object of this kind.
pub fn of(kind: &Kind) -> &Schema {
    kind.schema()
}

/// One value's shape and how it merges.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    shape: Shape,
    merge: Merge,
    /// A CRD's `nullable`: an explicit null is kept.
    pub nullable: bool,
    /// A CRD's `x-kubernetes-preserve-unknown-fields`: what [`Shape::Object`] does not name is kept.
    pub preserve_unknown: bool,
    /// A CRD's `x-kubernetes-embedded-resource`: `apiVersion`, `kind` and `metadata` are kept too.
    pub embedded_resource: bool,
}

#[derive(Clone, Debug, Default)]
pub enum Shape {
    /// Anything: RawExtension, FieldsV1, JSON, a CRD's schema without a type.
    #[default]
    Any,
    /// Sorted by name.
    Object(Box<[(Box<str>, Schema)]>),
    Map(Box<Schema>),
    List(Box<Schema>),
    String,
    /// Base64 in JSON, bytes in Go.
    Bytes,
    /// RFC 3339.
    Time,
    MicroTime,
    Int32,
    Int64,
    Number,
    Bool,
    IntOrString,
    Quantity,
    /// The first whose JSON type fits: the three "or" types of JSONSchemaProps.
    OneOf(Box<[Schema]>),
    Ref(&'static Definition),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole: also what a list is that says nothing.
    #[default]
    Atomic,
    Set,
    /// Items are known by [`Schema::map_keys`].
    Map,
}

/// `x-kubernetes-patch-strategy`, for strategic merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Of a list: merge by [`Schema::patch_merge_key`], or as a set of scalars when there is none.
    pub merge: bool,
    /// Drop the fields that the patch does not name in `$retainKeys`.
    pub retain_keys: bool,
    /// `replace`, said explicitly.
    pub replace: bool,
}

/// How server-side apply and strategic merge patch take a field apart.
#[derive(Clone, Debug, Default)]
struct Merge {
    list_type: ListType,
    map_keys: Box<[Box<str>]>,
    /// `x-kubernetes-map-type`, or the type's own when it says nothing.
    atomic: Option<bool>,
    patch_strategy: PatchStrategy,
    patch_merge_key: Option<Box<str>>,
    /// Of a field that is a list-map key: the value that stands for its absence.
    key_default: Option<Box<str>>,
}

impl Schema {
    fn new(shape: Shape) -> Self {
        Self { shape, ..Self::default() }
    }

    /// Keeps whatever it is given.
    pub fn any() -> Self {
        Self { preserve_unknown: true, ..Self::default() }
    }

    /// Never [`Shape::Ref`].
    pub fn shape(&self) -> &Shape {
        self.resolve().shape_here()
    }

    fn shape_here(&self) -> &Shape {
        &self.shape
    }

    /// The definition that this refers to, or itself.
    pub fn resolve(&self) -> &Schema {
        let mut here = self;
        while let Shape::Ref(definition) = here.shape_here() {
            here = definition.schema();
        }
        here
    }

    /// The name of the definition that this refers to: `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(&self) -> Option<&'static Definition> {
        match self.shape {
            Shape::Ref(definition) => Some(definition),
            _ => None,
        }
    }

    /// The schema of a property of an object, or of any value of a map.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match self.shape() {
            Shape::Object(fields) => {
                fields.binary_search_by(|(n, _)| (**n).cmp(name)).ok().and_then(|at| fields.get(at)).map(|(_, s)| s)
            }
            Shape::Map(value) => Some(value),
            _ => None,
        }
    }

    /// The properties of an object, sorted by name; empty for everything else.
    pub fn fields(&self) -> &[(Box<str>, Schema)] {
        match self.shape() {
            Shape::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<&Schema> {
        match self.shape() {
            Shape::List(item) => Some(item),
            _ => None,
        }
    }

    pub fn is_object_or_map(&self) -> bool {
        matches!(self.shape(), Shape::Object(_) | Shape::Map(_))
    }

    pub fn list_type(&self) -> ListType {
        self.merge.list_type
    }

    /// The fields of an item that together identify it in a [`ListType::Map`].
    pub fn map_keys(&self) -> &[Box<str>] {
        &self.merge.map_keys
    }

    /// Server-side apply owns the value as a whole: scalars, atomic lists, structs and maps, and what has no schema.
    pub fn is_atomic(&self) -> bool {
        if let Some(atomic) = self.merge.atomic {
            return atomic;
        }
        let resolved = self.resolve();
        match &resolved.shape {
            Shape::List(_) => self.merge.list_type == ListType::Atomic,
            Shape::Object(_) | Shape::Map(_) => resolved.merge.atomic.unwrap_or(false),
            Shape::Any => !resolved.preserve_unknown,
            _ => true,
        }
    }

    pub fn patch_strategy(&self) -> PatchStrategy {
        self.merge.patch_strategy
    }

    pub fn patch_merge_key(&self) -> Option<&str> {
        self.merge.patch_merge_key.as_deref()
    }

    /// What the absence of a list-map key means (`protocol`: `TCP`).
    pub fn key_default(&self) -> Option<&str> {
        self.merge.key_default.as_deref()
    }
}

#[cfg(test)]
mod tests;
