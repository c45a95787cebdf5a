//! Manifests: files, directories, URLs and standard input, read into objects; every error names the file and place.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::Value;
use skiff_api::decode::parse_yaml_documents;

/// The annotation by which a manifest names module files for `skiff run` and `skiff apply` to load first:
/// lines of `REFERENCE=PATH`, the path relative to the manifest. Other clusters ignore it.
pub const LOAD_ANNOTATION: &str = "skiff.dev/load";

/// The largest manifest that is read, in bytes; a larger one is refused.
const BYTES_MAX: u64 = 64 << 20;

/// An object and where it was read.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub object: DynamicObject,
    /// For messages: `hello.yaml`, document 2.
    pub source: String,
    /// What relative paths in it are relative to; `None` for URLs and standard input.
    pub directory: Option<PathBuf>,
}

/// Reads every object of a file, a directory (its `.yaml`, `.yml` and `.json` files, sorted), a URL or `-`.
///
/// # Errors
/// When the source cannot be read, is not YAML (with line and column), or holds something that is no object.
pub async fn read(source: &str) -> Result<Vec<Manifest>> {
    if source.starts_with("https://") || source.starts_with("http://") {
        let text = fetch(source).await.with_context(|| format!("failed to fetch {source}"))?;
        return parse(&text, source, None);
    }
    if source == "-" {
        let mut text = String::new();
        std::io::stdin().take(BYTES_MAX).read_to_string(&mut text).context("failed to read standard input")?;
        return parse(&text, "standard input", None);
    }
    let path = Path::new(source);
    if !path.is_dir() {
        return read_file(path);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("failed to read {source}"))? {
        let path = entry?.path();
        let wanted = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if wanted && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no .yaml, .yml or .json file in {source}");
    let mut out = Vec::new();
    for file in files {
        out.extend(read_file(&file)?);
    }
    Ok(out)
}

fn read_file(path: &Path) -> Result<Vec<Manifest>> {
    let name = path.display().to_string();
    let size = fs::metadata(path).with_context(|| format!("failed to read {name}"))?.len();
    ensure!(size <= BYTES_MAX, "{name} has {size} bytes, over the limit of {BYTES_MAX} for a manifest");
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?;
    let directory = path.parent().map(|p| if p.as_os_str().is_empty() { PathBuf::from(".") } else { p.into() });
    parse(&text, &name, directory)
}

/// Parses the YAML (or JSON) documents of one source; `List` objects are unfolded.
fn parse(text: &str, source: &str, directory: Option<PathBuf>) -> Result<Vec<Manifest>> {
    let documents = parse_yaml_documents(text).map_err(|e| anyhow::anyhow!("{source} is not valid YAML: {e}"))?;
    let mut out = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let value = document.value;
        if value.is_null() {
            continue;
        }
        let source = format!("{source}, document {}", index + 1);
        let is_list = value["kind"].as_str().is_some_and(|k| k.ends_with("List")) && value["items"].is_array();
        let items = if is_list { value["items"].as_array().cloned().unwrap_or_default() } else { vec![value] };
        for item in items {
            out.push(to_manifest(item, &source, directory.clone())?);
        }
    }
    ensure!(!out.is_empty(), "{source} holds no objects");
    Ok(out)
}

fn to_manifest(value: Value, source: &str, directory: Option<PathBuf>) -> Result<Manifest> {
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().is_none_or(str::is_empty) {
            bail!("{source} has no {field}: every object needs apiVersion and kind");
        }
    }
    let object = DynamicObject::deserialize(value).with_context(|| format!("{source} is not an object"))?;
    Ok(Manifest { object, source: source.into(), directory })
}

impl Manifest {
    /// What [`LOAD_ANNOTATION`] asks for: references and the files to load under them.
    ///
    /// # Errors
    /// When a line is not `REFERENCE=PATH`, or the manifest has no directory (it came from elsewhere: a file of
    /// this machine is not loaded on its word).
    pub fn images(&self) -> Result<Vec<(String, PathBuf)>> {
        let Some(text) = self.object.metadata.annotations.as_ref().and_then(|a| a.get(LOAD_ANNOTATION)) else {
            return Ok(Vec::new());
        };
        let Some(directory) = &self.directory else {
            bail!("{}: {LOAD_ANNOTATION} works in local files only", self.source);
        };
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| match line.split_once('=') {
                Some((reference, path)) => Ok((reference.trim().to_owned(), directory.join(path.trim()))),
                None => bail!("{}: {LOAD_ANNOTATION}: {line:?} is not REFERENCE=PATH", self.source),
            })
            .collect()
    }
}

async fn fetch(url: &str) -> Result<String> {
    let config = kube::Config::new(url.parse()?);
    let client = kube::Client::try_from(config)?;
    let request = http::Request::get(url).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let manifests = parse(text, "x.yaml", None).unwrap();
        manifests.iter().map(|m| m.object.metadata.name.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn documents_and_lists_are_unfolded() {
        let pod = |n: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {n}}}\n");
        assert_eq!(names(&format!("# c\n---\n{}---\n---\n{}", pod("a"), pod("b"))), ["a", "b"]);
        assert_eq!(
            names(
                r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}]}"#
            ),
            ["c"]
        );
    }

    #[test]
    fn errors_name_the_file_and_the_place() {
        let error = parse("a: [1,\nb: }", "x.yaml", None).unwrap_err().to_string();
        assert!(error.starts_with("x.yaml is not valid YAML: "), "{error}");
        assert!(error.contains("line 1 column 4"), "{error}");
        let error = parse("kind: Pod\n", "x.yaml", None).unwrap_err().to_string();
        assert_eq!(error, "x.yaml, document 1 has no apiVersion: every object needs apiVersion and kind");
        assert_eq!(parse("", "x.yaml", None).unwrap_err().to_string(), "x.yaml holds no objects");
    }

    #[test]
    fn images_are_relative_to_the_manifest() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    skiff.dev/load: a:1=../a.wasm\n";
        let manifests = parse(text, "m/x.yaml", Some("m".into())).unwrap();
        assert_eq!(manifests[0].images().unwrap(), [("a:1".to_owned(), PathBuf::from("m/../a.wasm"))]);
        assert!(parse(text, "u", None).unwrap()[0].images().is_err());
    }
}
