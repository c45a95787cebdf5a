//! `-o`: how objects are shown.

pub mod jsonpath;
pub mod tables;

use std::{io::Write, str::FromStr};

use anyhow::{Result, bail};
use serde::Serialize as _;
use serde_json::{Value, json};

use jsonpath::{Path, Template};

/// `-o FORMAT`.
#[derive(Clone, Debug, Default)]
pub enum Format {
    #[default]
    Table,
    Wide,
    Name,
    Json,
    Yaml,
    JsonPath(Template),
    Columns(Vec<(String, Path)>),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, argument) = text.split_once('=').unwrap_or((text, ""));
        let template = |text: &str| Template::parse(text).map_err(|e| e.to_string());
        match format {
            "wide" => Ok(Self::Wide),
            "name" => Ok(Self::Name),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "jsonpath" if argument.is_empty() => Err("give a template: -o jsonpath='{.metadata.name}'".to_owned()),
            // Upstream takes a bare path, too.
            "jsonpath" if !argument.contains('{') => template(&format!("{{{argument}}}")).map(Self::JsonPath),
            "jsonpath" => template(argument).map(Self::JsonPath),
            "custom-columns" => columns(argument).map(Self::Columns).map_err(|e| e.to_string()),
            _ => Err("one of wide, name, json, yaml, jsonpath=…, custom-columns=…".to_owned()),
        }
    }
}

/// `NAME:.metadata.name,IMAGE:.spec.containers[*].image`.
fn columns(text: &str) -> Result<Vec<(String, Path)>> {
    if text.is_empty() {
        bail!("give columns: -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName");
    }
    text.split(',')
        .map(|column| match column.split_once(':') {
            Some((name, path)) => Ok((name.to_owned(), Path::parse(path.trim_matches(['{', '}']))?)),
            None => bail!("{column:?} is not HEADER:PATH"),
        })
        .collect()
}

/// Prints to stdout; a reader that went away (`| head`) is no error of ours.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// As [`say`], with a line end.
pub fn say_line(text: &str) {
    say(&format!("{text}\n"));
}

/// Without what only machines read.
pub fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// kubectl's indentation: four spaces.
pub fn to_json(value: &Value) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    out.push(b'\n');
    Ok(String::from_utf8(out)?)
}

pub fn to_yaml(value: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// One object, or several as a list.
pub fn list_of(mut objects: Vec<Value>, single: bool) -> Value {
    match objects.pop() {
        Some(only) if single && objects.is_empty() => only,
        last => {
            objects.extend(last);
            json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": objects })
        }
    }
}

/// What a format makes of objects; `None` for tables, which the server makes.
pub fn show(
    format: &Format,
    objects: Vec<Value>,
    single: bool,
    name_of: impl Fn(&Value) -> String,
) -> Result<Option<String>> {
    Ok(Some(match format {
        Format::Table | Format::Wide => return Ok(None),
        Format::Name => objects.iter().map(|o| name_of(o) + "\n").collect(),
        Format::Json => to_json(&list_of(objects, single))?,
        Format::Yaml => to_yaml(&list_of(objects, single))?,
        Format::JsonPath(template) => template.render(&list_of(objects, single)),
        Format::Columns(columns) => {
            let header: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let cell = |object: &Value, path: &Path| {
                let found: Vec<String> = path.find(object, object).into_iter().map(jsonpath::plain).collect();
                if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
            };
            let rows = objects.iter().map(|o| columns.iter().map(|(_, path)| cell(o, path)).collect());
            crate::table::render(&header, rows)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let pod =
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"image": "x"}, {"image": "y"}]}});
        let shown = |format: &str| {
            let format = format.parse::<Format>().unwrap();
            show(&format, vec![pod.clone()], true, |_| "pod/a".to_owned()).unwrap().unwrap()
        };
        assert_eq!(shown("name"), "pod/a\n");
        assert_eq!(shown("jsonpath={.metadata.name}"), "a");
        assert_eq!(shown("jsonpath=.kind"), "Pod");
        assert_eq!(
            shown("custom-columns=NAME:.metadata.name,IMAGES:.spec.containers[*].image,NODE:.spec.nodeName"),
            "NAME   IMAGES   NODE\na      x,y      <none>\n"
        );
        assert!(shown("json").starts_with("{\n    \"kind\": \"Pod\""));
        assert!(shown("yaml").contains("name: a\n"));
        for wrong in ["xml", "jsonpath", "custom-columns", "custom-columns=a", "jsonpath={"] {
            assert!(wrong.parse::<Format>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_objects_are_a_list() {
        assert_eq!(list_of(vec![json!(1)], true), json!(1));
        assert_eq!(list_of(vec![json!(1)], false)["items"], json!([1]));
        assert_eq!(list_of(vec![json!(1), json!(2)], true)["items"], json!([1, 2]));
        assert_eq!(list_of(vec![], true)["items"], json!([]));
    }
}
