//! What a fault leaves when a pod asks for it: its memories and call stack, in the tool conventions' core dump format.
//!
//! It goes into a volume of the container, or is kept by the node: at most [`KEPT_MAX`] dumps of [`KEPT_BYTES_MAX`] bytes
//! together, the oldest going first. A container with more than [`DUMP_BYTES_MAX`] of memory leaves none: a dump is
//! made in memory first.

use std::{
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use skiff_runtime::{Mount, annotations::CORE_DUMP_PATH};
use wasmtime::{AsContextMut, WasmCoreDump};

/// Of one container's memories together.
pub const DUMP_BYTES_MAX: u64 = 256 << 20;
/// Dumps that the node keeps.
pub const KEPT_MAX: usize = 16;
/// Their bytes together.
pub const KEPT_BYTES_MAX: u64 = 1 << 30;

/// Where a dump goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The node's own directory.
    Node,
    /// A path in one of the container's volumes.
    Mounted(String),
}

/// A place as the host sees it.
#[derive(Clone, Debug)]
pub enum Target {
    Node { directory: PathBuf, name: String },
    Volume { directory: PathBuf, relative: PathBuf, shown: String },
}

impl Place {
    /// # Errors
    /// When the path is in no writable volume of the container.
    pub fn target(&self, mounts: &[Mount], directory: PathBuf, name: String) -> Result<Target, String> {
        let Self::Mounted(path) = self else { return Ok(Target::Node { directory, name }) };
        let wrong = |what: &str| format!("annotation {CORE_DUMP_PATH}: {path:?} {what}");
        let plain =
            |path: &Path| path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.starts_with('/') || path.ends_with('/') || !plain(Path::new(path)) {
            return Err(wrong("is not the absolute path of a file"));
        }
        let around = |mount: &&Mount| mount.host_path.is_dir() && Path::new(path).starts_with(&mount.container_path);
        let mount = mounts.iter().filter(around).max_by_key(|mount| mount.container_path.len());
        let mount = mount.ok_or_else(|| wrong("is in no volume that the container mounts"))?;
        if mount.read_only {
            return Err(wrong("is in a volume that is mounted read-only"));
        }
        let relative = Path::new(path).strip_prefix(&mount.container_path).map_err(|_| wrong("is in no volume"))?;
        if relative.as_os_str().is_empty() {
            return Err(wrong("is a volume and not a file in it"));
        }
        Ok(Target::Volume { directory: mount.host_path.clone(), relative: relative.to_owned(), shown: path.clone() })
    }
}

/// The dump's bytes, if the error came with one; `Err` says why there are none.
pub fn serialize(error: &wasmtime::Error, mut store: impl AsContextMut, name: &str) -> Option<Result<Vec<u8>, String>> {
    let dump = error.downcast_ref::<WasmCoreDump>()?;
    let context = store.as_context_mut();
    let bytes: u64 = dump.memories().iter().map(|memory| memory.data_size(&context) as u64).sum();
    if bytes > DUMP_BYTES_MAX {
        return Some(Err(format!(
            "no core dump: the program has {bytes} bytes of memory; the limit is {DUMP_BYTES_MAX}"
        )));
    }
    Some(Ok(dump.serialize(context, name)))
}

/// Writes a dump. Blocks. Gives what to tell the user.
pub fn write(target: &Target, dump: &[u8]) -> String {
    let (written, place) = match target {
        Target::Node { directory, name } => {
            let path = directory.join(name);
            let place = format!("{} on the node", path.display());
            (keep(directory, &path, dump), place)
        }
        Target::Volume { directory, relative, shown } => (write_beneath(directory, relative, dump), shown.clone()),
    };
    match written {
        Ok(()) => format!("core dump: {place} ({} bytes)", dump.len()),
        Err(error) => format!("no core dump: failed to write {place}: {error}"),
    }
}

fn keep(directory: &Path, path: &Path, dump: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let data = entry.metadata()?;
        kept.push((data.modified()?, data.len(), entry.path()));
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|one| one.1).sum::<u64>() + dump.len() as u64;
    let mut count = kept.len() + 1;
    for (_, size, oldest) in kept {
        if count <= KEPT_MAX && bytes <= KEPT_BYTES_MAX {
            break;
        }
        std::fs::remove_file(oldest)?;
        bytes -= size;
        count -= 1;
    }
    crate::images::write_atomically(path, &[dump])
}

/// The file and its directories within a volume, following no symbolic link that a guest may have left there.
fn write_beneath(directory: &Path, relative: &Path, dump: &[u8]) -> std::io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    for part in relative.parent().into_iter().flat_map(Path::components) {
        match rustix::fs::mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => at = rustix::fs::openat2(&at, part.as_os_str(), flags, Mode::empty(), resolve)?,
        }
    }
    let name = relative.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let flags = OFlags::CLOEXEC | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(&at, name, flags, Mode::from_raw_mode(0o644), resolve)?;
    std::fs::File::from(file).write_all(dump)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_lie_in_a_writable_volume() {
        let scratch = tempfile::tempdir().expect("writable");
        let mount = |path: &str, read_only| Mount {
            host_path: scratch.path().to_owned(),
            container_path: path.to_owned(),
            read_only,
            volume: None,
        };
        let mounts = [mount("/data", false), mount("/fixed", true)];
        for (path, expected) in [
            ("/data/cores/a.core", ""),
            ("/data", "not a file"),
            ("/data/", "absolute path"),
            ("/data/../x", "absolute path"),
            ("x", "absolute path"),
            ("/other/x", "in no volume"),
            ("/fixed/x", "read-only"),
        ] {
            match Place::Mounted(path.to_owned()).target(&mounts, PathBuf::new(), String::new()) {
                Ok(_) => assert!(expected.is_empty(), "{path}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{path}: {error}"),
            }
        }
    }

    #[test]
    fn a_link_in_a_volume_is_not_followed() {
        let (volume, outside) = (tempfile::tempdir().expect("writable"), tempfile::tempdir().expect("writable"));
        std::os::unix::fs::symlink(outside.path(), volume.path().join("out")).expect("made");
        std::os::unix::fs::symlink(outside.path().join("x"), volume.path().join("file")).expect("made");
        for path in ["out/x", "file"] {
            assert!(write_beneath(volume.path(), Path::new(path), b"dump").is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).expect("readable").count(), 0);
        write_beneath(volume.path(), Path::new("a/b"), b"dump").expect("written");
        assert_eq!(std::fs::read(volume.path().join("a/b")).expect("there"), b"dump");
    }

    #[test]
    fn the_node_keeps_a_few() {
        let directory = tempfile::tempdir().expect("writable");
        for n in 0..KEPT_MAX + 3 {
            keep(directory.path(), &directory.path().join(n.to_string()), b"dump").expect("written");
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), KEPT_MAX);
        assert!(directory.path().join((KEPT_MAX + 2).to_string()).exists());
    }
}
