//! Objects taken apart by their schema, as structured merge does: granular objects by field, keyed lists by key, sets
//! by value, everything else (scalars, what is atomic, lists of what has no schema) as a whole.

use serde_json::{Map, Value};

use super::fields::{Fields, child, is_member, leaf, set_member};
use crate::schema::{ListType, Schema, Shape};

/// What belongs to the server in every object: nobody owns it.
const UNOWNED: [&str; 2] = ["apiVersion", "kind"];
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Upstream's objects have these parts also when they are empty: whoever fills them does not thereby own the part.
const ALWAYS_THERE: [&str; 8] =
    ["metadata", "spec", "status", "template", "strategy", "updateStrategy", "resources", "containers"];

enum Form {
    Leaf,
    Object,
    Keyed,
    Set,
}

fn form(schema: Option<&Schema>, value: &Value) -> Form {
    let atomic = schema.is_some_and(Schema::is_atomic);
    match value {
        Value::Object(_) if !atomic => Form::Object,
        Value::Array(_) if !atomic => match schema.map_or(ListType::Atomic, Schema::list_type) {
            ListType::Map => Form::Keyed,
            ListType::Set => Form::Set,
            ListType::Atomic => Form::Leaf,
        },
        _ => Form::Leaf,
    }
}

/// Whether `name` is a field of a struct, and not a key of a map.
fn is_struct_field(schema: Option<&Schema>, name: &str) -> bool {
    schema.is_some_and(|s| matches!(s.shape(), Shape::Object(_)) && s.field(name).is_some())
}

fn field_element(name: &str) -> String {
    ["f:", name].concat()
}

/// `k:{"containerPort":80,"protocol":"TCP"}`.
///
/// # Errors
/// Upstream's words for an item without its keys.
fn keyed_element(list: &Schema, item: &Value) -> Result<String, String> {
    let mut names: Vec<&str> = list.map_keys().iter().map(|name| &**name).collect();
    names.sort_unstable();
    let mut element = String::from("k:{");
    for (n, name) in names.into_iter().enumerate() {
        let default = || list.items().and_then(|i| i.field(name)).and_then(Schema::key_default).map(Value::from);
        let value = item.get(name).filter(|v| !v.is_null()).cloned().or_else(default).ok_or_else(|| {
            format!(
                "element 0: associative list with keys has an element that omits key field {name:?} (and doesn't have default value)"
            )
        })?;
        let separator = if n > 0 { "," } else { "" };
        element.push_str(&format!("{separator}{}:{value}", Value::from(name)));
    }
    element.push('}');
    Ok(element)
}

/// What a list's item is known by, or why it is not.
fn element(form: &Form, list: Option<&Schema>, item: &Value) -> Result<String, String> {
    match (form, list) {
        (Form::Keyed, Some(list)) => keyed_element(list, item),
        _ if item.is_object() || item.is_array() => {
            Err("an associative list without keys has an element that's a map type".into())
        }
        _ => Ok(format!("v:{item}")),
    }
}

/// What differs between two versions of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Added or modified.
    pub changed: Option<Fields>,
    pub removed: Option<Fields>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.changed.is_none() && self.removed.is_none()
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        match (old, new) {
            (Some(old), Some(new)) if old == new => Self::default(),
            (_, Some(_)) => Self { changed: Some(Map::new()), removed: None },
            (Some(_), None) => Self { changed: None, removed: Some(Map::new()) },
            (None, None) => Self::default(),
        }
    }

    fn put(&mut self, key: impl Fn() -> String, below: Delta) {
        if let Some(changed) = below.changed {
            self.changed.get_or_insert_default().insert(key(), Value::Object(changed));
        }
        if let Some(removed) = below.removed {
            self.removed.get_or_insert_default().insert(key(), Value::Object(removed));
        }
    }

    /// A container that came or went is a member itself.
    fn mark(&mut self, came: bool, went: bool) {
        let mark = |side: &mut Option<Fields>| {
            let children = side.get_or_insert_default();
            if !children.is_empty() {
                children.insert(".".to_owned(), leaf());
            }
        };
        if came {
            mark(&mut self.changed);
        }
        if went {
            mark(&mut self.removed);
        }
    }
}

/// Compares two versions of a whole object; absent and null are the same. Costs one look at every value, and
/// allocates for what differs only.
pub fn compare(schema: &Schema, old: Option<&Value>, new: &Value) -> Delta {
    let mut delta = Delta::default();
    let (old, new) = (old.and_then(Value::as_object), new.as_object());
    each_field(old, new, &UNOWNED, |name, old, new| {
        let field = schema.field(name);
        let below = if name == "metadata" {
            let mut below = Delta::default();
            each_field(
                old.and_then(Value::as_object),
                new.and_then(Value::as_object),
                &UNOWNED_METADATA,
                |name, old, new| {
                    below.put(
                        || field_element(name),
                        compare_values(field.and_then(|f| f.field(name)), old, new, false),
                    );
                },
            );
            below
        } else {
            compare_values(field, old, new, ALWAYS_THERE.contains(&name))
        };
        delta.put(|| field_element(name), below);
    });
    delta
}

