//! What can be requested, from the table of kinds; the two documents render it.

use serde_json::Value;

use super::definitions::{META, body_schema, gvk};
use crate::kinds::{Kind, Subresource};

/// A query or path parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub value_type: &'static str,
    pub description: &'static str,
}

pub(super) const NAME: Parameter = Parameter { name: "name", value_type: "string", description: "The object's name." };
pub(super) const NAMESPACE: Parameter =
    Parameter { name: "namespace", value_type: "string", description: "The object's namespace." };

const fn query(name: &'static str, value_type: &'static str, description: &'static str) -> Parameter {
    Parameter { name, value_type, description }
}

const PRETTY: Parameter = query("pretty", "string", "Whether the answer is indented for people.");
const DRY_RUN: Parameter = query("dryRun", "string", "With All, everything happens but the write.");
const FIELD_MANAGER: Parameter =
    query("fieldManager", "string", "The name under which field ownership is recorded; at most 128 characters.");
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
);
const FORCE: Parameter =
    query("force", "boolean", "Whether an apply patch takes over the fields of others. Only for apply patches.");

const WRITE: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const GET: &[Parameter] = &[PRETTY];
const DELETE: &[Parameter] = &[
    PRETTY,
    DRY_RUN,
    query("gracePeriodSeconds", "integer", "The time that the object gets to end; 0: at once."),
    query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    query("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const LIST: &[Parameter] = &[
    PRETTY,
    query("allowWatchBookmarks", "boolean", "Whether a watch may carry bookmarks."),
    query("continue", "string", "Where the next chunk of a list begins."),
    query("fieldSelector", "string", "Restricts to objects whose fields match."),
    query("labelSelector", "string", "Restricts to objects whose labels match."),
    query("limit", "integer", "The most objects that one answer has."),
    query("resourceVersion", "string", "The oldest state that may be served."),
    query("resourceVersionMatch", "string", "How resourceVersion is meant: NotOlderThan or Exact."),
    query("sendInitialEvents", "boolean", "Whether a watch begins with the objects that are there."),
    query("timeoutSeconds", "integer", "When the server ends the request."),
    query("watch", "boolean", "Answer with changes instead of a list."),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// The schema of the answer.
    Object,
    Patch,
    DeleteOptions,
}

#[derive(Debug)]
pub(super) struct Operation {
    /// `get`, `put`, `post`, `patch`, `delete`.
    pub method: &'static str,
    /// `x-kubernetes-action`.
    pub action: &'static str,
    pub id: String,
    /// `apps_v1`.
    pub tag: String,
    pub description: String,
    pub parameters: &'static [Parameter],
    pub body: Body,
    /// The name of the schema of the answer, `None` for plain text and streams.
    pub schema: Option<String>,
    /// Of the answer where 200 is not the one for success.
    pub created: bool,
    pub gvk: Value,
}

#[derive(Debug)]
pub(super) struct Path {
    pub path: String,
    pub parameters: Vec<Parameter>,
    pub operations: Vec<Operation>,
}

/// All paths of one kind.
pub(super) fn of_kind(kind: &Kind) -> Vec<Path> {
    let base = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let base = format!("{base}/{}", kind.version);
    let own: Vec<Parameter> = if kind.namespaced { vec![NAMESPACE] } else { Vec::new() };
    let collection = if kind.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{base}/{}", kind.plural)
    };
    let mut out = Vec::new();
    if kind.namespaced && kind.verbs.allows("list") {
        let id = format!("list{}{}ForAllNamespaces", prefix(kind), kind.kind);
        let operation =
            operation(kind, ("get", "list"), id, LIST, Body::None, Some(format!("{}List", kind.schema_name)));
        out.push(Path { path: format!("{base}/{}", kind.plural), parameters: Vec::new(), operations: vec![operation] });
    }
    let operations = collection_operations(kind);
    if !operations.is_empty() {
        out.push(Path { path: collection.clone(), parameters: own.clone(), operations });
    }
    let item: Vec<Parameter> = std::iter::once(NAME).chain(own).collect();
    let operations = item_operations(kind);
    if !operations.is_empty() {
        out.push(Path { path: format!("{collection}/{{name}}"), parameters: item.clone(), operations });
    }
    for subresource in kind.subresources.iter() {
        out.push(Path {
            path: format!("{collection}/{{name}}/{}", subresource.name()),
            parameters: item.clone(),
            operations: subresource_operations(kind, *subresource),
        });
    }
    out
}

