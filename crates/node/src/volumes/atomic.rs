//! Files that change all at once, as the kubelet lays them out: `..data` is a link to a directory with a time in its
//! name, every visible name is a link through `..data`, and an update swaps that one link.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use jiff::Timestamp;

/// Contents and mode by relative path.
pub type Payload = BTreeMap<String, (Vec<u8>, u32)>;

/// Makes `dir` hold exactly this. Readers see the old files or the new ones, never some of each.
pub fn write(dir: &Path, payload: &Payload) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let data = dir.join("..data");
    let old = std::fs::read_link(&data).ok();
    if old.as_ref().is_some_and(|old| same(&dir.join(old), payload)) {
        return Ok(());
    }
    let name = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let fresh = dir.join(&name);
    std::fs::create_dir(&fresh)?;
    for (path, (bytes, mode)) in payload {
        let file = fresh.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, bytes)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode & 0o777))?;
    }
    let swap = dir.join("..data_tmp");
    let _ = std::fs::remove_file(&swap);
    symlink(&name, &swap)?;
    std::fs::rename(&swap, &data)?;
    links(dir, payload)?;
    match old {
        Some(old) => std::fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

/// One link per first component; links that lead nowhere any more go.
fn links(dir: &Path, payload: &Payload) -> io::Result<()> {
    let tops: BTreeSet<&str> = payload.keys().map(|p| p.split('/').next().unwrap_or(p)).collect();
    for top in &tops {
        match symlink(Path::new("..data").join(top), dir.join(top)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            std::fs::remove_file(dir.join(name.as_ref()))?;
        }
    }
    Ok(())
}

fn same(dir: &Path, payload: &Payload) -> bool {
    let is_same =
        |(path, (bytes, _)): (&String, &(Vec<u8>, u32))| std::fs::read(dir.join(path)).is_ok_and(|b| b == *bytes);
    count(dir) == payload.len() && payload.iter().all(is_same)
}

fn count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(p, t)| ((*p).to_owned(), (t.as_bytes().to_vec(), 0o644))).collect()
    }

    #[test]
    fn an_update_swaps_all_files_and_removes_what_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("v");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")])).expect("written");
        let first = std::fs::read_link(dir.join("..data")).expect("a link");
        assert_eq!((read("a").as_deref(), read("sub/b").as_deref()), (Some("1"), Some("2")));
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")])).expect("written");
        assert_eq!(std::fs::read_link(dir.join("..data")).expect("a link"), first, "the same is not written again");
        write(&dir, &payload(&[("a", "3")])).expect("written");
        assert_eq!((read("a").as_deref(), read("sub/b")), (Some("3"), None));
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 3, "..data, its directory, one link");
    }
}
