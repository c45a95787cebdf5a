//! Events, in the form in which they are stored. `events.k8s.io` names the same things differently.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::object::{get, has, int, name, text};
use crate::table::{self, Column};
use crate::{Hooks, Status, names};

/// What both names of the kind share.
pub(crate) const HOOKS_BASE: Hooks = Hooks { validate, create_on_update: true, convert: Some(convert), ..Hooks::PLAIN };

pub static HOOKS: Hooks = Hooks {
    columns: COLUMNS,
    row,
    fields,
    field_labels: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    ..HOOKS_BASE
};

pub(crate) const COLUMNS: &[Column] = &[
    Column::new("Last Seen", "string").about("When it was last seen."),
    Column::new("Type", "string").about("Normal or Warning."),
    Column::new("Reason", "string").about("Why, in one word."),
    Column::new("Object", "string").about("What it is about."),
    Column::new("Subobject", "string").wide(),
    Column::new("Source", "string").wide(),
    Column::new("Message", "string").about("What happened."),
    Column::new("First Seen", "string").wide(),
    Column::new("Count", "string").wide(),
    Column { format: "name", ..Column::new("Name", "string").wide() },
];

/// The names of one thing in `v1` and in `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(crate) fn convert(event: &mut Value, to_version: &str) -> Result<(), Status> {
    let to_new = match to_version {
        "v1" => false,
        "events.k8s.io/v1" => true,
        other => return Err(Status::internal(format!("events have no version {other}"))),
    };
    let Some(map) = event.as_object_mut() else { return Err(Status::bad_request("an event must be an object")) };
    for (old, new) in NAMES {
        let (from, to) = if to_new { (old, new) } else { (new, old) };
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
    map.insert("apiVersion".to_owned(), to_version.into());
    Ok(())
}

/// The limits are upstream's, in bytes.
fn validate(event: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let namespace = text(get(event, "metadata"), "namespace");
    let about = text(get(event, "involvedObject"), "namespace");
    let matches = match (has(event, "eventTime"), about) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, about) => about == namespace,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !matches {
        out.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if !has(event, "eventTime") {
        return out;
    }
    for (key, max) in [("reportingComponent", usize::MAX), ("reportingInstance", 128), ("action", 128), ("reason", 128)]
    {
        let value = text(event, key);
        if value.is_empty() {
            out.push(FieldError::required(key, ""));
        }
        if key == "reportingComponent" {
            invalid_each(&mut out, &Path::new(key), value, names::qualified_name(value));
        } else if value.len() > max {
            out.push(FieldError::invalid(key, "", format!("can have at most {max} characters")));
        }
    }
    if text(event, "message").len() > 1024 {
        out.push(FieldError::invalid("message", "", "can have at most 1024 characters"));
    }
    out
}

pub(crate) fn fields(event: &Value) -> Vec<(&'static str, String)> {
    let about = |key| text(get(event, "involvedObject"), key).to_owned();
    let reporter = text(event, "reportingComponent");
    let component = text(get(event, "source"), "component");
    vec![
        ("involvedObject.kind", about("kind")),
        ("involvedObject.namespace", about("namespace")),
        ("involvedObject.name", about("name")),
        ("involvedObject.uid", about("uid")),
        ("involvedObject.apiVersion", about("apiVersion")),
        ("involvedObject.resourceVersion", about("resourceVersion")),
        ("involvedObject.fieldPath", about("fieldPath")),
        ("reason", text(event, "reason").to_owned()),
        ("reportingComponent", reporter.to_owned()),
        ("source", if component.is_empty() { reporter } else { component }.to_owned()),
        ("type", text(event, "type").to_owned()),
    ]
}

fn source(event: &Value) -> String {
    let source = get(event, "source");
    let component =
        if has(source, "component") { text(source, "component") } else { text(event, "reportingComponent") };
    let host = if has(source, "host") { text(source, "host") } else { text(event, "reportingInstance") };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

pub(crate) fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |key| if has(event, key) { Some(table::since(get(event, key), now)) } else { None };
    let first = time("firstTimestamp").or_else(|| time("eventTime")).unwrap_or_else(|| "<unknown>".to_owned());
    let series = get(event, "series");
    let (last, count) = if series.is_null() {
        (time("lastTimestamp").unwrap_or_else(|| first.clone()), int(event, "count").unwrap_or(0).max(1))
    } else {
        (table::since(get(series, "lastObservedTime"), now), int(series, "count").unwrap_or(0))
    };
    let about = get(event, "involvedObject");
    let kind = text(about, "kind").to_lowercase();
    let object = if text(about, "name").is_empty() { kind } else { format!("{kind}/{}", text(about, "name")) };
    vec![
        last.into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        object.into(),
        text(about, "fieldPath").into(),
        source(event).into(),
        text(event, "message").trim().into(),
        first.into(),
        count.into(),
        name(event).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conversion_goes_there_and_back() {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "source": {"component": "c"}, "count": 2,
            "reportingComponent": "x", "firstTimestamp": "2026-01-01T00:00:00Z", "reason": "R"});
        let mut converted = event.clone();
        convert(&mut converted, "events.k8s.io/v1").unwrap();
        assert_eq!(
            converted,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
                "regarding": {"kind": "Pod", "name": "p"}, "note": "m", "deprecatedSource": {"component": "c"},
                "deprecatedCount": 2, "reportingController": "x", "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
                "reason": "R"})
        );
        convert(&mut converted, "v1").unwrap();
        assert_eq!(converted, event);
        assert!(convert(&mut converted, "v2").is_err());
    }

    #[test]
    fn rows() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let event = json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "message": " m\n",
            "involvedObject": {"kind": "Pod", "name": "p"}, "count": 3,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:30Z"});
        let cells: Vec<_> = row(&event, now).iter().map(|v| v.as_str().map_or(v.to_string(), str::to_owned)).collect();
        assert_eq!(cells, ["30s", "Warning", "BackOff", "pod/p", "", "", "m", "10m", "3", "e"]);
        assert_eq!(cells.len(), COLUMNS.len());
    }
}
