//! ClusterTrustBundles.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{get, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("SignerName", "string")],
    row,
    fields: |b| vec![("spec.signerName", text(get(b, "spec"), "signerName").to_owned())],
    field_labels: &["spec.signerName"],
    unconditional_update: false,
    ..Hooks::PLAIN
};

fn row(bundle: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(bundle).into(), table::or_none(text(get(bundle, "spec"), "signerName"))]
}
