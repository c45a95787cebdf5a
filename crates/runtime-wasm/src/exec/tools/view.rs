//! A container's own view of files: its volume mounts at their paths, around them its private root.
//!
//! What must stay true: nothing outside of them is read or written, whatever a guest has left in them. The kernel
//! resolves every path beneath the mount's or the root's directory; a symbolic link that leads out of it is an error.
//! `..` is taken away before, so that a path leads to the mount that its text names.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use skiff_runtime::Mount;

/// As Linux has it.
const PATH_BYTES_MAX: usize = 4096;
/// Names of one directory that are looked at; more are told as an error.
pub const NAMES_MAX: usize = 100_000;

pub struct View {
    root: PathBuf,
    mounts: Vec<Mount>,
    working_dir: PathBuf,
}

/// Where a path of the container leads on the node.
struct Place {
    base: PathBuf,
    relative: PathBuf,
    read_only: bool,
}

/// What is known of a file.
#[derive(Clone, Debug)]
pub struct Meta {
    pub kind: Kind,
    pub mode: u32,
    pub size: u64,
    pub links: u64,
    pub modified_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

impl From<Stat> for Meta {
    fn from(stat: Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            links: u64::from(stat.st_nlink as u32),
            modified_s: stat.st_mtime,
        }
    }
}

impl Meta {
    /// A directory that is there only because something is mounted in it.
    fn directory() -> Self {
        Self { kind: Kind::Directory, mode: 0o755, size: 0, links: 1, modified_s: 0 }
    }
}

impl View {
    pub fn new(root: &Path, mounts: &[Mount], working_dir: Option<&str>) -> Self {
        let mut view = Self { root: root.to_owned(), mounts: mounts.to_vec(), working_dir: PathBuf::from("/") };
        // A working directory of the image may be relative: then it is that of the root.
        view.working_dir = view.absolute(Path::new(working_dir.unwrap_or("/"))).unwrap_or_else(|_| "/".into());
        view
    }

