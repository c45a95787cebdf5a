//! The descriptors: which field of which message has which number, name and type.
//!
//! Format of `messages.txt`, written by the example `upstream_protobuf`: a line without indent names a message
//! (` list` after it: its JSON is the list that is its only field); a line with one space is a field: number, JSON
//! name (`-` for an inlined message), type, flags. Types: `s`tring, `i`nt32, `l` int64, `b`ool, b`y`tes, `d`ouble, a
//! message (`.Name` in the same package); `[]` before it: repeated, `{}`: a map from strings. Flags: `*` a pointer in
//! Go, so that zero and absent differ; `!` written also when zero; `~` inlined.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::kinds;

pub(super) struct Message {
    pub name: &'static str,
    /// The JSON is the value of the only field.
    pub is_list: bool,
    /// By number.
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy)]
pub(super) struct Field {
    pub number: u32,
    pub name: &'static str,
    pub field_type: Type,
    pub shape: Shape,
    pub pointer: bool,
    pub always: bool,
    pub inline: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

#[derive(Clone, Copy)]
pub(super) enum Type {
    String,
    Int32,
    Int64,
    Bool,
    Bytes,
    Double,
    /// An index into the table.
    Message(usize),
    Special(Special),
}

/// Messages whose JSON is not an object of their fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// JSON text, or an envelope.
    RawExtension,
    /// JSON text: FieldsV1 and JSON.
    Json,
    PropsOrArray,
    PropsOrBool,
    PropsOrStringArray,
}

impl Special {
    fn of(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("io.k8s.")? {
            "apimachinery.pkg.api.resource.Quantity" => Self::Quantity,
            "apimachinery.pkg.util.intstr.IntOrString" => Self::IntOrString,
            "apimachinery.pkg.apis.meta.v1.Time" => Self::Time,
            "apimachinery.pkg.apis.meta.v1.MicroTime" => Self::MicroTime,
            "apimachinery.pkg.runtime.RawExtension" => Self::RawExtension,
            "apimachinery.pkg.apis.meta.v1.FieldsV1" => Self::Json,
            other => match other.strip_prefix("apiextensions-apiserver.pkg.apis.apiextensions.v1.")? {
                "JSON" => Self::Json,
                "JSONSchemaPropsOrArray" => Self::PropsOrArray,
                "JSONSchemaPropsOrBool" => Self::PropsOrBool,
                "JSONSchemaPropsOrStringArray" => Self::PropsOrStringArray,
                _ => return None,
            },
        })
    }
}

struct Table {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| parse(include_str!("messages.txt")));

fn parse(text: &'static str) -> Table {
    let lines = || text.lines().filter(|l| !l.starts_with('#'));
    let heads: Vec<(&str, &str)> =
        lines().filter(|l| !l.starts_with(' ')).map(|l| l.split_once(' ').unwrap_or((l, ""))).collect();
    let by_name: HashMap<&str, usize> = heads.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let mut messages: Vec<Message> = Vec::with_capacity(heads.len());
    for line in lines() {
        match (line.strip_prefix(' '), messages.last_mut()) {
            (Some(text), Some(message)) => message.fields.extend(field(text, message.name, &by_name)),
            (Some(_), None) => {}
            (None, _) => {
                let (name, flag) = line.split_once(' ').unwrap_or((line, ""));
                messages.push(Message { name, is_list: flag == "list", fields: Vec::new() });
            }
        }
    }
    for message in &mut messages {
        message.fields.sort_by_key(|f| f.number);
    }
    Table { messages, by_name }
}

/// `None` for a line that is not one: the tests compare the table with the schemas.
fn field(text: &'static str, message: &str, by_name: &HashMap<&str, usize>) -> Option<Field> {
    let mut words = text.split(' ');
    let number = words.next()?.parse().ok()?;
    let name = words.next()?;
    let type_text = words.next()?;
    let flags = words.next().unwrap_or("");
    let (shape, type_name) = if let Some(item) = type_text.strip_prefix("[]") {
        (Shape::List, item)
    } else if let Some(value) = type_text.strip_prefix("{}") {
        (Shape::Map, value)
    } else {
        (Shape::One, type_text)
    };
    let field_type = match type_name {
        "s" => Type::String,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "b" => Type::Bool,
        "y" => Type::Bytes,
        "d" => Type::Double,
        _ => {
            let full = match type_name.strip_prefix('.') {
                Some(short) => format!("{}.{short}", message.rsplit_once('.')?.0),
                None => type_name.to_owned(),
            };
            match Special::of(&full) {
                Some(special) => Type::Special(special),
                None => Type::Message(*by_name.get(&*full)?),
            }
        }
    };
    let flag = |c| flags.contains(c);
    Some(Field { number, name, field_type, shape, pointer: flag('*'), always: flag('!'), inline: flag('~') })
}

pub(super) fn at(index: usize) -> &'static Message {
    // Indices come from the table itself.
    &TABLE.messages[index]
}

pub(super) fn named(name: &str) -> Option<&'static Message> {
    TABLE.by_name.get(name).map(|index| at(*index))
}

/// The message of an object, a list, options or a Status.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let special = match (api_version, kind) {
        // Clients send and accept these in the version of whatever they are about.
        (
            _,
            "Status"
            | "DeleteOptions"
            | "CreateOptions"
            | "UpdateOptions"
            | "PatchOptions"
            | "ListOptions"
            | "APIGroup"
            | "APIGroupList"
            | "APIResourceList"
            | "APIVersions"
            | "PartialObjectMetadata"
            | "PartialObjectMetadataList",
        ) => Some(format!("{META}.{kind}")),
        ("autoscaling/v1", "Scale") => Some("io.k8s.api.autoscaling.v1.Scale".to_owned()),
        ("policy/v1", "Eviction") => Some("io.k8s.api.policy.v1.Eviction".to_owned()),
        ("authentication.k8s.io/v1", "TokenRequest") => Some("io.k8s.api.authentication.v1.TokenRequest".to_owned()),
        _ => None,
    };
    if let Some(name) = special {
        return named(&name);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(found) = kinds::find_kind(group, version, kind) {
        return named(&found.schema_name);
    }
    let item = kinds::find_kind(group, version, kind.strip_suffix("List")?)?;
    named(&format!("{}List", item.schema_name))
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static Message> {
    TABLE.messages.iter()
}
