//! `tar xf -`, `tar xzf -`: an archive into the container's files.
//!
//! Read by hand, block by block: what an archive announces is not believed before it is bounded. Members that would lie
//! outside of the directory are left out and told.

use std::{
    ffi::OsStr,
    io::{self, Read, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use tar::{EntryType, Header};

use super::{Job, disk::Counted};

const BLOCK: usize = 512;
/// A name, or what else comes before a member (pax headers).
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;

pub fn unpack(job: &mut Job, directory: &str, gzip: bool) -> io::Result<i32> {
    let mut code = 0;
    if gzip {
        job.input.unzip();
    }
    match members(job, directory, &mut code) {
        Ok(()) => {}
        Err(error) => {
            writeln!(job.err, "tar: {}", super::why(&error))?;
            code = 2;
        }
    }
    job.input.drain()?;
    if code != 0 {
        writeln!(job.err, "tar: Exiting with failure status due to previous errors")?;
    }
    Ok(code)
}

/// What headers before a member say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

fn members(job: &mut Job, directory: &str, code: &mut i32) -> io::Result<()> {
    let mut extension = Extension::default();
    let mut block = [0; BLOCK];
    loop {
        if !read_block(&mut job.input, &mut block)? || block.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let header = Header::from_byte_slice(&block);
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(io::Error::other("This does not look like a tar archive"));
        }
        let size = header.entry_size()?;
        match header.entry_type() {
            EntryType::GNULongName => extension.path = Some(text(&mut job.input, size)?),
            EntryType::GNULongLink => extension.target = Some(text(&mut job.input, size)?),
            EntryType::XHeader => pax(&text(&mut job.input, size)?, &mut extension),
            EntryType::XGlobalHeader => drop(text(&mut job.input, size)?),
            kind => {
                let Extension { path, target, size: pax_size } = std::mem::take(&mut extension);
                let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
                let target = target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                let member = Member {
                    kind,
                    path: PathBuf::from(OsStr::from_bytes(&path)),
                    target: PathBuf::from(OsStr::from_bytes(&target.unwrap_or_default())),
                    mode: header.mode().unwrap_or(0o644),
                    size: pax_size.unwrap_or(size),
                };
                if let Some(error) = write_member(job, directory, &member)? {
                    writeln!(job.err, "tar: {}: {}", member.path.to_string_lossy(), super::why(&error))?;
                    *code = 2;
                }
            }
        }
    }
}

struct Member {
    kind: EntryType,
    path: PathBuf,
    target: PathBuf,
    mode: u32,
    size: u64,
}

/// Reads the member to its end whatever comes of it. An error of the archive ends it; one of the file is told.
fn write_member(job: &mut Job, directory: &str, member: &Member) -> io::Result<Option<io::Error>> {
    let outside = member.path.components().any(|part| part == Component::ParentDir);
    if outside {
        skip(&mut job.input, padded(member.size))?;
        return Ok(Some(io::Error::other("Member name contains '..'")));
    }
    let path = Path::new(directory).join(member.path.strip_prefix("/").unwrap_or(&member.path));
    // Whoever is over the limit writes no more: the container has been ended.
    job.disk.make(path.components().count())?;
    let made = match member.kind {
        EntryType::Directory => job.view.make_directory(&path),
        EntryType::Symlink => job.view.make_link(&path, &member.target),
        EntryType::Regular | EntryType::Continuous => match job.view.create(&path, member.mode) {
            Ok(file) => return copy(&mut job.input, Counted { file, disk: &job.disk }, member.size),
            Err(error) => Err(error),
        },
        _ => Err(io::Error::other("it is a kind of file that a container does not have")),
    };
    skip(&mut job.input, padded(member.size))?;
    Ok(made.err())
}

fn copy(input: &mut impl Read, mut file: impl io::Write, size: u64) -> io::Result<Option<io::Error>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        input.read_exact(&mut chunk[..wanted]).map_err(cut_off)?;
        left -= wanted as u64;
        if let Err(error) = file.write_all(&chunk[..wanted]) {
            skip(input, padded(size) - (size - left))?;
            return Ok(Some(error));
        }
    }
    skip(input, padded(size) - size)?;
    Ok(None)
}

/// With what fills the last block.
fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
}

fn skip(input: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(count), &mut io::sink())?;
    if skipped < count { Err(cut_off(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("Unexpected EOF in archive"),
        _ => error,
    }
}

/// Whether there was one more.
fn read_block(input: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(cut_off(io::ErrorKind::UnexpectedEof.into())),
            count => filled += count,
        }
    }
    Ok(true)
}

/// The sum of the bytes, with spaces in place of the sum itself.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let rest = block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum::<u32>();
    rest + 8 * u32::from(b' ')
}

fn text(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > EXTENSION_BYTES_MAX {
        return Err(io::Error::other(format!("a header of {size} bytes: the limit is {EXTENSION_BYTES_MAX}")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    input.read_exact(&mut bytes).map_err(cut_off)?;
    skip(input, padded(size) - size)?;
    // A long name ends with a zero.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// Records `LENGTH KEY=VALUE\n`; what cannot be read is left out.
fn pax(mut records: &[u8], extension: &mut Extension) {
    while let Some(space) = records.iter().position(|&byte| byte == b' ') {
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| records.get(space + 1..length)) else { return };
        records = &records[record.len() + space + 1..];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let Some(equals) = record.iter().position(|&byte| byte == b'=') else { continue };
        let value = &record[equals + 1..];
        match &record[..equals] {
            b"path" => extension.path = Some(value.to_vec()),
            b"linkpath" => extension.target = Some(value.to_vec()),
            b"size" => extension.size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_are_read() {
        let mut extension = Extension::default();
        pax(b"12 path=abc\n15 linkpath=xy\n11 size=77\n99 path=cut", &mut extension);
        assert_eq!(extension.path.as_deref(), Some(&b"abc"[..]));
        assert_eq!(extension.target.as_deref(), Some(&b"xy"[..]));
        assert_eq!(extension.size, Some(77));
        for hostile in [&b"0 path=x\n"[..], b"1 ", b" ", b"18446744073709551615 a=b\n", b"-1 a"] {
            pax(hostile, &mut extension);
        }
    }
}