    /// Absolute, without `.` and `..`.
    pub fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut plain = self.working_dir.clone();
        for part in path.components() {
            match part {
                Component::RootDir => plain = PathBuf::from("/"),
                Component::ParentDir => drop(plain.pop()),
                Component::Normal(name) => plain.push(name),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(plain)
    }

    fn place(&self, absolute: &Path) -> Place {
        let covers = |mount: &&Mount| absolute.starts_with(&mount.container_path);
        let over = self.mounts.iter().filter(covers).max_by_key(|mount| mount.container_path.len());
        let Some(mount) = over.filter(|mount| mount.host_path.is_dir()) else {
            // A single file that is mounted is in the private root.
            let read_only = over.is_some_and(|mount| mount.read_only);
            let relative = absolute.strip_prefix("/").unwrap_or(absolute).to_owned();
            return Place { base: self.root.clone(), relative, read_only };
        };
        let relative = absolute.strip_prefix(&mount.container_path).unwrap_or(Path::new("")).to_owned();
        Place { base: mount.host_path.clone(), relative, read_only: mount.read_only }
    }

    /// The path as the container knows it, followed to what it leads to, or to the link itself.
    pub fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        let absolute = self.absolute(path)?;
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        match open(&self.place(&absolute), flags) {
            Ok(file) => Ok(rustix::fs::fstat(&file)?.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.holds_mounts(&absolute) => {
                Ok(Meta::directory())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something is mounted somewhere in it.
    fn holds_mounts(&self, absolute: &Path) -> bool {
        absolute == Path::new("/")
            || self.mounts.iter().any(|m| m.host_path.is_dir() && Path::new(&m.container_path).starts_with(absolute))
    }

    /// A file to read.
    pub fn open(&self, path: &Path) -> io::Result<(File, Meta)> {
        // A pipe that a guest left would be waited for.
        let file = open(&self.place(&self.absolute(path)?), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let meta = Meta::from(rustix::fs::fstat(&file)?);
        match meta.kind {
            Kind::File => Ok((File::from(file), meta)),
            Kind::Directory => Err(Errno::ISDIR.into()),
            Kind::Link | Kind::Other => Err(io::Error::other("It is neither a file nor a directory")),
        }
    }

    /// Where a symbolic link leads, by its own text.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let link = open(&self.place(&self.absolute(path)?), OFlags::PATH | OFlags::NOFOLLOW)?;
        let text = rustix::fs::readlinkat(&link, "", Vec::new())?;
        Ok(std::os::unix::ffi::OsStringExt::from_vec(text.into_bytes()))
    }

    /// What is in a directory, by name.
    pub fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute);
        let mut found = std::collections::BTreeMap::new();
        match open(&place, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => read_directory(&directory, &mut found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.holds_mounts(&absolute) => {}
            Err(error) => return Err(error),
        }
        for mount in self.mounts.iter().filter(|mount| mount.host_path.is_dir()) {
            let Ok(below) = Path::new(&mount.container_path).strip_prefix(&absolute) else { continue };
            let mut parts = below.components();
            let Some(first) = parts.next() else { continue };
            let meta = if parts.next().is_some() { None } else { rustix::fs::stat(&mount.host_path).ok() };
            let meta = meta.map_or_else(Meta::directory, Meta::from);
            found.entry(first.as_os_str().to_owned()).and_modify(|old| *old = meta.clone()).or_insert(meta);
        }
        Ok(found.into_iter().collect())
    }

    /// The directory, made with its parents where it is not there.
    fn directory(&self, absolute: &Path) -> io::Result<OwnedFd> {
        let place = self.place(absolute);
        match open(&place, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        if place.read_only {
            return Err(Errno::ROFS.into());
        }
        if place.base == self.root {
            // Made when it is first needed: a program that opens no files has none.
            std::fs::create_dir_all(&self.root)?;
        }
        let mut so_far = Place { relative: PathBuf::new(), ..place };
        for part in place.relative.components() {
            let parent = open(&so_far, OFlags::RDONLY | OFlags::DIRECTORY)?;
            match rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            so_far.relative.push(part);
        }
        open(&so_far, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    pub fn make_directory(&self, path: &Path) -> io::Result<()> {
        let absolute = self.absolute(path)?;
        if self.holds_mounts(&absolute) {
            return Ok(());
        }
        self.directory(&absolute).map(drop)
    }

    /// The directory of a new file, which is made, and its name there; what has the name is gone.
    fn entry(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let absolute = self.absolute(path)?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(Errno::ISDIR.into());
        };
        let place = self.place(&absolute);
        if place.read_only {
            return Err(Errno::ROFS.into());
        }
        if place.relative.as_os_str().is_empty() || self.mounts.iter().any(|m| Path::new(&m.container_path) == absolute)
        {
            return Err(Errno::BUSY.into());
        }
        let directory = self.directory(parent)?;
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((directory, name.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file in place of what was there.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (directory, name) = self.entry(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // No set-user-id of somebody else's choice; and its owner can always remove it.
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o600);
        Ok(File::from(rustix::fs::openat(&directory, name, flags, mode)?))
    }

    pub fn make_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        if target.is_absolute() {
            return Err(io::Error::other("a symbolic link to an absolute path cannot be in a container"));
        }
        let (directory, name) = self.entry(path)?;
        Ok(rustix::fs::symlinkat(target, &directory, name)?)
    }
}

fn open(place: &Place, flags: OFlags) -> io::Result<OwnedFd> {
    let base = rustix::fs::openat(CWD, &place.base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let relative = if place.relative.as_os_str().is_empty() { Path::new(".") } else { &place.relative };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(&base, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn read_directory(directory: &OwnedFd, found: &mut std::collections::BTreeMap<OsString, Meta>) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if found.len() >= NAMES_MAX {
            return Err(io::Error::other(format!("It has more than {NAMES_MAX} entries")));
        }
        // It may be gone by now.
        if let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            let name = std::os::unix::ffi::OsStringExt::from_vec(name.to_bytes().to_vec());
            found.insert(name, Meta::from(stat));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;

    /// A root with `note`, a mount at /data with `file`, a read-only one at /etc/app, and beside them `secret`.
    fn world() -> (tempfile::TempDir, View) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, file) in [("root", "note"), ("data", "file"), ("app", "conf"), ("outside", "secret")] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join(file), file).unwrap();
        }
        let mount = |host: &str, path: &str, read_only| Mount {
            host_path: at(host),
            container_path: path.to_owned(),
            read_only,
            volume: None,
        };
        let mounts = [mount("data", "/data", false), mount("app", "/etc/app", true)];
        let view = View::new(&at("root"), &mounts, Some("/data"));
        (directory, view)
    }

    fn names(view: &View, path: &str) -> Vec<String> {
        view.list(Path::new(path)).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn mounts_are_seen_in_the_root() {
        let (_directory, view) = world();
        assert_eq!(names(&view, "/"), ["data", "etc", "note"]);
        assert_eq!(names(&view, "/etc"), ["app"]);
        assert_eq!(names(&view, "."), ["file"], "the working directory");
        assert_eq!(names(&view, "../etc/../etc/app"), ["conf"]);
        assert_eq!(view.stat(Path::new("/etc"), true).unwrap().kind, Kind::Directory);
        assert_eq!(view.stat(Path::new("/nothing"), true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        let (directory, view) = world();
        let data = directory.path().join("data");
        symlink(directory.path().join("outside"), data.join("absolute")).unwrap();
        symlink("../outside", data.join("relative")).unwrap();
        symlink("file", data.join("fine")).unwrap();
        assert!(view.open(Path::new("/data/fine")).is_ok());
        for path in
            ["/data/absolute/secret", "/data/relative/secret", "/data/../../outside/secret", "/proc/self/environ"]
        {
            assert!(view.open(Path::new(path)).is_err(), "{path}");
            assert!(view.stat(Path::new(path), true).is_err(), "{path}");
        }
        for path in ["/data/absolute/new", "/data/relative/new", "/data/relative/a/b"] {
            assert!(view.create(Path::new(path), 0o644).is_err(), "{path}");
            assert!(view.list(Path::new(path)).is_err(), "{path}");
        }
        // A link in the way of a file is replaced, not followed.
        std::fs::remove_file(data.join("absolute")).unwrap();
        symlink(directory.path().join("outside/secret"), data.join("absolute")).unwrap();
        view.create(Path::new("/data/absolute"), 0o644).unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(directory.path().join("outside/secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read(data.join("absolute")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path().join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn read_only_mounts_stay_as_they_are() {
        let (_directory, view) = world();
        for path in ["/etc/app/conf", "/etc/app/new", "/etc/app/a/b"] {
            assert_eq!(view.create(Path::new(path), 0o644).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert!(view.create(Path::new("/data"), 0o644).is_err(), "a mount is not replaced");
        view.create(Path::new("/new/deep/file"), 0o644).unwrap();
        assert_eq!(names(&view, "/new/deep"), ["file"]);
    }
}
