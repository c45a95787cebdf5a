//! The processes of one container: its main process, and those that were exec'd into it.
//!
//! What must stay true: an exec'd process ends with its container at the latest; the container's end is told after theirs.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use skiff_runtime::{Error, Exit, Result};
use tokio::sync::{Notify, oneshot};

use super::resize::Size;
use crate::limits::Usage;

/// Processes of one container, the main one included; exec answers with an error beyond.
pub const PROCESSES_MAX: usize = 64;
/// The main process.
pub const PID_MAIN: u32 = 1;

/// One process, as the tools show it.
pub struct Entry {
    pub pid: u32,
    pub args: Vec<String>,
    pub started: Timestamp,
    pub usage: Arc<Usage>,
    pub size: Arc<Size>,
    kill: Mutex<Option<oneshot::Sender<Exit>>>,
}

impl Entry {
    pub fn kill(&self, exit: Exit) {
        if let Some(kill) = self.kill.lock().take() {
            let _ = kill.send(exit);
        }
    }
}

#[derive(Default)]
pub struct Processes {
    inner: Mutex<Inner>,
    quiet: Notify,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    count: u32,
    running: BTreeMap<u32, Arc<Entry>>,
}

impl Processes {
    /// Enters a process; what the receiver gets is how it is to end.
    ///
    /// # Errors
    /// When the container has ended, or runs as many as it may.
    pub fn enter(&self, args: Vec<String>, container: &Arc<Usage>) -> Result<(Arc<Entry>, oneshot::Receiver<Exit>)> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Error::InvalidState("the container has exited".to_owned()));
        }
        if inner.running.len() + 1 >= PROCESSES_MAX {
            return Err(Error::Exhausted(format!(
                "the container runs {PROCESSES_MAX} processes, as many as one may: end some of them"
            )));
        }
        let (kill, killed) = oneshot::channel();
        inner.count += 1;
        let entry = Arc::new(Entry {
            pid: PID_MAIN + inner.count,
            args,
            started: Timestamp::now(),
            usage: Usage::of(container),
            size: Arc::default(),
            kill: Mutex::new(Some(kill)),
        });
        inner.running.insert(entry.pid, entry.clone());
        Ok((entry, killed))
    }

    pub fn left(&self, pid: u32) {
        let mut inner = self.inner.lock();
        inner.running.remove(&pid);
        if inner.running.is_empty() {
            self.quiet.notify_waiters();
        }
    }

    /// Exec'd ones, by their ids.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.inner.lock().running.values().cloned().collect()
    }

    /// No more are let in, and those that run are killed. Whether none are left.
    pub fn close(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.running.values().for_each(|entry| entry.kill(Exit::killed()));
        inner.running.is_empty()
    }

    /// Until none runs.
    pub async fn quiet(&self) {
        loop {
            let notified = self.quiet.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.inner.lock().running.is_empty() {
                return;
            }
            notified.await;
        }
    }
}
