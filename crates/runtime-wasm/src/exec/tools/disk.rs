//! What a tool writes counts against the container's limits of disk, as what its guest writes.

use std::{
    io::{self, Write},
    sync::Arc,
};

use tokio::runtime::Handle;

use crate::storage::Storage;

pub struct Disk {
    storage: Arc<Storage>,
    runtime: Handle,
}

impl Disk {
    /// Within a tokio runtime; used on a thread outside of it.
    pub fn new(storage: Arc<Storage>) -> Self {
        Self { storage, runtime: Handle::current() }
    }

    /// So many files, directories or links are about to be made, at most.
    ///
    /// # Errors
    /// When the limit is passed; the container is then ended.
    pub fn make(&self, count: usize) -> io::Result<()> {
        let mut over = false;
        for _ in 0..count {
            over |= self.storage.made();
        }
        self.settle(over)
    }

    fn settle(&self, over: bool) -> io::Result<()> {
        if !over {
            return Ok(());
        }
        self.runtime.block_on(self.storage.settle()).map_err(io::Error::other)
    }
}

/// A file whose bytes are counted before they are written.
pub struct Counted<'a> {
    pub file: std::fs::File,
    pub disk: &'a Disk,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.settle(self.disk.storage.wrote(bytes.len() as u64))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
