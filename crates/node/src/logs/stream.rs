//! Reading a log as `kubectl logs` asks for it: the last lines, since a time, with times, up to a number of bytes, and
//! on while the container runs.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    files,
    line::{Line, Stream},
    watch::Watch,
};
use crate::mailbox::Snapshot;

/// How much is read, and sent, at once.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub tail_lines: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    pub stream: Option<Stream>,
}

/// Says whether a container still runs, by the pod's status.
pub type Running = Arc<dyn Fn(&Snapshot) -> bool + Send + Sync>;

pub struct LogStream {
    options: LogOptions,
    path: PathBuf,
    /// Parts still to be read after the open one, when it began.
    reader: Reader,
    left: Option<u64>,
    follow: Option<(Watch, watch::Receiver<Snapshot>, Running)>,
    /// The next line continues one that was printed already.
    in_line: bool,
    ended: bool,
}

struct Reader {
    file: Option<File>,
    /// Bytes of a line that is not complete yet.
    rest: Vec<u8>,
}

impl LogStream {
    /// Opens a log; one that is not there yet is empty.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(
        path: PathBuf,
        options: LogOptions,
        follow: Option<(watch::Receiver<Snapshot>, Running)>,
    ) -> io::Result<Self> {
        let follow = match follow {
            Some((snapshots, running)) if options.follow => {
                let dir = path.parent().unwrap_or(&path);
                std::fs::create_dir_all(dir)?;
                Some((Watch::new(dir)?, snapshots, running))
            }
            _ => None,
        };
        let parts = files::parts(&path);
        let (at, offset) = match options.tail_lines {
            Some(lines) if !parts.is_empty() => files::tail(&parts, lines)?,
            _ => (0, 0),
        };
        let mut file = parts.get(at).map(File::open).transpose()?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::Start(offset))?;
        }
        let reader = Reader { file, rest: vec![] };
        let left = options.limit_bytes;
        Ok(Self { options, path, reader, left, follow, in_line: false, ended: false })
    }

    /// The next bytes; `None` at the end. Waits only when following.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            // Before the read: what comes after it is then seen as a change, and an end is seen with all that was written.
            let over = match &mut self.follow {
                None => true,
                Some((_, snapshots, running)) => !running(&snapshots.borrow_and_update()),
            };
            let out = self.read()?;
            if !out.is_empty() {
                return Ok(Some(self.limit(out)));
            }
            if over {
                self.ended = true;
                continue;
            }
            if let Some((watch, snapshots, _)) = &mut self.follow {
                tokio::select! {
                    changed = watch.changed() => changed?,
                    changed = snapshots.changed() => if changed.is_err() { self.ended = true },
                }
            }
        }
    }

    fn limit(&mut self, mut out: Vec<u8>) -> Bytes {
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
            self.ended = *left == 0;
        }
        Bytes::from(out)
    }

    /// What can be read now, of this part and of those after it; at least something unless there is nothing.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut out = vec![];
        while out.is_empty() {
            if self.reader.file.is_none() {
                self.reader.file = File::open(&self.path).map(Some).or_else(absent)?;
            }
            let Some(file) = &mut self.reader.file else { return Ok(out) };
            let old = self.reader.rest.len();
            self.reader.rest.resize(old + CHUNK, 0);
            let read = file.read(&mut self.reader.rest[old..]);
            self.reader.rest.truncate(old + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                if !self.next_part()? {
                    return Ok(out);
                }
                continue;
            }
            self.lines(&mut out);
        }
        Ok(out)
    }

    /// Whether there is another part after the one that is read.
    fn next_part(&mut self) -> io::Result<bool> {
        let Some(open) = self.reader.file.as_ref().and_then(files::identity) else { return Ok(false) };
        if files::identity_of(&self.path) == Some(open) {
            return Ok(false);
        }
        let parts = files::parts(&self.path);
        let here = parts.iter().position(|p| files::identity_of(p) == Some(open));
        // A part that was dropped while it was read is followed by the oldest that is left.
        let next = here.map_or(0, |at| at + 1);
        let Some(path) = parts.get(next) else { return Ok(false) };
        self.reader.rest.clear();
        self.reader.file = File::open(path).map(Some).or_else(absent)?;
        Ok(self.reader.file.is_some())
    }

    /// Turns the complete lines into output.
    fn lines(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.reader.rest);
        let complete = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        for raw in rest[..complete].split_inclusive(|b| *b == b'\n') {
            let Some(line) = Line::parse(raw) else { continue };
            let wanted = self.options.stream.is_none_or(|s| s == line.stream);
            let early = self.options.since.is_some_and(|since| line.at().is_some_and(|at| at < since));
            if !wanted || early {
                continue;
            }
            if self.options.timestamps && !self.in_line {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            line.append(out);
            self.in_line = line.partial;
        }
        self.reader.rest = rest[complete..].to_vec();
    }
}

fn absent(error: io::Error) -> io::Result<Option<File>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
