//! Events as `events.k8s.io/v1` names their parts; they are stored as `v1` has them.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::core::v1::event as stored;

pub static HOOKS: Hooks = Hooks {
    columns: stored::COLUMNS,
    row,
    fields,
    field_labels: &[
        "reason",
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reportingController",
        "type",
    ],
    ..stored::HOOKS_BASE
};

fn as_stored(event: &Value) -> Value {
    let mut event = event.clone();
    // Only an object that is none cannot be converted, and it reads as empty.
    let _ = stored::convert(&mut event, "v1");
    event
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    stored::row(&as_stored(event), now)
}

fn fields(event: &Value) -> Vec<(&'static str, String)> {
    let renamed = |name| {
        Some(match name {
            "involvedObject.kind" => "regarding.kind",
            "involvedObject.namespace" => "regarding.namespace",
            "involvedObject.name" => "regarding.name",
            "involvedObject.uid" => "regarding.uid",
            "involvedObject.apiVersion" => "regarding.apiVersion",
            "involvedObject.resourceVersion" => "regarding.resourceVersion",
            "involvedObject.fieldPath" => "regarding.fieldPath",
            "reportingComponent" => "reportingController",
            "reason" => "reason",
            "type" => "type",
            _ => return None,
        })
    };
    let stored = stored::fields(&as_stored(event)).into_iter();
    stored.filter_map(|(name, value)| Some((renamed(name)?, value))).collect()
}
