//! A pod's volumes on this node: emptyDir, configMap, secret, downwardAPI, projected, hostPath. Others are refused by
//! name. They lie in `pods/UID/volumes/KIND/NAME` and are gone with the pod.

mod atomic;
mod keyed;
mod live;
mod payload;

pub use keyed::{named, share};
pub use live::{Live, Mounted, REFRESHES_MAX, SourceKind, mount, refresh, shows_itself, unmount};

use std::{
    collections::HashMap,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use k8s_openapi::{
    api::core::v1::{Container, HostPathVolumeSource, PodSpec, Volume},
    apimachinery::pkg::api::resource::Quantity,
};
use skiff_runtime::{Mount, MountedVolume};

use crate::{
    agent::{Agent, Dirs},
    expand::expand,
    mailbox::PodHandle,
};

/// Writes what was fetched, and makes the volumes that need nothing fetched.
async fn write_payloads(
    agent: &Agent,
    handle: &PodHandle,
    volumes: &[Volume],
    payloads: Vec<Option<atomic::Payload>>,
) -> Result<(), String> {
    let (dirs, uid, volumes) = (agent.dirs.clone(), handle.uid.clone(), volumes.to_vec());
    let made = tokio::task::spawn_blocking(move || {
        for (volume, payload) in volumes.iter().zip(payloads) {
            let failed = |e: io::Error| format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name);
            let path = host_path(&dirs, &uid, volume)?;
            match (payload, &volume.host_path) {
                (Some(payload), _) => atomic::write(&path, &payload).map_err(failed)?,
                (None, Some(source)) => check_host_path(source).map_err(failed)?,
                (None, None) => open_dir(&path).map_err(failed)?,
            }
        }
        Ok(())
    });
    made.await.map_err(|e| format!("mounting volumes was cut short: {e}"))?
}

/// Where a volume lies on the node.
///
/// # Errors
/// A message that names the kind of volume that this node does not have.
fn host_path(dirs: &Dirs, uid: &str, volume: &Volume) -> Result<PathBuf, String> {
    let kind = if volume.empty_dir.is_some() {
        "empty-dir"
    } else if volume.config_map.is_some() {
        "configmap"
    } else if volume.secret.is_some() {
        "secret"
    } else if volume.projected.is_some() {
        "projected"
    } else if volume.downward_api.is_some() {
        "downward-api"
    } else if let Some(source) = &volume.host_path {
        return Ok(PathBuf::from(&source.path));
    } else {
        return Err(format!(
            "MountVolume.SetUp failed for volume \"{}\" : {} volumes are not supported yet",
            volume.name,
            source_name(volume)
        ));
    };
    Ok(dirs.volumes(uid).join(kind).join(&volume.name))
}

/// The field of the volume that says what it is.
fn source_name(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let name = fields.as_object().and_then(|o| o.keys().find(|k| *k != "name").cloned());
    // Kubernetes takes a volume without any source for an emptyDir; the API's defaults make it one.
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// Everybody may write in an emptyDir, whatever the process's mask.
fn open_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}

fn check_host_path(source: &HostPathVolumeSource) -> io::Result<()> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => std::fs::create_dir_all(path)?,
        "FileOrCreate" if !path.exists() => drop(std::fs::File::create(path)?),
        _ => {}
    }
    let wanted = |is: bool, what: &str| {
        let message = format!("hostPath type check failed: {} is not a {what}", source.path);
        if is { Ok(()) } else { Err(io::Error::other(message)) }
    };
    let file_type = || std::fs::metadata(path).map(|m| m.file_type()).ok();
    match kind {
        "" => Ok(()),
        "Directory" | "DirectoryOrCreate" => wanted(path.is_dir(), "directory"),
        "File" | "FileOrCreate" => wanted(path.is_file(), "file"),
        "Socket" => wanted(file_type().is_some_and(|t| t.is_socket()), "socket file"),
        "CharDevice" => wanted(file_type().is_some_and(|t| t.is_char_device()), "character device"),
        "BlockDevice" => wanted(file_type().is_some_and(|t| t.is_block_device()), "block device"),
        other => Err(io::Error::other(format!("unknown hostPath type {other:?}"))),
    }
}

/// A container's mounts.
///
/// # Errors
/// A message that names the mount that cannot be made.
pub fn mounts(
    dirs: &Dirs,
    uid: &str,
    spec: &PodSpec,
    container: &Container,
    env: &HashMap<&str, &str>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = vec![];
    for mount in container.volume_mounts.iter().flatten() {
        let volume = spec.volumes.iter().flatten().find(|v| v.name == mount.name);
        let volume =
            volume.ok_or_else(|| format!("volume {:?} of mount {} not found", mount.name, mount.mount_path))?;
        let root = host_path(dirs, uid, volume)?;
        let mut path = root.clone();
        let of_expr = mount.sub_path_expr.as_ref().map(|e| expand(e, |name| env.get(name).copied()));
        if let Some(sub) = of_expr.or_else(|| mount.sub_path.clone()).filter(|s| !s.is_empty()) {
            path = sub_path(&path, &sub)?;
        }
        // What the API keeps cannot be written back through a file.
        let from_api = volume.empty_dir.is_none() && volume.host_path.is_none();
        let read_only = mount.read_only == Some(true) || from_api;
        let counted = volume.empty_dir.as_ref().map(|empty| MountedVolume {
            name: volume.name.clone(),
            root: root.clone(),
            bytes_max: empty.size_limit.as_ref().and_then(bytes),
            in_memory: empty.medium.as_deref() == Some("Memory"),
        });
        mounts.push(Mount { host_path: path, container_path: mount.mount_path.clone(), read_only, volume: counted });
    }
    Ok(mounts)
}

fn bytes(quantity: &Quantity) -> Option<u64> {
    let value = skiff_api::quantity::Quantity::parse(&quantity.0).ok()?.value();
    u64::try_from(value).ok().filter(|&bytes| bytes > 0)
}

/// A place inside a volume, made as a directory if it is not there. It never leads out of the volume.
fn sub_path(volume: &Path, sub: &str) -> Result<PathBuf, String> {
    let escapes = |c: Component<'_>| !matches!(c, Component::Normal(_) | Component::CurDir);
    if Path::new(sub).components().any(escapes) {
        return Err(format!("subPath {sub:?} must be a relative path without \"..\""));
    }
    let path = volume.join(sub);
    let failed = |e: io::Error| format!("failed to prepare subPath {sub:?}: {e}");
    if !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    // Symbolic links count by where they lead.
    let (real, root) = (path.canonicalize().map_err(failed)?, volume.canonicalize().map_err(failed)?);
    if real.starts_with(&root) { Ok(real) } else { Err(format!("subPath {sub:?} leads out of its volume")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        std::fs::create_dir_all(&volume).expect("made");
        std::os::unix::fs::symlink("/etc", volume.join("out")).expect("made");
        assert!(sub_path(&volume, "a/b").expect("made").is_dir());
        for bad in ["../x", "/etc", "a/../../x", "out"] {
            assert!(sub_path(&volume, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kind_of_volume_that_is_missing_is_named() {
        let volume: Volume =
            serde_json::from_value(serde_json::json!({ "name": "d", "persistentVolumeClaim": { "claimName": "c" } }))
                .expect("a volume");
        let error = host_path(&Dirs::new("/x".into()), "u", &volume).expect_err("refused");
        assert!(error.ends_with("persistentVolumeClaim volumes are not supported yet"), "{error}");
    }
}
