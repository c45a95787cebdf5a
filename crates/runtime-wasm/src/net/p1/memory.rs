//! A guest's memory, as calls of preview 1 read and write it: every access is checked.

use wasmtime::{Caller, Extern, Memory};

use super::CHUNK_BYTES_MAX;
use crate::guest::Host;

/// An error number of preview 1.
pub type Errno = i32;

pub const SUCCESS: Errno = 0;
pub const AGAIN: Errno = 6;
pub const BADF: Errno = 8;
const CONNABORTED: Errno = 13;
const CONNRESET: Errno = 15;
pub const FAULT: Errno = 21;
pub const INVAL: Errno = 28;
const IO: Errno = 29;
pub const MFILE: Errno = 33;
pub const NOTCONN: Errno = 53;
pub const NOTSOCK: Errno = 57;
const PIPE: Errno = 64;

pub fn errno(error: &std::io::Error) -> Errno {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::WouldBlock => AGAIN,
        ErrorKind::ConnectionAborted => CONNABORTED,
        ErrorKind::ConnectionReset => CONNRESET,
        ErrorKind::NotConnected => NOTCONN,
        ErrorKind::BrokenPipe => PIPE,
        ErrorKind::InvalidInput => INVAL,
        _ => IO,
    }
}

pub fn of(caller: &mut Caller<'_, Host>) -> Result<Memory, Errno> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(INVAL),
    }
}

pub fn read<const N: usize>(caller: &mut Caller<'_, Host>, at: u32) -> Result<[u8; N], Errno> {
    let memory = of(caller)?;
    let mut bytes = [0; N];
    memory.read(caller, offset(at), &mut bytes).map_err(|_| FAULT)?;
    Ok(bytes)
}

pub fn write(caller: &mut Caller<'_, Host>, at: u32, bytes: &[u8]) -> Result<(), Errno> {
    let memory = of(caller)?;
    memory.write(caller, offset(at), bytes).map_err(|_| FAULT)
}

pub fn read_u32(caller: &mut Caller<'_, Host>, at: u32) -> Result<u32, Errno> {
    read(caller, at).map(u32::from_le_bytes)
}

/// The first buffer of a list that is not empty, cut at [`CHUNK_BYTES_MAX`]: where it begins, and its length.
pub fn first_buffer(caller: &mut Caller<'_, Host>, list: u32, count: u32) -> Result<(u32, usize), Errno> {
    // So many empty ones are nobody's honest list.
    for index in 0..count.min(1024) {
        let entry = list.checked_add(index * 8).ok_or(FAULT)?;
        let length = read_u32(caller, entry.checked_add(4).ok_or(FAULT)?)?;
        if length > 0 {
            let start = read_u32(caller, entry)?;
            let length = usize::try_from(length).unwrap_or(CHUNK_BYTES_MAX).min(CHUNK_BYTES_MAX);
            return Ok((start, length));
        }
    }
    Ok((0, 0))
}

pub fn read_buffer(caller: &mut Caller<'_, Host>, at: u32, length: usize) -> Result<Vec<u8>, Errno> {
    let memory = of(caller)?;
    let mut bytes = vec![0; length];
    memory.read(caller, offset(at), &mut bytes).map_err(|_| FAULT)?;
    Ok(bytes)
}

fn offset(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
