//! Modules and images on the nodes of a cluster, through the API server's node proxy.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, client::Body};
use percent::encode;
use serde_json::Value;

/// The largest module or layout that is sent to a node, in bytes.
pub const BYTES_MAX: usize = 512 << 20;

mod percent {
    /// Encodes a query value.
    pub fn encode(text: &str) -> String {
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
    }
}

/// What to load: the bytes and how to read them.
#[derive(Clone, Debug)]
pub struct Artefact {
    pub bytes: Bytes,
    /// `module` (`.wasm`, `.wat`) or `oci-layout-tar`.
    pub format: &'static str,
}

/// `localhost/STEM:latest`, the reference of a file that was loaded without one.
pub fn default_reference(path: &Path) -> Result<String> {
    let stem = path.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    ensure!(!name.is_empty(), "{} gives no image name: choose one with --name REF", path.display());
    Ok(format!("localhost/{name}:latest"))
}

/// Reads a `.wasm` or `.wat` file, or an OCI image layout directory (sent as a tar archive).
///
/// # Errors
/// When it cannot be read, is over [`BYTES_MAX`], or is a directory without `oci-layout`.
pub fn read(path: &Path) -> Result<Artefact> {
    let shown = path.display();
    let meta = std::fs::metadata(path).with_context(|| format!("failed to read {shown}"))?;
    if !meta.is_dir() {
        ensure!(meta.len() <= BYTES_MAX as u64, "{shown} has {} bytes, over the limit of {BYTES_MAX}", meta.len());
        let bytes = std::fs::read(path).with_context(|| format!("failed to read {shown}"))?;
        return Ok(Artefact { bytes: bytes.into(), format: "module" });
    }
    ensure!(path.join("oci-layout").is_file(), "{shown} is not an OCI image layout: it has no file oci-layout");
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", path).with_context(|| format!("failed to read {shown}"))?;
    let bytes = archive.into_inner().with_context(|| format!("failed to read {shown}"))?;
    ensure!(bytes.len() <= BYTES_MAX, "{shown} has {} bytes, over the limit of {BYTES_MAX}", bytes.len());
    Ok(Artefact { bytes: bytes.into(), format: "oci-layout-tar" })
}

/// The nodes that have an image store of ours: those with the label or the runtime handler of skiff. Simulated nodes
/// need no images.
///
/// # Errors
/// When there is none.
pub async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await.context("failed to list the nodes")?;
    let ours = |node: &Node| {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        info.is_some_and(|i| i.container_runtime_version.starts_with("wasmtime://"))
    };
    let names: Vec<String> = nodes.items.into_iter().filter(ours).filter_map(|n| n.metadata.name).collect();
    ensure!(!names.is_empty(), "the cluster has no node that runs Wasm: images have nowhere to go");
    Ok(names)
}

/// Loads an artefact under a reference on every node, and gives the image of the first.
pub async fn load(client: &Client, nodes: &[String], reference: &str, artefact: &Artefact) -> Result<Value> {
    let query = format!("images?reference={}&format={}", encode(reference), artefact.format);
    each(client, nodes, Method::POST, &query, artefact.bytes.clone()).await
}

/// Pulls a reference on every node.
pub async fn pull(client: &Client, nodes: &[String], reference: &str) -> Result<Value> {
    each(client, nodes, Method::POST, &format!("images/pull?reference={}", encode(reference)), Bytes::new()).await
}

/// Removes a reference from every node.
pub async fn remove(client: &Client, nodes: &[String], reference: &str) -> Result<Value> {
    each(client, nodes, Method::DELETE, &format!("images?reference={}", encode(reference)), Bytes::new()).await
}

/// The images of one node.
pub async fn list(client: &Client, node: &str) -> Result<Vec<Value>> {
    let answer = call(client, node, Method::GET, "images", Bytes::new()).await?;
    Ok(answer.as_array().or_else(|| answer["images"].as_array()).cloned().unwrap_or_default())
}

async fn each(client: &Client, nodes: &[String], method: Method, path: &str, body: Bytes) -> Result<Value> {
    let calls = nodes.iter().map(|node| call(client, node, method.clone(), path, body.clone()));
    let answers = futures::future::try_join_all(calls).await?;
    Ok(answers.into_iter().next().unwrap_or(Value::Null))
}

async fn call(client: &Client, node: &str, method: Method, path: &str, body: Bytes) -> Result<Value> {
    let uri = format!("/api/v1/nodes/{node}/proxy/skiff/v1/{path}");
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/octet-stream")
        .body(Body::from(body.to_vec()))?;
    let response = client.send(request).await.with_context(|| format!("failed to reach node {node}"))?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    if status.is_success() {
        return Ok(value.unwrap_or(Value::Null));
    }
    let message = value.as_ref().and_then(|v| v["message"].as_str().or_else(|| v["error"].as_str()));
    match message {
        Some(message) => bail!("node {node}: {message}"),
        None => bail!("node {node} answered {status}: {}", String::from_utf8_lossy(&bytes).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_image() {
        assert_eq!(default_reference(Path::new("x/Hello_World.wasm")).unwrap(), "localhost/hello-world:latest");
        assert!(default_reference(Path::new("/")).is_err());
    }
}