fn collection_operations(kind: &Kind) -> Vec<Operation> {
    let own = Some(kind.schema_name.to_string());
    let mut out = Vec::new();
    if kind.verbs.allows("list") {
        let list = Some(format!("{}List", kind.schema_name));
        out.push(operation(kind, ("get", "list"), id(kind, "list", ""), LIST, Body::None, list));
    }
    if kind.verbs.allows("create") {
        out.push(operation(kind, ("post", "post"), id(kind, "create", ""), WRITE, Body::Object, own));
    }
    if kind.verbs.allows("deletecollection") {
        let status = Some(format!("{META}Status"));
        let id = format!("delete{}Collection{}{}", prefix(kind), scope(kind), kind.kind);
        out.push(operation(kind, ("delete", "deletecollection"), id, LIST, Body::DeleteOptions, status));
    }
    out
}

fn item_operations(kind: &Kind) -> Vec<Operation> {
    let own = || Some(kind.schema_name.to_string());
    let mut out = Vec::new();
    if kind.verbs.allows("get") {
        out.push(operation(kind, ("get", "get"), id(kind, "read", ""), GET, Body::None, own()));
    }
    if kind.verbs.allows("update") {
        out.push(operation(kind, ("put", "put"), id(kind, "replace", ""), WRITE, Body::Object, own()));
    }
    if kind.verbs.allows("patch") {
        out.push(operation(kind, ("patch", "patch"), id(kind, "patch", ""), PATCH, Body::Patch, own()));
    }
    if kind.verbs.allows("delete") {
        let status = Some(format!("{META}Status"));
        out.push(operation(kind, ("delete", "delete"), id(kind, "delete", ""), DELETE, Body::DeleteOptions, status));
    }
    out
}

fn subresource_operations(kind: &Kind, subresource: Subresource) -> Vec<Operation> {
    let title = title(subresource.name());
    let schema = body_schema(kind, subresource);
    let mut out = Vec::new();
    for verb in subresource.verbs() {
        let (method, name, parameters, body) = match *verb {
            "get" => ("get", "read", GET, Body::None),
            "update" => ("put", "replace", WRITE, Body::Object),
            "patch" => ("patch", "patch", PATCH, Body::Patch),
            "create" => ("post", "create", WRITE, Body::Object),
            _ => ("delete", "delete", GET, Body::None),
        };
        let connects = schema.is_none() && subresource != Subresource::Log;
        let action = if connects { "connect" } else { method };
        let body = if connects { Body::None } else { body };
        let id = if connects {
            format!("connect{}{}{}{}{title}", prefix(kind), self::title(method), scope(kind), kind.kind)
        } else {
            id(kind, name, &title)
        };
        let mut made = operation(kind, (method, action), id, parameters, body, schema.clone());
        if let Some((group, version, kind)) = subresource.body(kind) {
            made.gvk = serde_json::json!({ "group": group, "version": version, "kind": kind });
        }
        out.push(made);
    }
    out
}

fn operation(
    kind: &Kind,
    (method, action): (&'static str, &'static str),
    id: String,
    parameters: &'static [Parameter],
    body: Body,
    schema: Option<String>,
) -> Operation {
    Operation {
        method,
        action,
        id,
        tag: format!("{}_{}", lower_first(&group_title(kind)), kind.version),
        description: format!("{action} {}", kind.plural),
        parameters,
        body,
        schema,
        created: matches!(method, "post" | "put" | "patch"),
        gvk: gvk(kind, &kind.kind),
    }
}

/// `createAppsV1NamespacedDeployment`.
fn id(kind: &Kind, verb: &str, subresource: &str) -> String {
    format!("{verb}{}{}{}{subresource}", prefix(kind), scope(kind), kind.kind)
}

fn prefix(kind: &Kind) -> String {
    format!("{}{}", group_title(kind), title(&kind.version))
}

fn scope(kind: &Kind) -> &'static str {
    if kind.namespaced { "Namespaced" } else { "" }
}

/// `Core`, `Apps`, `RbacAuthorization`, `StableExampleCom`.
fn group_title(kind: &Kind) -> String {
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(&kind.group);
    if group.is_empty() { "Core".to_owned() } else { group.split('.').map(title).collect() }
}

fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn lower_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}
