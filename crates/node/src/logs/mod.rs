//! Container logs: `CONTAINER/ATTEMPT.log` in the CRI format, `RFC3339NANO stdout|stderr F|P TEXT`, the older parts
//! beside it with a suffix of time.

mod files;
mod line;
mod stream;
mod watch;

use std::path::Path;

pub use line::{Line, Stream};
pub use stream::{LogOptions, LogStream};

/// The limits of a termination message that is taken from a log: the kubelet's.
const MESSAGE_BYTES_MAX: usize = 2048;
const MESSAGE_LINES_MAX: usize = 80;

/// The end of a log, for `terminationMessagePolicy: FallbackToLogsOnError`. Empty when there is none.
pub async fn tail_message(path: &Path) -> String {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let from = files::tail_offset(&path, MESSAGE_LINES_MAX).ok()?;
        let bytes = std::fs::read(&path).ok()?;
        let mut text = Vec::new();
        for raw in bytes.get(from..)?.split_inclusive(|b| *b == b'\n') {
            if let Some(line) = Line::parse(raw) {
                line.append(&mut text);
            }
        }
        let from = text.len().saturating_sub(MESSAGE_BYTES_MAX);
        Some(String::from_utf8_lossy(&text[from..]).into_owned())
    });
    read.await.ok().flatten().unwrap_or_default()
}

/// Removes the log of one attempt with its older parts.
pub async fn remove(path: &Path) {
    let path = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        for part in files::parts(&path) {
            let _ = std::fs::remove_file(part);
        }
    });
    let _ = removed.await;
}
