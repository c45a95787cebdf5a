//! Server-side apply: a configuration is laid over the live object, and its applier owns the fields that it names.
//!
//! What the applier named the last time and nobody names or owns now is removed. A field that another manager owns
//! with another value is a conflict, unless `force` takes it.

use serde_json::{Map, Value, json};

use super::{
    fields::{self, Fields},
    managed_fields::{self, Writer},
    structured::{self, Delta},
};
use crate::{Kind, Status, kinds::Subresource, meta, schema::Schema};

/// The manager of what was there before anybody applied, if nothing was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager name under which kubectl takes over from its client-side apply.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object as it becomes, with `metadata.managedFields`: not to be passed to [`managed_fields::update`].
/// Defaults and validation follow. Without a live object this is a create.
///
/// # Errors
/// 400 for a configuration of another kind or version, with managed fields, or with list items that have no key or
/// the same; 409 with a cause per field for conflicts.
pub fn apply(
    kind: &Kind,
    schema: &Schema,
    live: Option<&Value>,
    mut applied: Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    check(kind, &applied)?;
    let as_sent = (writer.manager == KUBECTL).then(|| applied.clone());
    let Value::Object(config) = &mut applied else {
        return Err(Status::bad_request("the configuration is not an object"));
    };
    leave_out(kind, writer, config);
    let named = structured::fields_of(schema, &applied).map_err(|error| malformed(kind, &applied, &error))?;

    let mut entries = managed_fields::entries(live.and_then(|l| l.get("metadata")?.get("managedFields")));
    if let (Some(live), true) = (live, entries.is_empty()) {
        let before = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", ..*writer };
        managed_fields::record(&mut entries, structured::compare(schema, None, live), &before);
    }
    let place = entries.iter().position(|e| is_apply_of(e, writer));
    let last = place.map(|at| entries.remove(at));

    let mut object = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    meta::metadata_mut(&mut object).remove("managedFields");
    structured::merge(Some(schema), &mut object, &applied);
    if let Some(last) = last.as_ref().and_then(managed_fields::fields) {
        let mut owned = named.clone();
        entries.iter().filter_map(managed_fields::fields).for_each(|theirs| fields::union(&mut owned, theirs));
        // Whatever else: it keeps its name.
        owned.entry("f:metadata").or_insert_with(|| json!({ "f:name": {} }));
        structured::prune(Some(schema), &mut object, last, &owned);
    }
    let delta = structured::compare(schema, live, &object);
    if !force {
        check_conflicts(schema, live, &entries, &delta, writer)?;
    }
    managed_fields::take_away(&mut entries, &delta);
    own(&mut entries, named, last, &delta, writer);
    if let Some(sent) = as_sent {
        update_last_applied(&mut object, sent);
    }
    managed_fields::set(&mut object, entries);
    Ok(object)
}

