//! OCI images that hold Wasm: which manifest of an index, which layer of a manifest, and what its config says.
//!
//! The CNCF layout has exactly one Wasm layer; ordinary images have tar layers in which the entry point (or the only
//! file ending in `.wasm`) is the module; Spin applications have several (see [`spin`]). What is neither is refused with the names of what was found.

use std::{future::Future, io::Read};

use serde::Deserialize;

use crate::{
    config::IMAGE_BYTES_MAX,
    images::{Content, RunConfig},
    module, spin,
};

pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
pub const MODULE_TYPES: [&str; 3] = [
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];
const IMAGE_CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The largest config that is read: 1 MiB.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Layers of one manifest, as other container tools have it.
const LAYERS_MAX: usize = 128;
/// The most that a compressed layer may unpack to.
const UNPACKED_BYTES_MAX: u64 = 4 * IMAGE_BYTES_MAX;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

/// A manifest or an index of manifests: which of the lists is there tells them apart.
#[derive(Debug, Deserialize)]
pub struct Document {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest cannot be read: {error}"))
    }

    /// The manifest to go on with, if this is an index.
    pub fn choose(&self) -> Result<Option<&Descriptor>, String> {
        let Some(entries) = &self.manifests else { return Ok(None) };
        let wasm = |entry: &&Descriptor| {
            entry.platform.as_ref().is_some_and(|platform| {
                platform.architecture.starts_with("wasm") || platform.os.to_ascii_lowercase().starts_with("wasi")
            })
        };
        if let Some(entry) = entries.iter().find(wasm) {
            return Ok(Some(entry));
        }
        if let [only] = &entries[..] {
            return Ok(Some(only));
        }
        let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let platforms: Vec<_> =
            platforms.map(|platform| format!("{}/{}", platform.os, platform.architecture)).collect();
        Err(format!("its index has no Wasm manifest (architecture wasm); its platforms: {}", platforms.join(", ")))
    }

    /// Fetches config and module, and puts them together.
    pub async fn content<F>(&self, id: String, blob: impl Fn(Descriptor) -> F) -> Result<Content, String>
    where
        F: Future<Output = Result<Vec<u8>, String>>,
    {
        let layers = self.layers.as_deref().unwrap_or_default();
        if layers.len() > LAYERS_MAX {
            return Err(format!("it has {} layers; the limit is {LAYERS_MAX}", layers.len()));
        }
        let config = match &self.config {
            Some(config) if IMAGE_CONFIG_TYPES.contains(&config.media_type.as_str()) => {
                if config.size > CONFIG_BYTES_MAX {
                    return Err(format!("its config has {} bytes; the limit is {CONFIG_BYTES_MAX}", config.size));
                }
                ImageConfig::parse(&blob(config.clone()).await?)?
            }
            _ => ImageConfig::default(),
        };
        if let Some(manifest) = spin::manifest(self.config.as_ref(), layers) {
            return Self::application(id, config.run(), &blob(manifest.clone()).await?, layers, blob).await;
        }
        let found = match self.module_layer()? {
            Some(layer) => blob(layer.clone()).await?,
            None => {
                let mut files = Vec::new();
                for layer in layers.iter().filter(|layer| layer.media_type.contains("tar")) {
                    let bytes = blob(layer.clone()).await?;
                    modules_of_tar(&bytes, &mut files).map_err(|error| format!("layer {}: {error}", layer.digest))?;
                }
                config.pick(files, layers)?
            }
        };
        Ok(Content {
            digests: vec![id.clone()],
            id,
            module: module::read(&found)?,
            run: config.run(),
            signed_by: None,
            app: None,
        })
    }

    /// A Spin application: several modules, and what belongs to them.
    async fn application<F>(
        id: String,
        run: RunConfig,
        manifest: &[u8],
        layers: &[Descriptor],
        blob: impl Fn(Descriptor) -> F,
    ) -> Result<Content, String>
    where
        F: Future<Output = Result<Vec<u8>, String>>,
    {
        let content = spin::read(manifest, layers, blob).await?;
        // What the container counts as its program: one that is served in any case.
        let served = content.app.routes.first().and_then(|(_, index)| content.app.components.get(*index));
        let module = content.modules.iter().find(|(digest, _)| served.is_some_and(|first| first.module == *digest));
        let module = module.map(|(_, bytes)| bytes.clone()).ok_or("the Spin application serves nothing")?;
        Ok(Content { digests: vec![id.clone()], id, module, run, signed_by: None, app: Some(content) })
    }

    /// The one Wasm layer, if there is any.
    fn module_layer(&self) -> Result<Option<&Descriptor>, String> {
        let layers = self.layers.as_deref().unwrap_or_default();
        let modules: Vec<_> = layers.iter().filter(|layer| MODULE_TYPES.contains(&layer.media_type.as_str())).collect();
        match modules[..] {
            [] => Ok(None),
            [one] if one.size > IMAGE_BYTES_MAX => {
                Err(format!("its layer has {} bytes; the limit is {IMAGE_BYTES_MAX}", one.size))
            }
            [one] => Ok(Some(one)),
            _ => {
                let names = modules.iter().map(|layer| format!("{} ({})", layer.digest, layer.media_type));
                let names = names.collect::<Vec<_>>().join(", ");
                Err(format!("it has {} Wasm layers where one is expected: {names}", modules.len()))
            }
        }
    }
}

