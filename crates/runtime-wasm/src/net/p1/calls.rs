//! The calls of preview 1 that may be given a socket.

use std::io;

use tokio::io::Interest;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::{
    Connected, Entry, Socket, Sockets,
    memory::{self, AGAIN, BADF, Errno, INVAL, MFILE, NOTCONN, NOTSOCK, SUCCESS},
    poll::poll_oneoff,
};
use crate::{guest::Host, storage::preview1};

const MODULE: &str = "wasi_snapshot_preview1";
const NONBLOCK: i32 = 1 << 2;
const SOCKET_STREAM: u8 = 6;
/// Neither a directory nor anything else that preview 1 knows as preopened.
const PRESTAT_OTHER: u8 = 1;
/// Read, set flags, write, poll, shut down, accept.
const RIGHTS: u64 = (1 << 1) | (1 << 3) | (1 << 6) | (1 << 27) | (1 << 28) | (1 << 29);
const PEEK: i32 = 1;

/// Goes on to wasmtime's own function.
macro_rules! inner {
    ($caller:ident, $name:ident($($argument:expr),*), $($wait:tt)*) => {{
        let fuel = $caller.as_context_mut().hostcall_fuel();
        let Some(Extern::Memory(memory)) = $caller.get_export("memory") else {
            return Err(wasmtime::Error::msg("missing required memory export"));
        };
        let (data, host) = memory.data_and_store_mut(&mut $caller);
        host.wasi.set_hostcall_fuel(fuel);
        let mut data = GuestMemory::Unshared(data);
        wasi::$name(&mut host.wasi, &mut data, $($argument),*)$($wait)*
    }};
}
pub(super) use inner;

pub(super) fn sockets<'a>(caller: &'a mut Caller<'_, Host>) -> Option<&'a mut Sockets> {
    caller.data_mut().net_mut().map(|net| &mut net.p1)
}

pub(super) fn entry(caller: &mut Caller<'_, Host>, fd: i32) -> Option<Entry> {
    sockets(caller)?.get(fd)
}

fn told(result: Result<(), Errno>) -> wasmtime::Result<i32> {
    Ok(result.err().unwrap_or(SUCCESS))
}

/// Puts these in front of wasmtime's preview 1.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_sockets(linker)?;
    add_files(linker)?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |caller: Caller<'_, Host>, (subscriptions, events, count, done): (i32, i32, i32, i32)| {
            Box::new(poll_oneoff(caller, subscriptions, events, count, done))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn add_sockets(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "sock_accept",
        |mut caller: Caller<'_, Host>, (fd, flags, out): (i32, i32, i32)| {
            Box::new(async move { told(accept(&mut caller, fd, flags, out.cast_unsigned()).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "sock_recv",
        |mut caller: Caller<'_, Host>, (fd, list, count, flags, read, out): (i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let Some(entry) = entry(&mut caller, fd) else { return Ok(NOTSOCK) };
                let received = receive(&mut caller, &entry, list, count, read, flags & PEEK != 0).await;
                let flags = out.cast_unsigned();
                told(received.and_then(|()| memory::write(&mut caller, flags, &0_u16.to_le_bytes())))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "sock_send",
        |mut caller: Caller<'_, Host>, (fd, list, count, _flags, written): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let Some(entry) = entry(&mut caller, fd) else { return Ok(NOTSOCK) };
                told(send(&mut caller, &entry, list, count, written).await)
            })
        },
    )?;
    linker.func_wrap(MODULE, "sock_shutdown", |mut caller: Caller<'_, Host>, fd: i32, how: i32| {
        let Some(entry) = entry(&mut caller, fd) else { return NOTSOCK };
        match shut_down(&entry, how) {
            Ok(()) => SUCCESS,
            Err(errno) => errno,
        }
    })?;
    Ok(())
}

