//! PodCertificateRequests.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, items, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("PodName", "string"),
        Column::new("ServiceAccountName", "string"),
        Column::new("NodeName", "string"),
        Column::new("SignerName", "string"),
        Column::new("State", "string"),
        Column::new("UnverifiedUserAnnotations", "string").wide(),
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    fields: |r| {
        let spec = get(r, "spec");
        vec![
            ("spec.signerName", text(spec, "signerName").to_owned()),
            ("spec.podName", text(spec, "podName").to_owned()),
            ("spec.nodeName", text(spec, "nodeName").to_owned()),
        ]
    },
    field_labels: &["spec.signerName", "spec.podName", "spec.nodeName"],
    unconditional_update: false,
    ..Hooks::PLAIN
};

fn row(request: &Value, _: Timestamp) -> Vec<Value> {
    let spec = get(request, "spec");
    let mut conditions = items(get(request, "status"), "conditions").iter().map(|c| text(c, "type"));
    let state = conditions.rfind(|t| matches!(*t, "Issued" | "Denied" | "Failed")).unwrap_or("Pending");
    let mut out = vec![name(request).into()];
    out.extend(["podName", "serviceAccountName", "nodeName", "signerName"].map(|k| text(spec, k).into()));
    out.extend([state.into(), table::labels(get(spec, "unverifiedUserAnnotations"))]);
    out
}