#[derive(Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<ImageRun>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl ImageConfig {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("its config cannot be read: {error}"))
    }

    fn run(self) -> RunConfig {
        let run = self.config.unwrap_or_default();
        let pair = |text: String| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        RunConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
            working_dir: run.working_dir.filter(|directory| !directory.is_empty()),
        }
    }

    /// The module among the files of the tar layers: the one that is to be run, or the only one.
    fn pick(&self, mut files: Vec<(String, Vec<u8>)>, layers: &[Descriptor]) -> Result<Vec<u8>, String> {
        let run = self.config.as_ref();
        let words = run.into_iter().flat_map(|run| run.entrypoint.iter().chain(&run.cmd).flatten());
        for word in words {
            let path = word.split('#').next().unwrap_or(word);
            let wanted = path.trim_start_matches("./").trim_start_matches('/');
            if let Some(position) = files.iter().rposition(|(name, _)| name == wanted) {
                return Ok(files.swap_remove(position).1);
            }
        }
        match files.len() {
            1 => Ok(files.swap_remove(0).1),
            0 if !self.os.is_empty() && !self.architecture.starts_with("wasm") => Err(format!(
                "it is an image for {}/{} without a Wasm module, which needs a container runtime",
                self.os, self.architecture
            )),
            0 if layers.is_empty() => Err("its manifest names no layers: there is nothing to run".to_owned()),
            0 => {
                let types: Vec<_> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
                Err(format!("it has no Wasm layer; its layers: {}", types.join(", ")))
            }
            _ => {
                let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
                Err(format!("it has several modules and its entrypoint names none of them: {}", names.join(", ")))
            }
        }
    }
}

/// Adds the files of a layer that are modules by their name; one of a later layer replaces an earlier one's.
fn modules_of_tar(bytes: &[u8], files: &mut Vec<(String, Vec<u8>)>) -> Result<(), String> {
    let reader: Box<dyn Read + '_> = match bytes {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(bytes).take(UNPACKED_BYTES_MAX)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err("zstd layers are not supported; use gzip".to_owned()),
        _ => Box::new(bytes),
    };
    let wrong = |error: std::io::Error| format!("it is not a correct tar archive: {error}");
    for entry in tar::Archive::new(reader).entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let path = entry.path().map_err(wrong)?.to_string_lossy().trim_start_matches("./").to_owned();
        if !entry.header().entry_type().is_file() || !(path.ends_with(".wasm") || path.ends_with(".wat")) {
            continue;
        }
        if entry.size() > IMAGE_BYTES_MAX {
            return Err(format!("{path} has {} bytes; the limit is {IMAGE_BYTES_MAX}", entry.size()));
        }
        let mut content = Vec::new();
        entry.take(IMAGE_BYTES_MAX).read_to_end(&mut content).map_err(wrong)?;
        files.retain(|(other, _)| *other != path);
        files.push((path, content));
        let total: usize = files.iter().map(|(_, content)| content.len()).sum();
        if total as u64 > IMAGE_BYTES_MAX {
            return Err(format!("its modules have more than {IMAGE_BYTES_MAX} bytes together, which is the limit"));
        }
    }
    Ok(())
}
