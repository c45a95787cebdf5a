//! The built-in definitions, each converted once, when a kind that uses it is first asked for.
//!
//! Building all of them would cost start-up time and memory that most clusters never use; so kinds share one
//! generator, and what a kind adds to it is converted and its JSON (mostly descriptions) dropped at once.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::{authentication, autoscaling, core, policy};
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Schema, Shape, build};

/// A named type. Lives as long as the process: there are as many as k8s-openapi has.
#[derive(Debug)]
pub struct Definition {
    /// `io.k8s.api.core.v1.PodSpec`
    pub name: String,
    schema: OnceLock<Schema>,
}

impl Definition {
    pub fn schema(&self) -> &Schema {
        static ANYTHING: LazyLock<Schema> = LazyLock::new(Schema::any);
        // Empty only while its own registry pass runs, which nobody sees.
        self.schema.get().unwrap_or_else(|| &ANYTHING)
    }
    /// `PodSpec`: the name of the Go struct.
    pub fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
    /// `v1.PodSpec`: the Go type as error messages name it.
    pub fn go_type(&self) -> &str {
        self.name.rmatch_indices('.').nth(1).map_or(&self.name, |(at, _)| self.name.get(at + 1..).unwrap_or(&self.name))
    }
}

type Generate = fn(&mut SchemaGenerator) -> schemars::Schema;

/// A schema that is built when it is first asked for.
#[derive(Debug)]
pub struct Lazy {
    generate: Generate,
    built: OnceLock<Schema>,
}

impl Lazy {
    pub const fn new(generate: Generate) -> Self {
        Self { generate, built: OnceLock::new() }
    }

    /// A [`Shape::Ref`] to the definition.
    pub fn get(&self) -> &Schema {
        self.built.get_or_init(|| registry().add(self.generate))
    }

    /// Into a generator of the caller's, descriptions included.
    pub fn generate(&self, generator: &mut SchemaGenerator) -> schemars::Schema {
        (self.generate)(generator)
    }
}

/// The bodies that are no resource of their own, by Kind (as kubectl and client-go send them to subresources or as
/// options): `Scale`, `Eviction`, `TokenRequest`, `DeleteOptions`, `Status`.
pub fn named(kind: &str) -> Option<&'static Schema> {
    static SCALE: Lazy = Lazy::new(|g| g.subschema_for::<autoscaling::v1::Scale>());
    static EVICTION: Lazy = Lazy::new(|g| g.subschema_for::<policy::v1::Eviction>());
    static TOKEN: Lazy = Lazy::new(|g| g.subschema_for::<authentication::v1::TokenRequest>());
    static BINDING: Lazy = Lazy::new(|g| g.subschema_for::<core::v1::Binding>());
    static DELETE: Lazy = Lazy::new(|g| g.subschema_for::<meta::v1::DeleteOptions>());
    static STATUS: Lazy = Lazy::new(|g| g.subschema_for::<meta::v1::Status>());
    let lazy = match kind {
        "Scale" => &SCALE,
        "Eviction" => &EVICTION,
        "TokenRequest" => &TOKEN,
        "Binding" => &BINDING,
        "DeleteOptions" => &DELETE,
        "Status" => &STATUS,
        _ => return None,
    };
    Some(lazy.get())
}

/// For custom resources, which have it without saying so.
pub(super) fn object_meta() -> Schema {
    static META: Lazy = Lazy::new(|g| g.subschema_for::<meta::v1::ObjectMeta>());
    META.get().clone()
}

struct Registry {
    generator: SchemaGenerator,
    definitions: HashMap<String, &'static Definition>,
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(|| {
        let generator = SchemaGenerator::new(SchemaSettings::openapi3());
        Mutex::new(Registry { generator, definitions: HashMap::new() })
    });
    // Definitions are only ever added whole: a panic elsewhere leaves nothing half done.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn add(&mut self, generate: Generate) -> Schema {
        let reference = generate(&mut self.generator);
        // What stays behind in the generator only says that the name is known.
        let known = Value::Bool(true);
        let fresh: Vec<(String, Value)> = self
            .generator
            .definitions_mut()
            .iter_mut()
            .filter(|(_, raw)| **raw != known)
            .map(|(name, raw)| (name.clone(), std::mem::replace(raw, known.clone())))
            .collect();
        for (name, raw) in fresh {
            let definition = self.definition(&name);
            let built = build::definition(&name, &raw, &mut |name| Some(self.definition(name)));
            // k8s-openapi's schemas are of the shapes that `build` knows; the tests build every one.
            let _ = definition.schema.set(built.unwrap_or_else(|_| Schema::any()));
        }
        let name = reference.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
        name.map_or_else(Schema::any, |name| Schema::new(Shape::Ref(self.definition(name))))
    }

    fn definition(&mut self, name: &str) -> &'static Definition {
        if let Some(known) = self.definitions.get(name) {
            return known;
        }
        let fresh: &'static Definition =
            Box::leak(Box::new(Definition { name: name.to_owned(), schema: OnceLock::new() }));
        self.definitions.insert(name.to_owned(), fresh);
        fresh
    }
}
