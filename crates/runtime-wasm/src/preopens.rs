//! A server's preopened directories, opened when a request's guest asks for them: most never do, and opening them for each
//! would cost more than the host's part of a small answer.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _};

use rustix::fs::OFlags;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, WasiFilesystemCtxView, WasiFilesystemView as _},
    p2::bindings::filesystem::preopens,
    p3::bindings::filesystem::preopens as preopens3,
};

use crate::{files::Preopen, guest::Host};

struct Directories;

impl HasData for Directories {
    type Data<'a> = View<'a>;
}

struct View<'a> {
    files: WasiFilesystemCtxView<'a>,
    /// None: those that were opened when the store was made.
    later: Option<&'a [Preopen]>,
}

/// Takes the place of what `wasmtime_wasi` has put into the linker.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    preopens::add_to_linker::<Host, Directories>(linker, |host| View {
        files: host.wasi.filesystem(),
        later: host.preopens.as_deref(),
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same for 0.3.
pub fn add_0_3_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    preopens3::add_to_linker::<Host, Directories>(linker, |host| View {
        files: host.wasi.filesystem(),
        later: host.preopens.as_deref(),
    })
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl preopens3::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl View<'_> {
    fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Some(later) = self.later else { return preopens::Host::get_directories(&mut self.files) };
        let mut all = Vec::with_capacity(later.len());
        for preopen in later {
            let directory = open(preopen)
                .map_err(|error| wasmtime::Error::msg(format!("failed to mount {:?}: {error}", preopen.guest_path)))?;
            let handle = self.files.table.push(Descriptor::Dir(directory))?;
            all.push((handle, preopen.guest_path.clone()));
        }
        Ok(all)
    }
}

/// As the WASI crate opens them.
fn open(preopen: &Preopen) -> std::io::Result<Dir> {
    let flags = (OFlags::DIRECTORY | OFlags::PATH).bits().cast_signed();
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(&preopen.host_path)?;
    let mode = match preopen.perms {
        FsPerms::ReadOnly => OpenMode::READ,
        FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
    };
    Ok(Dir::new(directory, preopen.perms, mode, false))
}