fn add_files(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, Host>, (fd, list, count, read): (i32, i32, i32, i32)| {
            Box::new(async move {
                match entry(&mut caller, fd) {
                    Some(entry) => told(receive(&mut caller, &entry, list, count, read, false).await),
                    None => inner!(caller, fd_read(fd, list, count, read), .await),
                }
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, Host>, (fd, list, count, written): (i32, i32, i32, i32)| {
            Box::new(async move {
                match entry(&mut caller, fd) {
                    Some(entry) => told(send(&mut caller, &entry, list, count, written).await),
                    None => preview1::fd_write(&mut caller, fd, list, count, written).await,
                }
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Caller<'_, Host>, (fd,): (i32,)| {
        Box::new(async move {
            if let Some(sockets) = sockets(&mut caller)
                && sockets.get(fd).is_some()
            {
                sockets.close(fd);
                return Ok(SUCCESS);
            }
            preview1::fd_close(&mut caller, fd).await
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, Host>, (fd, out): (i32, i32)| {
        Box::new(async move {
            match entry(&mut caller, fd) {
                Some(entry) => told(memory::write(&mut caller, out.cast_unsigned(), &fdstat(&entry))),
                None => inner!(caller, fd_fdstat_get(fd, out), .await),
            }
        })
    })?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |mut caller: Caller<'_, Host>, fd: i32, flags: i32| -> wasmtime::Result<i32> {
            if let Some(entry) = sockets(&mut caller).and_then(|sockets| sockets.get_mut(fd)) {
                entry.nonblocking = flags & NONBLOCK != 0;
                return Ok(SUCCESS);
            }
            inner!(caller, fd_fdstat_set_flags(fd, flags),)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        |mut caller: Caller<'_, Host>, fd: i32, out: i32| -> wasmtime::Result<i32> {
            match entry(&mut caller, fd) {
                // Programs look on for directories after a descriptor that is none.
                Some(_) => told(memory::write(&mut caller, out.cast_unsigned(), &[PRESTAT_OTHER, 0, 0, 0, 0, 0, 0, 0])),
                None => inner!(caller, fd_prestat_get(fd, out),),
            }
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        |mut caller: Caller<'_, Host>, fd: i32, path: i32, length: i32| -> wasmtime::Result<i32> {
            match entry(&mut caller, fd) {
                Some(_) => Ok(BADF),
                None => inner!(caller, fd_prestat_dir_name(fd, path, length),),
            }
        },
    )?;
    Ok(())
}

fn fdstat(entry: &Entry) -> [u8; 24] {
    let mut stat = [0; 24];
    stat[0] = SOCKET_STREAM;
    stat[2] = if entry.nonblocking { 1 << 2 } else { 0 };
    stat[8..16].copy_from_slice(&RIGHTS.to_le_bytes());
    stat[16..24].copy_from_slice(&RIGHTS.to_le_bytes());
    stat
}

async fn accept(caller: &mut Caller<'_, Host>, fd: i32, flags: i32, out: u32) -> Result<(), Errno> {
    let Some(Entry { socket, nonblocking }) = entry(caller, fd) else { return Err(NOTSOCK) };
    let Socket::Listener(accepting) = socket else { return Err(INVAL) };
    let permit = {
        let net = caller.data().net().ok_or(BADF)?;
        net.shared.socket().ok_or_else(|| {
            net.shared.full(&net.warn);
            MFILE
        })?
    };
    let found = std::future::poll_fn(|context| match accepting.poll_waiting(context) {
        std::task::Poll::Pending if nonblocking => std::task::Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
        other => other,
    });
    found.await.map_err(|error| memory::errno(&error))?;
    let stream = accepting.waiting.lock().take().ok_or(AGAIN)?;
    let sockets = sockets(caller).ok_or(BADF)?;
    let accepted = sockets.add(stream, permit, flags & NONBLOCK != 0);
    memory::write(caller, out, &accepted.to_le_bytes())
}

fn stream(entry: &Entry) -> Result<&Connected, Errno> {
    match &entry.socket {
        Socket::Stream(connected) => Ok(connected),
        Socket::Listener(_) => Err(NOTCONN),
    }
}

async fn receive(
    caller: &mut Caller<'_, Host>,
    entry: &Entry,
    list: i32,
    count: i32,
    out: i32,
    peek: bool,
) -> Result<(), Errno> {
    let stream = &stream(entry)?.stream;
    let (start, length) = memory::first_buffer(caller, list.cast_unsigned(), count.cast_unsigned())?;
    let mut bytes = vec![0; length];
    let read = loop {
        let read = if peek {
            let flags = rustix::net::RecvFlags::PEEK;
            let look = || Ok(rustix::net::recv(stream, &mut bytes[..], flags).map(|(read, _)| read)?);
            stream.try_io(Interest::READABLE, look)
        } else {
            stream.try_read(&mut bytes)
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !entry.nonblocking && length > 0 => {
                stream.readable().await.map_err(|error| memory::errno(&error))?;
            }
            read => break read.map_err(|error| memory::errno(&error))?,
        }
    };
    memory::write(caller, start, &bytes[..read])?;
    memory::write(caller, out.cast_unsigned(), &u32::try_from(read).unwrap_or_default().to_le_bytes())
}

async fn send(caller: &mut Caller<'_, Host>, entry: &Entry, list: i32, count: i32, out: i32) -> Result<(), Errno> {
    let stream = &stream(entry)?.stream;
    let (start, length) = memory::first_buffer(caller, list.cast_unsigned(), count.cast_unsigned())?;
    let bytes = memory::read_buffer(caller, start, length)?;
    let written = loop {
        match stream.try_write(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !entry.nonblocking => {
                stream.writable().await.map_err(|error| memory::errno(&error))?;
            }
            written => break written.map_err(|error| memory::errno(&error))?,
        }
    };
    memory::write(caller, out.cast_unsigned(), &u32::try_from(written).unwrap_or_default().to_le_bytes())
}

fn shut_down(entry: &Entry, how: i32) -> Result<(), Errno> {
    use rustix::net::{Shutdown, shutdown};
    let how = match how {
        1 => Shutdown::Read,
        2 => Shutdown::Write,
        3 => Shutdown::Both,
        _ => return Err(INVAL),
    };
    shutdown(&stream(entry)?.stream, how).map_err(|error| memory::errno(&error.into()))
}
