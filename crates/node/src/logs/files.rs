//! The files of one log: the current one and the parts that were rotated away.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const BLOCK: u64 = 16 * 1024;

/// The parts in the order in which they were written, the current one last. Empty if there is no log.
pub fn parts(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().map(|n| n.to_string_lossy().into_owned())) else {
        return vec![];
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let prefix = format!("{name}.");
    let mut older: Vec<PathBuf> = entries
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
        .collect();
    older.sort();
    if path.exists() {
        older.push(path.to_owned());
    }
    older
}

/// What a file is, whatever it is called at the moment.
pub fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|m| (m.dev(), m.ino()))
}

pub fn identity_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Where the last `lines` lines of a file begin.
pub fn tail_offset(path: &Path, lines: usize) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok(usize::try_from(last_lines(&mut file, length, lines)?.0).unwrap_or(usize::MAX))
}

/// Where the last `lines` lines begin, and how many there are of them.
pub fn last_lines(file: &mut File, length: u64, lines: usize) -> io::Result<(u64, usize)> {
    if lines == 0 {
        return Ok((length, 0));
    }
    let (mut end, mut found) = (length, 0);
    let mut block = vec![];
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - start).unwrap_or(0), 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = start + at as u64;
            // The newline that ends the last line begins none.
            if *byte == b'\n' && position + 1 < length {
                found += 1;
                if found == lines {
                    return Ok((position + 1, found));
                }
            }
        }
        end = start;
    }
    Ok((0, if length > 0 { found + 1 } else { 0 }))
}

/// Where to begin so that `lines` lines follow: a part and the offset in it.
pub fn tail(parts: &[PathBuf], lines: usize) -> io::Result<(usize, u64)> {
    let mut wanted = lines;
    for (at, path) in parts.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let (offset, found) = last_lines(&mut file, length, wanted)?;
        wanted -= found.min(wanted);
        if wanted == 0 || at == 0 {
            return Ok((at, offset));
        }
    }
    Ok((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_across_parts() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        std::fs::write(dir.path().join("0.log.20260101-000000"), "a\nb\n").expect("written");
        std::fs::write(dir.path().join("0.log.20260102-000000"), "c\n").expect("written");
        std::fs::write(&log, "d\ne").expect("written");
        std::fs::write(dir.path().join("1.log"), "x\n").expect("written");
        let parts = parts(&log);
        assert_eq!(parts.len(), 3);
        for (lines, expected) in
            [(0, (2, 3)), (1, (2, 2)), (2, (2, 0)), (3, (1, 0)), (4, (0, 2)), (5, (0, 0)), (9, (0, 0))]
        {
            assert_eq!(tail(&parts, lines).expect("found"), expected, "{lines}");
        }
    }

    #[test]
    fn long_files_are_read_from_their_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        let line = "x".repeat(999) + "\n";
        std::fs::write(&log, line.repeat(100)).expect("written");
        assert_eq!(tail_offset(&log, 30).expect("found"), 70_000);
    }
}
