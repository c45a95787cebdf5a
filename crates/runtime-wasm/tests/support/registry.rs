//! Images as a layout or a registry holds them, and a registry of one repository.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use skiff_runtime::ImageSource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Blobs and manifests by digest, as a layout or a registry holds them.
#[derive(Default, Clone)]
pub struct Blobs(pub HashMap<String, Vec<u8>>);

impl Blobs {
    pub fn add(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> serde_json::Value {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        let descriptor = serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.0.insert(digest, bytes);
        descriptor
    }

    pub fn manifest(&mut self, config: (&str, &str), layers: &[(&str, Vec<u8>)]) -> serde_json::Value {
        let config = self.add(config.0, config.1);
        let layers: Vec<_> = layers.iter().map(|(media_type, bytes)| self.add(media_type, bytes.clone())).collect();
        let manifest =
            serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.add(MANIFEST, manifest.to_string())
    }

    pub fn layout(&self, manifests: &[serde_json::Value]) -> ImageSource {
        let mut tar = tar::Builder::new(Vec::new());
        let mut file = |path: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, bytes).unwrap();
        };
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
        file("./index.json", index.to_string().as_bytes());
        for (digest, bytes) in &self.0 {
            file(&format!("blobs/{}", digest.replace(':', "/")), bytes);
        }
        ImageSource::OciLayoutTar(tar.into_inner().unwrap().into())
    }
}

/// A registry of one repository: enough of the distribution specification, and what it was asked.
pub struct Registry {
    pub host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    pub async fn serve(blobs: Blobs, tags: HashMap<String, String>, password: Option<&'static str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (blobs, tags, log) = (blobs.clone(), tags.clone(), log.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let answer = answer(&blobs, &tags, password, &head, &path);
                    log.lock().push(path);
                    let _ = socket.write_all(&answer).await;
                    let _ = socket.shutdown().await;
                });
            }
        });
        Self { host, asked }
    }

    pub fn asked_for(&self, part: &str) -> usize {
        self.asked.lock().iter().filter(|path| path.contains(part)).count()
    }
}

fn answer(blobs: &Blobs, tags: &HashMap<String, String>, password: Option<&str>, head: &str, path: &str) -> Vec<u8> {
    let allowed = password.is_none_or(|password| {
        let encoded = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:"));
        encoded.is_some_and(|line| line.ends_with(password))
    });
    let name = path.rsplit('/').next().unwrap_or_default();
    let digest = tags.get(name).map_or(name, String::as_str);
    // Without a list of referrers, as many registries are: clients look at a tag for it.
    let found = blobs.0.get(digest).filter(|_| !path.contains("/referrers/"));
    let (status, body) = match found {
        _ if !allowed => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"", Vec::new()),
        _ if path == "/v2/" => ("200 OK", b"{}".to_vec()),
        Some(bytes) => ("200 OK", bytes.clone()),
        None => ("404 Not Found", br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}"#.to_vec()),
    };
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.as_ref().and_then(|json| json["mediaType"].as_str()).unwrap_or(MANIFEST);
    let kind = if path.contains("/manifests/") { said } else { "application/octet-stream" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}
