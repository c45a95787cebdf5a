//! What a kind contributes to the pipeline: pure functions only. The order in which they run is written once, in
//! the API server's pipeline; what every kind needs (names, generation, owner references, managed fields) is done
//! there too and not here.

use jiff::Timestamp;
use serde_json::Value;

use crate::{FieldErrors, Status, table::Column};

/// The hooks of one kind. [`Hooks::GENERIC`] is a kind without behaviour of its own.
pub struct Hooks {
    /// Fills in defaults; total and idempotent. Runs on every write.
    pub default: fn(&mut Value),
    /// Before a create: drop what the client may not set beyond `status`.
    pub prepare_create: fn(&mut Value),
    /// Before an update of the main resource: carry over from `old` what the client may not change.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    /// Before an update of `status`: the pipeline has already taken everything but `status` (and what
    /// upstream lets through) from `old`.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    /// The object as it would be stored. Metadata is checked by the pipeline ([`crate::meta::validate`]).
    pub validate: fn(&Value) -> FieldErrors,
    /// Runs after [`Self::validate`], for what may not change.
    pub validate_update: fn(new: &Value, old: &Value) -> FieldErrors,
    pub validate_status: fn(new: &Value, old: &Value) -> FieldErrors,
    /// `Warning:` headers for what is allowed and deprecated or likely wrong.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Printer columns of `kubectl get`; the pipeline prepends nothing, `Name` is the first one here.
    pub columns: &'static [Column],
    /// One cell per column.
    pub row: fn(&Value, now: Timestamp) -> Vec<Value>,
    /// What field selectors may name beyond `metadata.name` and `metadata.namespace`.
    pub fields: fn(&Value) -> Vec<(&'static str, String)>,
    /// The labels that [`Self::fields`] knows, for the error about others.
    pub field_labels: &'static [&'static str],
    /// Spec, or what stands for it, by which `metadata.generation` counts; `None` for kinds without a generation.
    pub generation_of: Option<fn(&Value) -> Value>,
    /// PUT to a missing object creates it.
    pub create_on_update: bool,
    /// PUT without a resource version is allowed.
    pub unconditional_update: bool,
    /// The scale subresource, when the kind has one.
    pub scale: Option<Scale>,
    /// The grace period in seconds of a deletion that names none; 0: at once, whatever the deletion names. No hook:
    /// always at once.
    pub grace_seconds: Option<fn(&Value) -> i64>,
    /// To the form of an `apiVersion` (`events.k8s.io/v1`), in place, from whichever form the object has. `None`: only
    /// `apiVersion` differs. [`Self::default`], the columns and the fields belong to the version that the client
    /// speaks, all other hooks to the stored one.
    pub convert: Option<Convert>,
}

/// `(object, to_api_version)`.
pub type Convert = fn(&mut Value, &str) -> Result<(), Status>;

/// JSON pointers into the object for `autoscaling/v1 Scale`.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub spec_replicas: &'static str,
    pub status_replicas: &'static str,
    /// Of a label selector object, or of a map (ReplicationController).
    pub selector: &'static str,
}

fn nothing(_: &mut Value) {}
fn nothing_of_old(_: &mut Value, _: &Value) {}
fn spec_of(v: &Value) -> Value {
    v.get("spec").cloned().unwrap_or(Value::Null)
}

impl Hooks {
    /// As [`Self::GENERIC`], for the kinds whose generation upstream does not count.
    pub const PLAIN: Hooks = Hooks { generation_of: None, ..Self::GENERIC };

    /// Everything except metadata and status counts for the generation when there is a `spec`.
    pub const GENERIC: Hooks = Hooks {
        default: nothing,
        prepare_create: nothing,
        prepare_update: nothing_of_old,
        prepare_status: nothing_of_old,
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_| Vec::new(),
        columns: crate::table::NAME_AND_AGE,
        row: crate::table::name_and_age,
        fields: |_| Vec::new(),
        field_labels: &[],
        generation_of: Some(spec_of),
        create_on_update: false,
        unconditional_update: true,
        scale: None,
        grace_seconds: None,
        convert: None,
    };
}
