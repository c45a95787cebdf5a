//! What a guest sees of files: its volume mounts at their paths, and a private, writable `/` around them.
//!
//! The private root is a directory of this container alone, made when it starts (only if the program can open files)
//! and removed when it has ended. A mounted single file (a `subPath` of a ConfigMap) is put into the private root: a
//! copy if it is read-only, a hard link otherwise; or into the mounted directory that it lies in (`nested`). Nothing that a guest left behind is followed through symbolic links.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use skiff_runtime::{MESSAGE_BYTES_MAX, Mount};
use wasmtime_wasi::FsPerms;

use crate::nested;

#[derive(Clone)]
pub struct Preopen {
    pub host_path: PathBuf,
    pub guest_path: String,
    pub perms: FsPerms,
}

/// Refuses mounts that can never work, with the reason.
pub fn check(mounts: &[Mount]) -> Result<(), String> {
    for mount in mounts {
        let path = &mount.container_path;
        let above = Path::new(path).components().any(|part| part.as_os_str() == "..");
        if !path.starts_with('/') || above || path.contains('\0') {
            return Err(format!("the mount path {path:?} must be absolute, and without \"..\" and NUL bytes"));
        }
        let data = std::fs::metadata(&mount.host_path)
            .map_err(|error| format!("the mount at {path:?} cannot be read on the node: {error}"))?;
        if let Some(outer) = around(mount, mounts).filter(|outer| !data.is_dir() && outer.read_only) {
            let outer = &outer.container_path;
            return Err(format!("the file mounted at {path:?} cannot be put into the read-only mount at {outer:?}"));
        }
    }
    Ok(())
}

/// The mounted directory that another mount lies in.
fn around<'a>(mount: &Mount, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let inside = |other: &&Mount| {
        other.container_path != mount.container_path
            && other.host_path.is_dir()
            && Path::new(&mount.container_path).starts_with(&other.container_path)
    };
    mounts.iter().filter(inside).max_by_key(|other| other.container_path.len())
}

/// Makes the private root, if there is to be one, and lists what the guest sees.
///
/// The directory of the termination message file is there, as it would be mounted.
pub fn lay_out(
    root: &Path,
    private: bool,
    mounts: &[Mount],
    message_path: Option<&str>,
) -> std::io::Result<Vec<Preopen>> {
    let mut preopens = Vec::with_capacity(mounts.len() + 1);
    let files = mounts.iter().any(|mount| !mount.host_path.is_dir());
    if private || files {
        std::fs::create_dir_all(root)?;
        if let Some(parent) = message_path.and_then(|path| parent_beneath(root, path)) {
            std::fs::create_dir_all(parent)?;
        }
        // A volume mounted at `/` is the root instead.
        if mounts.iter().all(|mount| mount.container_path != "/" || !mount.host_path.is_dir()) {
            let host_path = root.to_owned();
            preopens.push(Preopen { host_path, guest_path: "/".to_owned(), perms: FsPerms::ReadWrite });
        }
    }
    for mount in mounts {
        if mount.host_path.is_dir() {
            let perms = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            preopens.push(Preopen {
                host_path: mount.host_path.clone(),
                guest_path: mount.container_path.clone(),
                perms,
            });
            continue;
        }
        if let Some(outer) = around(mount, mounts) {
            let relative = Path::new(&mount.container_path).strip_prefix(&outer.container_path);
            let relative = relative.map_err(std::io::Error::other)?;
            nested::place(&outer.host_path, relative, &mount.host_path, mount.read_only)?;
            continue;
        }
        let target = root.join(mount.container_path.trim_start_matches('/'));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if mount.read_only {
            std::fs::copy(&mount.host_path, &target)?;
        } else {
            std::fs::hard_link(&mount.host_path, &target)?;
        }
    }
    Ok(preopens)
}

/// The host's directory for a file of the guest; none if that is the root, or if the path is not a plain absolute one.
fn parent_beneath(root: &Path, path: &str) -> Option<PathBuf> {
    let parent = Path::new(path.strip_prefix('/')?).parent()?;
    let plain = parent.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (plain && parent != Path::new("")).then(|| root.join(parent))
}

/// What the guest wrote to its termination message file; empty if it wrote none.
pub fn termination_message(root: &Path, mounts: &[Mount], path: &str) -> String {
    let within = |mount: &&Mount| mount.host_path.is_dir() && Path::new(path).starts_with(&mount.container_path);
    let mount = mounts.iter().filter(within).max_by_key(|mount| mount.container_path.len());
    let (directory, prefix) = match mount {
        Some(mount) => (mount.host_path.as_path(), mount.container_path.as_str()),
        None => (root, "/"),
    };
    let Ok(relative) = Path::new(path).strip_prefix(prefix) else { return String::new() };
    read_beneath(directory, relative).unwrap_or_default()
}

fn read_beneath(directory: &Path, relative: &Path) -> std::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(&directory, relative, flags | OFlags::NONBLOCK, Mode::empty(), resolve)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Removes what a container leaves: an empty root at once, what a guest filled in the background. Within a tokio runtime.
pub fn remove(root: &Path, message_path: Option<&str>) {
    if let Some(parent) = message_path.and_then(|path| parent_beneath(root, path)) {
        // Usually the only thing in it, and empty.
        let _ = std::fs::remove_dir(parent);
    }
    match std::fs::remove_dir(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
        _ => return,
    }
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = std::fs::remove_dir_all(&root) {
            tracing::warn!(path = %root.display(), error = %error, "private files of a container not removed");
        }
    });
}
