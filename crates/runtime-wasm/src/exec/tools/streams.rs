//! A tool's streams, as a thread uses them: it waits where its client does not read or write.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
};

use futures::executor::block_on;

use crate::exec::pipe::Pipe;

/// Stdin; at its end where there is none.
pub struct In(Option<Pipe>);

impl In {
    pub fn new(pipe: Option<Pipe>) -> Self {
        Self(pipe)
    }
}

impl Read for In {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &self.0 else { return Ok(0) };
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            block_on(poll_fn(|context| pipe.poll_readable(context)));
            match pipe.get(into.len()) {
                Some(bytes) if !bytes.is_empty() => {
                    into[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Some(_) => {}
                None => return Ok(0),
            }
        }
    }
}

pub struct Out {
    pipe: Pipe,
    /// Bytes left out before the first that is written.
    skip: u64,
}

impl Out {
    pub fn new(pipe: Pipe) -> Self {
        Self { pipe, skip: 0 }
    }

    pub fn skip(&mut self, bytes: u64) {
        self.skip = bytes;
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.skip > 0 {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            return Ok(skipped);
        }
        loop {
            block_on(poll_fn(|context| self.pipe.poll_writable(context)));
            let room = self.pipe.room()?.min(bytes.len());
            if room > 0 || bytes.is_empty() {
                self.pipe.put(&bytes[..room])?;
                return Ok(room);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