fn each_field<'v>(
    old: Option<&'v Map<String, Value>>,
    new: Option<&'v Map<String, Value>>,
    skip: &[&str],
    mut visit: impl FnMut(&str, Option<&'v Value>, Option<&'v Value>),
) {
    for (name, new) in new.into_iter().flatten().filter(|(name, _)| !skip.contains(&name.as_str())) {
        visit(name, old.and_then(|old| old.get(name)), Some(new));
    }
    for (name, old) in old.into_iter().flatten().filter(|(name, _)| !skip.contains(&name.as_str())) {
        if new.is_none_or(|new| !new.contains_key(name)) {
            visit(name, Some(old), None);
        }
    }
}

fn compare_values(schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>, always_there: bool) -> Delta {
    let (old, new) = (old.filter(|v| !v.is_null()), new.filter(|v| !v.is_null()));
    // Most of an object is as it was, and equality needs no schema.
    let Some(sample) = new.or(old).filter(|_| old != new) else { return Delta::default() };
    let form = form(schema, sample);
    let is_empty = |v: Option<&Value>| match v {
        None => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    if matches!(form, Form::Leaf) || (is_empty(old) && is_empty(new)) {
        return Delta::leaf(old, new);
    }
    let mut delta = match (old, new) {
        (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None) => compare_objects(schema, old, new),
        (Some(Value::Array(_)) | None, Some(Value::Array(_)) | None) => match compare_lists(&form, schema, old, new) {
            Some(delta) => delta,
            None => return Delta::leaf(old, new),
        },
        _ => return Delta::leaf(old, new),
    };
    if !always_there {
        delta.mark(old.is_none(), new.is_none());
    }
    delta
}

fn compare_objects(schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>) -> Delta {
    let mut delta = Delta::default();
    each_field(old.and_then(Value::as_object), new.and_then(Value::as_object), &[], |name, old, new| {
        let always_there = ALWAYS_THERE.contains(&name) && is_struct_field(schema, name);
        let below = compare_values(schema.and_then(|s| s.field(name)), old, new, always_there);
        delta.put(|| field_element(name), below);
    });
    delta
}

/// `None`: an item has no key, or two have the same; then the list counts as a whole.
fn compare_lists(form: &Form, schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>) -> Option<Delta> {
    let (old, new) = (by_element(form, schema, old)?, by_element(form, schema, new)?);
    let find = |list: &[(String, &Value)], key: &str| list.iter().position(|(k, _)| k == key);
    let items = schema.and_then(Schema::items);
    let mut delta = Delta::default();
    for (key, item) in &new {
        let old = find(&old, key).map(|at| old[at].1);
        delta.put(|| key.clone(), compare_values(items, old, Some(item), false));
    }
    for (key, item) in old.iter().filter(|(key, _)| find(&new, key).is_none()) {
        delta.put(|| key.clone(), compare_values(items, Some(item), None, false));
    }
    Some(delta)
}

/// `None` where keys are missing or not unique.
fn by_element<'v>(form: &Form, schema: Option<&Schema>, list: Option<&'v Value>) -> Option<Vec<(String, &'v Value)>> {
    let items = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut all: Vec<(String, &Value)> = Vec::with_capacity(items.len());
    for item in items {
        let key = element(form, schema, item).ok()?;
        if all.iter().any(|(other, _)| *other == key) {
            return None;
        }
        all.push((key, item));
    }
    Some(all)
}

/// The fields that a configuration names, to be owned by whoever applies it.
///
/// # Errors
/// The path and what is wrong: a keyed list's item without its key, or two with the same.
pub fn fields_of(schema: &Schema, config: &Value) -> Result<Fields, String> {
    let node = node_of(Some(schema), config, &mut String::new())?;
    Ok(node.and_then(|n| n.as_object().cloned()).unwrap_or_default())
}

