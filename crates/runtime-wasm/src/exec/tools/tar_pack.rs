//! `tar cf -`, `tar czf -`: the container's files as an archive.

use std::{
    io::{self, Read, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use super::{
    Job,
    streams::Packed,
    view::{Kind, Meta},
};

pub fn pack(job: &mut Job, directory: &str, paths: &[String], gzip: bool) -> io::Result<i32> {
    let mut code = 0;
    // What was not packed; told as it comes, on a stream of its own.
    let Job { view, out, err, .. } = job;
    let mut archive = Builder::new(Packed::new(out, gzip));
    for given in paths {
        let mut left = vec![PathBuf::from(given)];
        while let Some(path) = left.pop() {
            let place = Path::new(directory).join(&path);
            let packed = (|| {
                let meta = view.stat(&place, false)?;
                let name = member(&path);
                match meta.kind {
                    Kind::Directory => {
                        let names = view.list(&place)?;
                        left.extend(names.into_iter().rev().map(|(name, _)| path.join(name)));
                        if name.as_os_str().is_empty() {
                            return Ok(Ok(()));
                        }
                        let mut header = header(EntryType::Directory, &meta, 0);
                        Ok(archive.append_data(&mut header, &name, io::empty()))
                    }
                    Kind::File => {
                        let (file, meta) = view.open(&place)?;
                        let mut header = header(EntryType::Regular, &meta, meta.size);
                        Ok(archive.append_data(&mut header, &name, Exactly { file, left: meta.size }))
                    }
                    Kind::Link => {
                        let target = view.read_link(&place)?;
                        let mut header = header(EntryType::Symlink, &meta, 0);
                        Ok(archive.append_link(&mut header, &name, Path::new(&target)))
                    }
                    Kind::Other => Err(io::Error::other("It is neither a file nor a directory; not packed")),
                }
            })();
            match packed {
                // The outer is about the file, the inner about whoever reads.
                Ok(written) => written?,
                Err(error) => {
                    code = 2;
                    let path = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
                    writeln!(err, "tar: {path}: Cannot stat: {}", super::why(&error))?;
                }
            }
        }
    }
    archive.into_inner()?.finish()?;
    if code != 0 {
        writeln!(err, "tar: Exiting with failure status due to previous errors")?;
    }
    Ok(code)
}

fn header(kind: EntryType, meta: &Meta, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(meta.modified_s).unwrap_or(0));
    header
}

/// The name in the archive: without what comes before the root, or leads out.
fn member(path: &Path) -> PathBuf {
    let mut name = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => name.push(part),
            Component::ParentDir => drop(name.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    name
}

/// As many bytes as were announced: zeros for what is no longer there, and no more than that.
struct Exactly<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..wanted];
        let count = match self.file.read(into)? {
            0 => {
                into.fill(0);
                wanted
            }
            count => count,
        };
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lie_below_where_they_are_unpacked() {
        for (path, name) in [("/a/b", "a/b"), ("a/./b/", "a/b"), ("../../a", "a"), ("/", ""), (".", "")] {
            assert_eq!(member(Path::new(path)), Path::new(name), "{path}");
        }
    }

    #[test]
    fn a_file_that_shrinks_keeps_its_announced_length() {
        let mut read = Vec::new();
        Exactly { file: &b"abc"[..], left: 5 }.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abc\0\0");
        read.clear();
        Exactly { file: &b"abcdef"[..], left: 5 }.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abcde");
    }
}
