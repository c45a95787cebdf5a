//! A single file mounted inside a mounted directory: it is put there, since a guest sees directories only.
//!
//! The directory may be shared with guests that mean harm: nothing in it is followed through a symbolic link, and what has the
//! file's name is replaced, never written to. A read-only file is a copy (a guest that may write to the directory can change
//! the copy, not the file); one that may be written to is a hard link.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

/// Puts the file at that path beneath the directory.
pub fn place(directory: &Path, relative: &Path, source: &Path, read_only: bool) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = relative.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = parent(directory, relative.parent().unwrap_or(Path::new("")))?;
    let temporary = format!(".skiff-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let placed = if read_only {
        copy(&parent, &temporary, source)
    } else {
        rustix::fs::linkat(CWD, source, &parent, temporary.as_str(), AtFlags::empty()).map_err(io::Error::from)
    };
    let renamed = placed.and_then(|()| Ok(rustix::fs::renameat(&parent, temporary.as_str(), &parent, name)?));
    renamed.inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&parent, temporary.as_str(), AtFlags::empty());
    })
}

/// Opens the directory that will hold the file, making what is missing.
fn parent(directory: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    for part in relative.components() {
        let Component::Normal(part) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat2(&at, part, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
    }
    Ok(at)
}

fn copy(parent: &OwnedFd, name: &str, source: &Path) -> io::Result<()> {
    let mut from = std::fs::File::open(source)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
    io::copy(&mut from, &mut std::fs::File::from(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_placed_and_nothing_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        for name in ["volume", "outside"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("source"), "new").unwrap();
        std::fs::write(path("outside/file"), "untouched").unwrap();
        std::os::unix::fs::symlink(path("outside/file"), path("volume/link")).unwrap();
        std::os::unix::fs::symlink(path("outside"), path("volume/away")).unwrap();
        let place = |to: &str, read_only| place(&path("volume"), Path::new(to), &path("source"), read_only);
        place("a/b/file", true).unwrap();
        place("link", true).unwrap();
        place("linked", false).unwrap();
        for bad in ["away/file", "../file", "a/../../x/file"] {
            assert!(place(bad, true).is_err(), "{bad}");
        }
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!((read("volume/a/b/file").as_str(), read("volume/link").as_str()), ("new", "new"));
        assert_eq!(read("outside/file"), "untouched");
        std::fs::write(path("volume/linked"), "written").unwrap();
        assert_eq!((read("source").as_str(), read("volume/link").as_str()), ("written", "new"));
        let left = std::fs::read_dir(path("volume")).unwrap().flatten();
        assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with(".skiff-")));
    }
}
