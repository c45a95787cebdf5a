//! An application's modules and files, from the layers of its image.

use std::{collections::HashMap, future::Future, io::Read as _, path::Path};

use super::app::{self, App, ContentRef, LockedComponent};
use crate::{
    artefact::{Descriptor, MODULE_TYPES},
    config::IMAGE_BYTES_MAX,
    images, module,
};

/// Files of a component, packed together.
const ARCHIVE_TYPE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
/// Layers of one application.
const LAYERS_MAX: usize = 1024;
/// Files of one application.
const FILES_MAX: usize = 16_384;

/// An application and what it is made of.
pub struct Content {
    pub app: App,
    /// Each component's module, in binary form, by its digest.
    pub modules: Vec<(String, Vec<u8>)>,
    /// Component, path, content.
    pub files: Vec<(String, String, Vec<u8>)>,
}

/// Fetches the layers of an application and puts it together. `manifest` is its locked manifest.
///
/// # Errors
/// What is missing, too large, or not done here.
pub async fn read<F>(manifest: &[u8], layers: &[Descriptor], blob: impl Fn(Descriptor) -> F) -> Result<Content, String>
where
    F: Future<Output = Result<Vec<u8>, String>>,
{
    let (mut app, components) = app::parse(manifest)?;
    if layers.len() > LAYERS_MAX {
        return Err(format!("it has {} layers; the limit is {LAYERS_MAX}", layers.len()));
    }
    let mut pieces = Pieces::default();
    for layer in layers.iter().filter(|layer| layer.media_type != app::MANIFEST_TYPE) {
        pieces.admit(layer.size)?;
        let bytes = blob(layer.clone()).await?;
        if layer.media_type == ARCHIVE_TYPE {
            pieces.unpack(&bytes).map_err(|error| format!("layer {}: {error}", layer.digest))?;
        }
        // A module stays what it is named after.
        pieces.by_digest.insert(layer.digest.clone(), bytes);
    }
    let mut modules = Vec::new();
    for (component, locked) in app.components.iter_mut().zip(&components) {
        let bytes =
            pieces.find(&locked.source).ok_or_else(|| lacks(locked, "module", locked.source.digest.as_deref()))?;
        let read = module::read(&bytes).map_err(|error| format!("Spin component {:?}: {error}", locked.id))?;
        component.module = images::digest(&read);
        if modules.iter().all(|(digest, _)| *digest != component.module) {
            modules.push((component.module.clone(), read));
        }
    }
    let files = files(&components, &pieces)?;
    Ok(Content { app, modules, files })
}

impl Content {
    /// Writes the files of each component into a directory of its name.
    ///
    /// # Errors
    /// Of the disk.
    pub fn lay_out(&self, directory: &Path) -> std::io::Result<()> {
        if directory.exists() {
            return Ok(());
        }
        let mut unfinished = directory.as_os_str().to_owned();
        unfinished.push(".tmp");
        let unfinished = Path::new(&unfinished);
        let _ = std::fs::remove_dir_all(unfinished);
        std::fs::create_dir_all(unfinished)?;
        for (component, path, bytes) in &self.files {
            // Checked when the manifest was read: neither leads out of the directory.
            let file = unfinished.join(component).join(path.trim_start_matches('/'));
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(file, bytes)?;
        }
        std::fs::rename(unfinished, directory)
    }
}

fn files(components: &[LockedComponent], pieces: &Pieces) -> Result<Vec<(String, String, Vec<u8>)>, String> {
    let mut files = Vec::new();
    for component in components {
        for file in &component.files {
            if files.len() >= FILES_MAX {
                return Err(format!("it has more than {FILES_MAX} files"));
            }
            let bytes = pieces.find(&file.content);
            let bytes = bytes.ok_or_else(|| lacks(component, &file.path, file.content.digest.as_deref()))?;
            files.push((component.id.clone(), file.path.clone(), bytes));
        }
    }
    let total: usize = files.iter().map(|(_, _, bytes)| bytes.len()).sum();
    if total as u64 > IMAGE_BYTES_MAX {
        return Err(format!("its files have {total} bytes together; the limit is {IMAGE_BYTES_MAX}"));
    }
    Ok(files)
}

fn lacks(component: &LockedComponent, what: &str, digest: Option<&str>) -> String {
    format!("Spin component {:?}: its image lacks {what} ({})", component.id, digest.unwrap_or("no digest"))
}

/// Content by digest.
#[derive(Default)]
struct Pieces {
    by_digest: HashMap<String, Vec<u8>>,
    total: u64,
}

impl Pieces {
    fn admit(&mut self, size: u64) -> Result<(), String> {
        self.total = self.total.saturating_add(size);
        if self.total > IMAGE_BYTES_MAX {
            return Err(format!("its layers have more than {IMAGE_BYTES_MAX} bytes together, which is the limit"));
        }
        Ok(())
    }

    fn unpack(&mut self, archive: &[u8]) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("it is not a correct tar archive: {error}");
        let reader = flate2::read::GzDecoder::new(archive).take(2 * IMAGE_BYTES_MAX);
        for entry in tar::Archive::new(reader).entries().map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if self.by_digest.len() >= FILES_MAX {
                return Err(format!("it has more than {FILES_MAX} files"));
            }
            self.admit(entry.size())?;
            let mut bytes = Vec::new();
            entry.take(IMAGE_BYTES_MAX).read_to_end(&mut bytes).map_err(wrong)?;
            self.by_digest.insert(images::digest(&bytes), bytes);
        }
        Ok(())
    }

    fn find(&self, content: &ContentRef) -> Option<Vec<u8>> {
        use base64::Engine as _;
        if let Some(inline) = &content.inline {
            return base64::engine::general_purpose::STANDARD.decode(inline).ok();
        }
        self.by_digest.get(content.digest.as_ref()?).cloned()
    }
}

/// The locked manifest among what an image has, if it is an application: a layer, or its config as of old.
pub fn manifest<'a>(config: Option<&'a Descriptor>, layers: &'a [Descriptor]) -> Option<&'a Descriptor> {
    let modules = layers.iter().any(|layer| MODULE_TYPES.contains(&layer.media_type.as_str()));
    layers.iter().chain(config).find(|layer| modules && layer.media_type == app::MANIFEST_TYPE)
}
