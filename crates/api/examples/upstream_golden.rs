//! Compares this crate with the golden files of Kubernetes' API module: every kind as JSON and as protobuf.
//!
//! ```text
//! cargo run -p skiff-api --example upstream_golden -- API_DIR/testdata/HEAD
//! ```
//!
//! Each object must read the same from both, survive being written as protobuf, and pass strict decoding unchanged.

use std::path::Path;

use serde_json::Value;
use skiff_api::decode::{FieldValidation, decode};
use skiff_api::{kinds, protobuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: upstream_golden DIRECTORY")?;
    let (mut checked, mut wrong) = (0, 0);
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "pb") {
            continue;
        }
        let json: Value = serde_json::from_slice(&std::fs::read(path.with_extension("json"))?)?;
        let text = |field: &str| json[field].as_str().unwrap_or("");
        if !protobuf::is_known(text("apiVersion"), text("kind")) {
            continue;
        }
        let differences = check(&path, &json)?;
        checked += 1;
        wrong += usize::from(!differences.is_empty());
        if !differences.is_empty() {
            eprintln!("{}\n  {}", path.display(), differences.join("\n  "));
        }
    }
    eprintln!("{checked} kinds compared, {wrong} differ");
    if wrong == 0 { Ok(()) } else { Err("the golden files differ".into()) }
}

fn check(path: &Path, json: &Value) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut out = Vec::new();
    compare("protobuf read", json, &protobuf::decode(&std::fs::read(path)?)?, "", &mut out);
    compare("protobuf written", json, &protobuf::decode(&protobuf::encode(json)?)?, "", &mut out);
    let version = json["apiVersion"].as_str().unwrap_or("");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    if let Some(kind) = kinds::find_kind(group, version, json["kind"].as_str().unwrap_or("")) {
        let decoded = decode(kind.schema(), json.clone().into(), FieldValidation::Strict)?;
        compare("decoded", json, &decoded.value, "", &mut out);
    }
    Ok(out)
}

fn compare(what: &str, expected: &Value, found: &Value, path: &str, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                compare(what, value, b.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"), out);
            }
            out.extend(b.keys().filter(|k| !a.contains_key(*k)).map(|k| format!("{what}: {path}.{k} is new")));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| compare(what, a, b, &format!("{path}[]"), out));
        }
        _ if expected == found => {}
        _ => out.push(format!("{what}: {path} is {found} instead of {expected}")),
    }
}
