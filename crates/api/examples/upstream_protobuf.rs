//! Writes `src/protobuf/messages.txt` from Kubernetes' Go modules.
//!
//! ```text
//! cargo run -p skiff-api --example upstream_protobuf -- API_DIR APIMACHINERY_DIR APIEXTENSIONS_DIR AGGREGATOR_DIR \
//!     > crates/api/src/protobuf/messages.txt
//! ```
//!
//! `generated.proto` gives the messages; which fields are pointers, always written or inlined is only in the tags of
//! the Go structs beside it. Only what the served kinds reach is written, and only facts: names, numbers, types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use skiff_api::kinds;

type Error = Box<dyn std::error::Error>;

struct Field {
    number: u32,
    name: String,
    /// `s`, `i`, …, or a message's full name.
    type_name: String,
    repeated: bool,
    map: bool,
}

/// What the Go struct says about a field.
#[derive(Clone)]
struct Tag {
    json_name: String,
    pointer: bool,
    always: bool,
    inline: bool,
}

#[derive(Default)]
struct Source {
    messages: BTreeMap<String, Vec<Field>>,
    /// By package, struct and number.
    tags: BTreeMap<(String, String, u32), Tag>,
}

/// Messages whose JSON is not an object of their fields: known to the decoder by name.
const SPECIAL: &[&str] = &[
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

const EXTRA_ROOTS: &[&str] = &[
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.CreateOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.UpdateOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PatchOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
];

fn main() -> Result<(), Error> {
    let mut source = Source::default();
    for root in std::env::args().skip(1) {
        let mut found = Vec::new();
        find(Path::new(&root), &mut found)?;
        for file in found {
            read_package(&mut source, &file)?;
        }
    }
    let mut wanted: Vec<String> = EXTRA_ROOTS.iter().map(|r| (*r).to_owned()).collect();
    for kind in kinds::builtin() {
        wanted.push(kind.schema_name.to_string());
        if kind.verbs.allows("list") {
            wanted.push(format!("{}List", kind.schema_name));
        }
    }
    let text = write(&source, wanted)?;
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn find(directory: &Path, out: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, out)?;
        } else if path.ends_with("generated.proto") {
            out.push(path);
        }
    }
    Ok(())
}

/// `k8s.io.kube_aggregator.x` → `io.k8s.kube-aggregator.x`, as schemas are named.
fn schema_package(package: &str) -> String {
    format!("io.k8s.{}", package.trim_start_matches("k8s.io.")).replace('_', "-")
}

