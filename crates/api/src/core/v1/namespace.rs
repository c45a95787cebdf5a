//! Namespaces.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Hooks;
use crate::field::{FieldErrors, Path, invalid_each};
use crate::names;
use crate::object::{child, get, items, keep_status, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update,
    validate,
    columns: &[
        Column::NAME,
        Column::new("Status", "string").about("Active, or Terminating once deleted."),
        Column::AGE,
    ],
    row,
    fields: |namespace| vec![("status.phase", text(get(namespace, "status"), "phase").to_owned())],
    field_labels: &["status.phase", "name"],
    ..Hooks::PLAIN
};

/// The finalizer that the namespace controller removes when nothing is left in it.
const FINALIZER: &str = "kubernetes";

fn default(namespace: &mut Value) {
    let own_name = name(namespace).to_owned();
    if own_name.is_empty() {
        return;
    }
    if let Some(labels) = object(namespace, "metadata").and_then(|m| child(m, "labels")) {
        labels.insert("kubernetes.io/metadata.name".to_owned(), own_name.into());
    }
}

fn prepare_create(namespace: &mut Value) {
    // A generated name is known only now.
    default(namespace);
    if let Some(map) = namespace.as_object_mut() {
        map.insert("status".to_owned(), json!({ "phase": "Active" }));
    }
    let Some(spec) = object(namespace, "spec") else { return };
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == FINALIZER)
    {
        list.push(FINALIZER.into());
    }
}

/// Finalizers go by their own subresource.
fn prepare_update(new: &mut Value, old: &Value) {
    let finalizers = get(get(old, "spec"), "finalizers").clone();
    if let Some(spec) = object(new, "spec") {
        spec.insert("finalizers".to_owned(), finalizers);
    }
    keep_status(new, old);
}

fn validate(namespace: &Value) -> FieldErrors {
    let mut out = Vec::new();
    for finalizer in items(get(namespace, "spec"), "finalizers") {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let spec = Path::new("spec");
        invalid_each(&mut out, &spec.child("finalizers"), finalizer, names::qualified_name(finalizer));
    }
    out
}

fn row(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(namespace).into(), get(get(namespace, "status"), "phase").clone(), table::age(namespace, now)]
}
