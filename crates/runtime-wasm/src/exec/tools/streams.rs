//! A tool's streams, as a thread uses them: it waits where its client does not read or write.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use futures::executor::block_on;

use crate::exec::pipe::Pipe;

/// Stdin, as it comes or unpacked.
pub enum In {
    Plain(Raw),
    Gzip(Box<MultiGzDecoder<Raw>>),
}

impl In {
    pub fn new(pipe: Option<Pipe>) -> Self {
        Self::Plain(Raw(pipe))
    }

    /// From here on what comes is unpacked.
    pub fn unzip(&mut self) {
        if let Self::Plain(raw) = self {
            *self = Self::Gzip(Box::new(MultiGzDecoder::new(Raw(raw.0.take()))));
        }
    }

    /// Whoever sends goes on after the end of what is wanted: a closed stream would be an error to them.
    pub fn drain(&mut self) -> io::Result<()> {
        let raw = match self {
            Self::Plain(raw) => raw,
            Self::Gzip(unpacked) => unpacked.get_mut(),
        };
        io::copy(raw, &mut io::sink()).map(drop)
    }
}

impl Read for In {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(raw) => raw.read(into),
            Self::Gzip(unpacked) => unpacked.read(into),
        }
    }
}

/// At its end where there is no stdin.
pub struct Raw(Option<Pipe>);

impl Read for Raw {
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

/// Stdout, as it is written or packed.
pub enum Packed<'o> {
    Plain(&'o mut Out),
    Gzip(GzEncoder<&'o mut Out>),
}

impl<'o> Packed<'o> {
    pub fn new(out: &'o mut Out, gzip: bool) -> Self {
        if gzip { Self::Gzip(GzEncoder::new(out, Compression::fast())) } else { Self::Plain(out) }
    }

    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(packed) => packed.finish().map(drop),
        }
    }
}

impl Write for Packed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(packed) => packed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