fn read_package(source: &mut Source, proto: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(proto)?;
    let mut package = String::new();
    let mut message: Option<String> = None;
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("package ") {
            package = schema_package(rest.trim_end_matches(';'));
        } else if let Some(rest) = line.strip_prefix("message ") {
            let name = format!("{package}.{}", rest.trim_end_matches('{').trim());
            source.messages.entry(name.clone()).or_default();
            message = Some(name);
        } else if line == "}" {
            message = None;
        } else if let (Some(name), Some(field)) = (&message, field(line, &package)) {
            source.messages.entry(name.clone()).or_default().push(field);
        }
    }
    let directory = proto.parent().ok_or("a proto file without a directory")?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with("generated") {
            read_tags(source, &package, &std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// `optional string name = 1;`, `repeated Foo x = 2;`, `map<string, Foo> y = 3;`
fn field(line: &str, package: &str) -> Option<Field> {
    let (declaration, number) = line.strip_suffix(';')?.rsplit_once('=')?;
    let number = number.split('[').next()?.trim().parse().ok()?;
    let (type_text, name) = declaration.trim().rsplit_once(' ')?;
    let (repeated, map, raw) = if let Some(value) = type_text.strip_prefix("map<string,") {
        (false, true, value.trim_end_matches('>').trim())
    } else if let Some(item) = type_text.strip_prefix("repeated ") {
        (true, false, item)
    } else {
        (false, false, type_text.strip_prefix("optional ").or(type_text.strip_prefix("required "))?)
    };
    let type_name = match raw.trim() {
        "string" => "s".to_owned(),
        "int32" => "i".to_owned(),
        "int64" => "l".to_owned(),
        "bool" => "b".to_owned(),
        "bytes" => "y".to_owned(),
        "double" => "d".to_owned(),
        other => match other.strip_prefix('.') {
            Some(full) => schema_package(full),
            None => format!("{package}.{other}"),
        },
    };
    Some(Field { number, name: name.to_owned(), type_name, repeated, map })
}

fn read_tags(source: &mut Source, package: &str, text: &str) {
    let mut current = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("type ") {
            current = rest.split(' ').next().unwrap_or("").to_owned();
        }
        let Some((declaration, tags)) = line.split_once('`') else { continue };
        let tag = |key: &str| tags.split_once(&format!("{key}:\"")).and_then(|(_, t)| t.split('"').next());
        let (Some(json), Some(protobuf)) = (tag("json"), tag("protobuf")) else { continue };
        let Some(number) = protobuf.split(',').nth(1).and_then(|n| n.parse().ok()) else { continue };
        let mut options = json.split(',');
        let json_name = options.next().unwrap_or("").to_owned();
        let options: Vec<&str> = options.collect();
        let tag = Tag {
            json_name,
            pointer: declaration.split_whitespace().last().is_some_and(|t| t.starts_with('*')),
            always: !options.iter().any(|o| matches!(*o, "omitempty" | "omitzero")),
            // An embedded struct has no name of its own.
            inline: options.contains(&"inline") || json.is_empty(),
        };
        source.tags.insert((package.to_owned(), current.clone(), number), tag);
    }
}

fn write(source: &Source, mut wanted: Vec<String>) -> Result<String, Error> {
    let mut done = BTreeSet::new();
    let mut out = String::from("# Written by the example upstream_protobuf; the format is described in messages.rs.\n");
    let mut texts = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if SPECIAL.contains(&name.as_str()) || !done.insert(name.clone()) {
            continue;
        }
        let fields = source.messages.get(&name).ok_or_else(|| format!("no message {name}"))?;
        let (package, short) = name.rsplit_once('.').ok_or("a message without a package")?;
        let mut text = String::new();
        let mut flag = "";
        for field in fields {
            let key = (package.to_owned(), short.to_owned(), field.number);
            let tag = match source.tags.get(&key) {
                Some(tag) => tag.clone(),
                // A named list in Go (ExtraValue, Verbs): no struct, so no tags; its JSON is the list.
                None if fields.len() == 1 && field.name == "items" && field.repeated => {
                    flag = " list";
                    Tag { json_name: "items".to_owned(), pointer: false, always: false, inline: false }
                }
                None => return Err(format!("no Go field for {name}.{} = {}", field.name, field.number).into()),
            };
            let shape = if field.repeated {
                "[]"
            } else if field.map {
                "{}"
            } else {
                ""
            };
            let flags = format!(
                "{}{}{}",
                if tag.pointer { "*" } else { "" },
                if tag.always { "!" } else { "" },
                if tag.inline { "~" } else { "" }
            );
            let json_name = if tag.inline { "-" } else { &tag.json_name };
            let same = field.type_name.strip_prefix(package).and_then(|t| t.strip_prefix('.'));
            let type_name = same.map_or_else(|| field.type_name.clone(), |t| format!(".{t}"));
            text += &format!(" {} {json_name} {shape}{type_name} {flags}\n", field.number).replace(" \n", "\n");
            if field.type_name.len() > 1 {
                wanted.push(field.type_name.clone());
            }
        }
        texts.insert(format!("{name}{flag}"), text);
    }
    for (name, text) in texts {
        out += &format!("{name}\n{text}");
    }
    Ok(out)
}
