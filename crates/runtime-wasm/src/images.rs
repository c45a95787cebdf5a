//! The images of this node: module bytes by digest, and an index of the names they go by.
//!
//! What must stay true: the index names only modules that are there and were compiled once; it is replaced
//! atomically, so a crash leaves the old or the new one; module bytes are checked against their digest when they
//! are read. An image goes when its last name goes.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use skiff_runtime::{Error, Image, ImageKind, Result, reference, reference::Reference};

use crate::{compile::hex, spin};

/// What an image's config says about how to run it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct RunConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
}

/// An image as it comes from a file, a layout or a registry.
pub struct Content {
    /// The image's id: the manifest's digest, or the module's own if it came without one.
    pub id: String,
    /// What it can be named by: its manifest's digest and those of the indexes that led to it.
    pub digests: Vec<String>,
    pub module: Vec<u8>,
    pub run: RunConfig,
    /// The key that it was found to be signed by.
    pub signed_by: Option<String>,
    /// Of a Spin application.
    pub app: Option<spin::Content>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The digest of the module's bytes: what is compiled and shared.
    pub module: String,
    pub size_bytes: u64,
    /// `REPOSITORY:TAG`, canonical.
    pub tags: Vec<String>,
    /// `REPOSITORY@DIGEST`.
    pub digests: Vec<String>,
    /// Those of them that it was asked for by: they keep it here as a tag does.
    pub pinned: Vec<String>,
    pub run: RunConfig,
    /// Keys that it was found to be signed by.
    #[serde(default)]
    pub signed_by: Vec<String>,
    /// Of a Spin application; its components' files are kept beside the modules.
    #[serde(default)]
    pub app: Option<spin::App>,
}

#[derive(Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Record>,
}

/// What went from the index.
#[derive(Default)]
struct Gone {
    images: Vec<String>,
    modules: Vec<String>,
}

pub struct Images {
    directory: PathBuf,
    index: Mutex<Index>,
}

impl Images {
    /// Reads the index. One that cannot be read is put aside, and the node begins without images.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let directory = root.join("images");
        std::fs::create_dir_all(directory.join("modules"))?;
        let path = directory.join("index.json");
        let index = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), error = %error, "image index unreadable: put aside");
                let _ = std::fs::rename(&path, directory.join("index.broken.json"));
                Index::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(error),
        };
        // What a process that died was about to name.
        for entry in std::fs::read_dir(directory.join("files")).into_iter().flatten().flatten() {
            let named = |id: &String| id.trim_start_matches("sha256:") == entry.file_name().to_string_lossy();
            if !index.images.keys().any(named) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { directory, index: Mutex::new(index) })
    }

    /// By reference or by id.
    pub fn find(&self, name: &str) -> Result<Option<(String, Record)>> {
        let index = self.index.lock();
        Ok(index.find(name)?.and_then(|id| index.images.get_key_value(&id)).map(|(id, r)| (id.clone(), r.clone())))
    }

    /// The digests of the modules that images name.
    pub fn modules(&self) -> HashSet<String> {
        self.index.lock().images.values().flat_map(Record::modules).map(str::to_owned).collect()
    }

    pub fn list(&self) -> Vec<Image> {
        self.index.lock().images.iter().map(|(id, record)| describe(id, record)).collect()
    }

    pub fn read(&self, module: &str) -> std::io::Result<Vec<u8>> {
        let bytes = std::fs::read(self.path(module))?;
        if digest(&bytes) != module {
            return Err(std::io::Error::other(format!(
                "{module} is damaged on disk; remove the image and pull it again"
            )));
        }
        Ok(bytes)
    }

    /// Keeps the module's bytes, before anything names them.
    pub fn keep(&self, module: &str, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.path(module);
        if path.exists() {
            return Ok(());
        }
        write_atomically(&path, &[bytes])
    }

    /// Keeps an image and names it. Gives modules that no image holds any more.
    pub fn add(&self, name: &Reference, content: &Content, module: &str) -> std::io::Result<(Image, Vec<String>)> {
        let record = Record {
            module: module.to_owned(),
            size_bytes: content.module.len() as u64,
            tags: Vec::new(),
            digests: Vec::new(),
            pinned: Vec::new(),
            run: content.run.clone(),
            signed_by: Vec::new(),
            app: content.app.as_ref().map(|app| app.app.clone()),
        };
        let mut index = self.index.lock();
        // Another image with this module may have gone since it was kept.
        self.keep(module, &content.module)?;
        if let Some(app) = &content.app {
            app.modules.iter().try_for_each(|(digest, bytes)| self.keep(digest, bytes))?;
            app.lay_out(&self.files(&content.id))?;
        }
        index.images.entry(content.id.clone()).or_insert(record).sign(content.signed_by.as_deref());
        self.commit(index, name, &content.id, &content.digests)
    }

    /// Names an image that is here already; `None` if it has gone.
    pub fn name(
        &self,
        name: &Reference,
        id: &str,
        digests: &[String],
        signed_by: Option<&str>,
    ) -> std::io::Result<Option<(Image, Vec<String>)>> {
        let mut index = self.index.lock();
        let Some(record) = index.images.get_mut(id) else { return Ok(None) };
        record.sign(signed_by);
        self.commit(index, name, id, digests).map(Some)
    }

    fn commit(
        &self,
        mut index: MutexGuard<'_, Index>,
        name: &Reference,
        id: &str,
        digests: &[String],
    ) -> std::io::Result<(Image, Vec<String>)> {
        index.label(name, id, digests);
        let gone = index.sweep();
        let image = index.images.get(id).map(|record| describe(id, record));
        self.save(&index)?;
        drop(index);
        let gone = self.delete(gone);
        let image = image.ok_or_else(|| std::io::Error::other("an image was named and yet is gone"))?;
        Ok((image, gone))
    }

    /// Takes the name away, or the whole image if it is an id. Gives modules that no image holds any more.
    pub fn remove(&self, name: &str) -> Result<Vec<String>> {
        let mut index = self.index.lock();
        let Some(id) = index.find(name)? else { return Ok(Vec::new()) };
        if reference::digest_valid(name) {
            if let Some(record) = index.images.get_mut(&id) {
                record.tags.clear();
                record.pinned.clear();
            }
        } else {
            index.unlabel(&Reference::parse(name)?, &id);
        }
        let gone = index.sweep();
        self.save(&index).map_err(|error| Error::Internal(format!("failed to write the image index: {error}")))?;
        drop(index);
        Ok(self.delete(gone))
    }

    /// Removes what no image needs any more; gives the modules among it.
    fn delete(&self, gone: Gone) -> Vec<String> {
        for module in &gone.modules {
            let _ = std::fs::remove_file(self.path(module));
        }
        for id in &gone.images {
            let _ = std::fs::remove_dir_all(self.files(id));
        }
        gone.modules
    }

    /// Where the files of an application's components are, each in a directory of its name.
    pub fn files(&self, id: &str) -> PathBuf {
        self.directory.join("files").join(id.trim_start_matches("sha256:"))
    }

    fn path(&self, module: &str) -> PathBuf {
        self.directory.join("modules").join(module.trim_start_matches("sha256:"))
    }

    fn save(&self, index: &Index) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(index).map_err(std::io::Error::other)?;
        write_atomically(&self.directory.join("index.json"), &[&bytes])
    }
}

