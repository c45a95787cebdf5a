//! Preview 1's calls that take of the disk, of open files or of the thread's time, counted around the ones of the WASI crate.

use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as wasi;
use wiggle::GuestMemory;

use super::Full;
use crate::guest::Host;

const MODULE: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
const EFAULT: i32 = 21;
const EMFILE: i32 = 33;
const ENFILE: i32 = 41;
/// `oflags::creat` of `path_open`.
const CREATE: i32 = 1;
/// Random bytes between two turns: making them takes the thread's time.
const RANDOM_TURN_BYTES: i32 = 64 << 10;

/// The guest's memory, and the host's part of it, apart.
macro_rules! enter {
    ($caller:ident, $memory:ident, $host:ident) => {
        let export = $caller.get_export("memory");
        let fuel = $caller.as_context_mut().hostcall_fuel();
        let (mut $memory, $host) = match &export {
            Some(Extern::Memory(memory)) => {
                let (bytes, host) = memory.data_and_store_mut(&mut $caller);
                (GuestMemory::Unshared(bytes), host)
            }
            Some(Extern::SharedMemory(memory)) => (GuestMemory::Shared(memory.data()), $caller.data_mut()),
            _ => return Err(wasmtime::Error::msg("missing required memory export")),
        };
        wasi::WasiSnapshotPreview1::set_hostcall_fuel(&mut $host.wasi, fuel);
    };
}

/// Takes the place of the functions that `wasmtime_wasi` has put into the linker.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    // As Linux has it: the lowest byte. The WASI crate refuses what is above 125, and programs do end with 255 (-1).
    linker.func_wrap(MODULE, "proc_exit", |status: i32| -> wasmtime::Result<()> {
        Err(wasmtime_wasi::I32Exit(status & 0xff).into())
    })?;
    writes(linker)?;
    names(linker)?;
    opens(linker)?;
    linker.func_wrap_async(MODULE, "random_get", |mut caller: Caller<'_, Host>, (mut at, mut left): (i32, i32)| {
        Box::new(async move {
            // Lengths and addresses are unsigned; a turn is taken from what is left.
            loop {
                let length = if (0..RANDOM_TURN_BYTES).contains(&left) { left } else { RANDOM_TURN_BYTES };
                let result = {
                    enter!(caller, memory, host);
                    wasi::random_get(&mut host.wasi, &mut memory, at, length)?
                };
                left = left.wrapping_sub(length);
                if result != SUCCESS || left == 0 {
                    return Ok(result);
                }
                let Some(next) = at.cast_unsigned().checked_add(length.cast_unsigned()) else { return Ok(EFAULT) };
                at = next.cast_signed();
                caller.data().holdings.turn();
                tokio::task::yield_now().await;
            }
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Counts what a write wrote, as it told the guest.
async fn written(caller: &mut Caller<'_, Host>, fd: i32, result: i32, told_at: i32) -> wasmtime::Result<i32> {
    // The standard streams count where they are written.
    if result != SUCCESS || fd < 3 {
        return Ok(result);
    }
    let told = caller.get_export("memory").and_then(|memory| match memory {
        Extern::Memory(memory) => {
            let at = usize::try_from(told_at.cast_unsigned()).ok()?;
            let bytes = memory.data(&*caller).get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        }
        // Another thread may have changed it: count as much as one call can write.
        _ => Some(1 << 20),
    });
    if caller.data().holdings.storage.wrote(u64::from(told.unwrap_or(0))) {
        let storage = caller.data().holdings.storage.clone();
        storage.settle().await?;
    }
    Ok(result)
}

async fn made(caller: &mut Caller<'_, Host>, result: i32) -> wasmtime::Result<i32> {
    if result == SUCCESS && caller.data().holdings.storage.made() {
        let storage = caller.data().holdings.storage.clone();
        storage.settle().await?;
    }
    Ok(result)
}

pub async fn fd_write(
    mut caller: &mut Caller<'_, Host>,
    fd: i32,
    iovs: i32,
    count: i32,
    told: i32,
) -> wasmtime::Result<i32> {
    let result = {
        enter!(caller, memory, host);
        wasi::fd_write(&mut host.wasi, &mut memory, fd, iovs, count, told).await?
    };
    written(caller, fd, result, told).await
}

pub async fn fd_close(mut caller: &mut Caller<'_, Host>, fd: i32) -> wasmtime::Result<i32> {
    enter!(caller, memory, host);
    let result = wasi::fd_close(&mut host.wasi, &mut memory, fd).await?;
    if result == SUCCESS {
        host.holdings.opened.close();
    }
    Ok(result)
}

fn writes(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "fd_write", |mut caller: Caller<'_, Host>, (fd, iovs, count, told)| {
        Box::new(async move { fd_write(&mut caller, fd, iovs, count, told).await })
    })?;
    linker.func_wrap_async(
        MODULE,
        "fd_pwrite",
        |mut caller: Caller<'_, Host>, (fd, iovs, count, at, told): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let result = {
                    enter!(caller, memory, host);
                    wasi::fd_pwrite(&mut host.wasi, &mut memory, fd, iovs, count, at, told).await?
                };
                written(&mut caller, fd, result, told).await
            })
        },
    )?;
    Ok(())
}

fn names(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "path_create_directory",
        |mut caller: Caller<'_, Host>, (fd, path, length): (i32, i32, i32)| {
            Box::new(async move {
                let result = {
                    enter!(caller, memory, host);
                    wasi::path_create_directory(&mut host.wasi, &mut memory, fd, path, length).await?
                };
                made(&mut caller, result).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_symlink",
        |mut caller: Caller<'_, Host>, (old, old_length, fd, new, new_length): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let result = {
                    enter!(caller, memory, host);
                    wasi::path_symlink(&mut host.wasi, &mut memory, old, old_length, fd, new, new_length).await?
                };
                made(&mut caller, result).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_link",
        |mut caller: Caller<'_, Host>, (a, flags, b, c, d, e, f): (i32, i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let result = {
                    enter!(caller, memory, host);
                    wasi::path_link(&mut host.wasi, &mut memory, a, flags, b, c, d, e, f).await?
                };
                made(&mut caller, result).await
            })
        },
    )?;
    Ok(())
}

fn opens(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Open = (i32, i32, i32, i32, i32, i64, i64, i32, i32);
    linker.func_wrap_async(
        MODULE,
        "path_open",
        |mut caller: Caller<'_, Host>, (a, b, c, d, flags, e, f, g, h): Open| {
            Box::new(async move {
                match caller.data_mut().holdings.opened.open() {
                    Ok(()) => {}
                    Err(Full::Process) => return Ok(EMFILE),
                    Err(Full::Node) => return Ok(ENFILE),
                }
                let result = {
                    enter!(caller, memory, host);
                    wasi::path_open(&mut host.wasi, &mut memory, a, b, c, d, flags, e, f, g, h).await
                };
                if !matches!(result, Ok(SUCCESS)) {
                    caller.data_mut().holdings.opened.close();
                }
                let result = result?;
                if flags & CREATE == 0 { Ok(result) } else { made(&mut caller, result).await }
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Caller<'_, Host>, (fd,): (i32,)| {
        Box::new(async move { fd_close(&mut caller, fd).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Caller<'_, Host>, (from, to): (i32, i32)| {
        Box::new(async move {
            enter!(caller, memory, host);
            let result = wasi::fd_renumber(&mut host.wasi, &mut memory, from, to).await?;
            if result == SUCCESS && from != to {
                host.holdings.opened.close();
            }
            Ok(result)
        })
    })?;
    Ok(())
}