fn check(kind: &Kind, applied: &Value) -> Result<(), Status> {
    let text = |field: &str| applied.get(field).and_then(Value::as_str).unwrap_or("");
    if text("apiVersion") != kind.api_version() || text("kind") != kind.kind {
        let version = text("apiVersion");
        let shown = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
        return Err(Status::bad_request(format!("invalid object type: {shown}, Kind={}", text("kind"))));
    }
    if applied.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// What this request cannot write, it cannot own: the status through the object, or the rest through the status.
fn leave_out(kind: &Kind, writer: &Writer<'_>, config: &mut Map<String, Value>) {
    if writer.subresource == Subresource::Status.name() {
        config.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    } else if kind.subresources.contains(&Subresource::Status) {
        config.remove("status");
    }
    if let Some(Value::Object(metadata)) = config.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

fn malformed(kind: &Kind, applied: &Value, error: &str) -> Status {
    let (namespace, name) = (meta::namespace(applied), meta::name(applied));
    Status::bad_request(format!(
        "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {error}",
        kind.api_version(),
        kind.kind
    ))
}

fn is_apply_of(entry: &Value, writer: &Writer<'_>) -> bool {
    use managed_fields::text;
    text(entry, "operation") == "Apply"
        && text(entry, "manager") == writer.manager
        && text(entry, "subresource") == writer.subresource
}

/// The applier's entry is what it named, no more. Its time is that of the last apply that changed something.
fn own(entries: &mut Vec<Value>, mut named: Fields, last: Option<Value>, delta: &Delta, writer: &Writer<'_>) {
    structured::strip(&mut named);
    if named.is_empty() {
        return;
    }
    let mut entry = managed_fields::entry(writer, "Apply", named);
    if let Some(last) = last
        && delta.is_empty()
        && managed_fields::fields(&last) == managed_fields::fields(&entry)
        && managed_fields::text(&last, "apiVersion") == writer.api_version
        && let Some(time) = last.get("time")
    {
        entry["time"] = time.clone();
    }
    entries.push(entry);
}

struct Conflict {
    /// `"kubectl" with subresource "scale" using apps/v1`.
    manager: String,
    path: String,
}

fn check_conflicts(
    schema: &Schema,
    live: Option<&Value>,
    entries: &[Value],
    delta: &Delta,
    writer: &Writer<'_>,
) -> Result<(), Status> {
    let Some(changed) = &delta.changed else { return Ok(()) };
    let mut conflicts = conflicts(entries, changed);
    if conflicts.is_empty() {
        return Ok(());
    }
    if writer.manager == KUBECTL
        && let Some(allowed) = live.and_then(|live| from_client_side_apply(schema, live, writer))
    {
        let allowed = fields::paths(&allowed);
        conflicts.retain(|conflict| !allowed.contains(&conflict.path));
        if conflicts.is_empty() {
            return Ok(());
        }
    }
    Err(conflict_status(&conflicts))
}

fn conflicts(entries: &[Value], changed: &Fields) -> Vec<Conflict> {
    use managed_fields::text;
    let mut all = Vec::new();
    for entry in entries {
        let Some(own) = managed_fields::fields(entry) else { continue };
        let mut manager = format!("{:?}", text(entry, "manager"));
        if !text(entry, "subresource").is_empty() {
            manager.push_str(&format!(" with subresource {:?}", text(entry, "subresource")));
        }
        if text(entry, "operation") == "Update" {
            manager.push_str(&format!(" using {}", text(entry, "apiVersion")));
        }
        let both = fields::paths(&fields::intersection(own, changed));
        all.extend(both.into_iter().map(|path| Conflict { manager: manager.clone(), path }));
    }
    all
}

fn conflict_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path),
        many => {
            let mut managers: Vec<&str> = many.iter().map(|c| c.manager.as_str()).collect();
            managers.sort_unstable();
            managers.dedup();
            let mut lines = Vec::new();
            for manager in managers {
                lines.push(format!("conflicts with {manager}:"));
                lines.extend(many.iter().filter(|c| c.manager == manager).map(|c| format!("- {}", c.path)));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let cause = |c: &Conflict| json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager), "field": c.path });
    let causes: Vec<Value> = conflicts.iter().map(cause).collect();
    Status { details: json!({ "causes": causes }), ..Status::new(409, "Conflict", message) }
}

/// What kubectl's client-side apply set and still stands: kubectl may take that over without force.
fn from_client_side_apply(schema: &Schema, live: &Value, writer: &Writer<'_>) -> Option<Fields> {
    let last: Value = serde_json::from_str(meta::annotation(live, LAST_APPLIED)?).ok()?;
    if last.get("apiVersion")?.as_str()? != writer.api_version {
        return None;
    }
    let mut fields = structured::fields_of(schema, &last).ok()?;
    let delta = structured::compare(schema, Some(&last), live);
    for side in [delta.changed, delta.removed].iter().flatten() {
        fields::subtract(&mut fields, side);
    }
    Some(fields)
}

/// Keeps kubectl's annotation true, where there is one, so that client-side apply goes on working.
fn update_last_applied(object: &mut Value, mut sent: Value) {
    if meta::annotation(object, LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    if let Some(Value::Object(annotations)) = sent.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{sent}\n");
    let Some(Value::Object(annotations)) = meta::metadata_mut(object).get_mut("annotations") else { return };
    if text.len() < meta::ANNOTATIONS_BYTES_MAX {
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    } else {
        annotations.remove(LAST_APPLIED);
    }
}