fn node_of(schema: Option<&Schema>, value: &Value, path: &mut String) -> Result<Option<Value>, String> {
    let form = form(schema, value);
    match value {
        Value::Object(fields) if matches!(form, Form::Object) => {
            let mut node = Map::new();
            for (name, value) in fields {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                let below = node_of(schema.and_then(|s| s.field(name)), value, path)?;
                path.truncate(length);
                if let Some(mut below) = below {
                    if !is_struct_field(schema, name) {
                        set_member(&mut below, true);
                    }
                    node.insert(field_element(name), below);
                }
            }
            Ok(Some(Value::Object(node)))
        }
        Value::Array(items) if !matches!(form, Form::Leaf) => {
            let mut node = Map::new();
            for item in items {
                let key = element(&form, schema, item).map_err(|error| format!("{path}: {error}"))?;
                let below = match form {
                    Form::Keyed => node_of(schema.and_then(Schema::items), item, path)?,
                    _ => None,
                };
                let mut below = below.unwrap_or_else(leaf);
                set_member(&mut below, true);
                if node.insert(key.clone(), below).is_some() {
                    return Err(format!("{path}: duplicate entries for key {}", shown(&key)));
                }
            }
            Ok((!node.is_empty()).then_some(Value::Object(node)))
        }
        _ => Ok(Some(leaf())),
    }
}

fn shown(element: &str) -> String {
    super::fields::paths(&Map::from_iter([(element.to_owned(), leaf())])).concat()
}

/// Lays a configuration over the live object: fields that it names win, everything else stays.
pub fn merge(schema: Option<&Schema>, live: &mut Value, config: &Value) {
    let form = form(schema, config);
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if matches!(form, Form::Object) => {
            for (name, value) in config {
                match live.get_mut(name) {
                    Some(live) => merge(schema.and_then(|s| s.field(name)), live, value),
                    None => drop(live.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(live), Value::Array(config)) if !matches!(form, Form::Leaf) => {
            *live = merge_lists(&form, schema, std::mem::take(live), config);
        }
        (live, config) => *live = config.clone(),
    }
}

/// The configuration's items come in its order; the live object's others stay where they are among those.
fn merge_lists(form: &Form, schema: Option<&Schema>, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let key = |item: &Value| element(form, schema, item).ok();
    let live_keys: Vec<_> = live.iter().map(key).collect();
    let config_keys: Vec<_> = config.iter().map(key).collect();
    let in_config = |at: usize| live_keys[at].is_some() && config_keys.contains(&live_keys[at]);
    let mut shared = (0..config.len()).filter(|at| live_keys.contains(&config_keys[*at]));
    let mut next_shared = shared.next();
    let items = schema.and_then(Schema::items);
    let mut live: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(live.len() + config.len());
    let (mut l, mut c) = (0, 0);
    while l < live.len() || c < config.len() {
        if l < live.len() && !in_config(l) {
            out.extend(live[l].take());
            l += 1;
        } else if l < live.len() && (c == config.len() || next_shared.is_some_and(|s| config_keys[s] != live_keys[l])) {
            // It comes, or came, where the configuration has it.
            l += 1;
        } else {
            let place = live_keys.iter().position(|k| k.is_some() && *k == config_keys[c]);
            match place.and_then(|at| live[at].take()) {
                Some(mut item) => {
                    merge(items, &mut item, &config[c]);
                    out.push(item);
                }
                None => out.push(config[c].clone()),
            }
            if next_shared == Some(c) {
                next_shared = shared.next();
                if l < live.len() && live_keys[l] == config_keys[c] {
                    l += 1;
                }
            }
            c += 1;
        }
    }
    out
}

/// Removes what `last` has (what the applier owned before) and `owned` has not (what anybody owns now), with
/// everything below it.
pub fn prune(schema: Option<&Schema>, value: &mut Value, last: &Fields, owned: &Fields) {
    let form = form(schema, value);
    let nothing = Map::new();
    let below = |key: &str| child(owned, key).unwrap_or(&nothing);
    match value {
        Value::Object(fields) if matches!(form, Form::Object) => fields.retain(|name, value| {
            let key = field_element(name);
            let Some(node) = last.get(&key) else { return true };
            // To own a struct's field is to own the way to it.
            let counts = |node: &Value| is_struct_field(schema, name) || is_member(node);
            if counts(node) && !owned.get(&key).is_some_and(counts) {
                return false;
            }
            if let Value::Object(node) = node {
                prune(schema.and_then(|s| s.field(name)), value, node, below(&key));
            }
            true
        }),
        Value::Array(items) if !matches!(form, Form::Leaf) => items.retain_mut(|item| {
            let Ok(key) = element(&form, schema, item) else { return true };
            let Some(node) = last.get(&key) else { return true };
            if is_member(node) && !owned.get(&key).is_some_and(is_member) {
                return false;
            }
            if let Value::Object(node) = node {
                prune(schema.and_then(Schema::items), item, node, below(&key));
            }
            true
        }),
        _ => {}
    }
}

/// Takes what nobody owns out of a set.
pub fn strip(fields: &mut Fields) {
    for name in UNOWNED {
        fields.remove(&field_element(name));
    }
    let Some(Value::Object(metadata)) = fields.get_mut("f:metadata") else { return };
    for name in UNOWNED_METADATA {
        metadata.remove(&field_element(name));
    }
    metadata.remove(".");
    if metadata.is_empty() {
        fields.remove("f:metadata");
    }
}