impl Record {
    /// The digests of all its modules.
    fn modules(&self) -> impl Iterator<Item = &str> {
        let others = self.app.iter().flat_map(|app| app.components.iter().map(|component| component.module.as_str()));
        std::iter::once(self.module.as_str()).chain(others)
    }

    fn sign(&mut self, key: Option<&str>) {
        let new = key.filter(|key| !self.signed_by.iter().any(|other| other == key));
        self.signed_by.extend(new.map(str::to_owned));
    }
}

impl Index {
    fn find(&self, name: &str) -> Result<Option<String>> {
        if reference::digest_valid(name) {
            return Ok(self.images.contains_key(name).then(|| name.to_owned()));
        }
        let parsed = Reference::parse(name)?;
        let found = match &parsed.digest {
            Some(digest) => {
                let wanted = format!("{}@{digest}", parsed.repository());
                self.images.iter().find(|(_, record)| record.digests.contains(&wanted))
            }
            None => {
                let wanted = parsed.tagged().unwrap_or_default();
                self.images.iter().find(|(_, record)| record.tags.contains(&wanted))
            }
        };
        Ok(found.map(|(id, _)| id.clone()))
    }

    /// Gives the image the name. A tag moves from the image that had it before.
    fn label(&mut self, name: &Reference, id: &str, digests: &[String]) {
        let tag = name.tagged().filter(|_| name.digest.is_none());
        for record in self.images.values_mut() {
            record.tags.retain(|other| Some(other) != tag.as_ref());
        }
        let Some(record) = self.images.get_mut(id) else { return };
        record.tags.extend(tag);
        let pinned = name.digest.iter();
        for digest in digests.iter().chain(pinned.clone()) {
            let digest = format!("{}@{digest}", name.repository());
            if !record.digests.contains(&digest) {
                record.digests.push(digest);
            }
        }
        for digest in pinned {
            let digest = format!("{}@{digest}", name.repository());
            if !record.pinned.contains(&digest) {
                record.pinned.push(digest);
            }
        }
    }

    fn unlabel(&mut self, name: &Reference, id: &str) {
        let Some(record) = self.images.get_mut(id) else { return };
        match &name.digest {
            Some(digest) => {
                let digest = format!("{}@{digest}", name.repository());
                record.pinned.retain(|other| *other != digest);
                // A name by digest stands for all tags of that repository.
                let prefix = format!("{}:", name.repository());
                record.tags.retain(|tag| !tag.starts_with(&prefix));
            }
            None => record.tags.retain(|other| Some(other) != name.tagged().as_ref()),
        }
    }

    /// Drops images that nothing names. Gives them, and modules that no image holds any more.
    fn sweep(&mut self) -> Gone {
        let mut gone = Gone::default();
        self.images.retain(|id, record| {
            let named = !record.tags.is_empty() || !record.pinned.is_empty();
            if !named {
                gone.modules.extend(record.modules().map(str::to_owned));
                gone.images.push(id.clone());
            }
            named
        });
        gone.modules.retain(|module| !self.images.values().any(|record| record.modules().any(|other| other == module)));
        gone
    }
}

pub fn describe(id: &str, record: &Record) -> Image {
    Image {
        id: id.to_owned(),
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        size_bytes: record.size_bytes,
        kind: ImageKind::Wasm,
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Writes a new file and puts it in place of the old one.
pub fn write_atomically(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let unique = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{unique}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}
