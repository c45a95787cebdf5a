//! WASI 0.3's files, with what they take of the disk, of open files and of the host's memory counted around the WASI crate's own.
//!
//! What must stay true beside what 0.2 keeps: a guest may call many times at once, so that no call holds more of the host's
//! memory than [`PATH_BYTES_MAX`] or [`WRITE_BYTES`] while it waits, and none holds a thread that waits for the guest.

mod list;
mod write;

use wasmtime::{
    AsContextMut as _,
    component::{Access, Accessor, FutureReader, HasData, Linker, Resource, StreamReader},
};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtxView, WasiFilesystemView as _},
    p3::{
        bindings::filesystem::types::{
            self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
            HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
        filesystem::{FilesystemError, FilesystemResult},
    },
};

use super::Opened;
use crate::guest::Host;
use write::Place;

/// The system takes no longer paths.
const PATH_BYTES_MAX: usize = 4096;
/// What one stream writes at a time.
const WRITE_BYTES: usize = 8 << 10;

struct Counted;

impl HasData for Counted {
    type Data<'a> = View<'a>;
}

struct View<'a> {
    files: WasiFilesystemCtxView<'a>,
    opened: &'a mut Opened,
}

pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<Host, Counted>(linker, |host| View {
        files: host.wasi.filesystem(),
        opened: &mut host.holdings.opened,
    })
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        self.files.convert_error_code(error)
    }
}

impl types::HostDescriptor for View<'_> {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        types::HostDescriptor::drop(&mut self.files, fd)?;
        self.opened.close();
        Ok(())
    }
}

type Fd = Resource<Descriptor>;
type Store = Accessor<Host, Counted>;
type Done = FilesystemResult<()>;
type Ended = FutureReader<Result<(), ErrorCode>>;

fn files(host: &mut Host) -> WasiFilesystemCtxView<'_> {
    host.wasi.filesystem()
}

/// The WASI crate's own.
fn inner(store: &Store) -> Accessor<Host, WasiFilesystem> {
    store.with_getter::<WasiFilesystem>(files)
}

fn plain(paths: &[&str]) -> Done {
    if paths.iter().any(|path| path.len() > PATH_BYTES_MAX) { Err(ErrorCode::NameTooLong.into()) } else { Ok(()) }
}

/// A file, directory or link was made.
async fn made(store: &Store) -> Done {
    let storage = store.with(|mut access| access.data_mut().holdings.storage.clone());
    if storage.made() {
        storage.settle().await.map_err(FilesystemError::trap)?;
    }
    Ok(())
}

fn write(mut store: Access<'_, Host, Counted>, fd: &Fd, data: StreamReader<u8>, at: Place) -> wasmtime::Result<Ended> {
    let host = store.data_mut();
    let (storage, account) = (host.holdings.storage.clone(), host.limits.account().clone());
    let file = match host.wasi.filesystem().table.get(fd)? {
        Descriptor::Dir(_) => Err(ErrorCode::IsDirectory),
        Descriptor::File(file) if file.perms.write_not_permitted() => Err(ErrorCode::NotPermitted),
        Descriptor::File(file) => Ok(file.file.clone()),
    };
    write::begin(store.as_context_mut(), file, (storage, &account), data, at)
}

impl HostDescriptorWithStore<Host> for Counted {
    fn write_via_stream(
        store: Access<'_, Host, Self>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<Ended> {
        write(store, &fd, data, Place::At(offset))
    }

    fn append_via_stream(store: Access<'_, Host, Self>, fd: Fd, data: StreamReader<u8>) -> wasmtime::Result<Ended> {
        write(store, &fd, data, Place::End)
    }

    async fn create_directory_at(store: &Store, fd: Fd, path: String) -> Done {
        plain(&[&path])?;
        WasiFilesystem::create_directory_at(&inner(store), fd, path).await?;
        made(store).await
    }

    async fn link_at(store: &Store, fd: Fd, flags: PathFlags, old: String, new_fd: Fd, new: String) -> Done {
        plain(&[&old, &new])?;
        WasiFilesystem::link_at(&inner(store), fd, flags, old, new_fd, new).await?;
        made(store).await
    }

    async fn symlink_at(store: &Store, fd: Fd, old: String, new: String) -> Done {
        plain(&[&old, &new])?;
        WasiFilesystem::symlink_at(&inner(store), fd, old, new).await?;
        made(store).await
    }

    async fn open_at(
        store: &Store,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Fd> {
        plain(&[&path])?;
        // 0.3 has no word for "too many open files". A call that its guest cancels stays counted until the guest ends.
        store.with(|mut access| access.get().opened.open()).map_err(|_| ErrorCode::InsufficientMemory)?;
        let opened = WasiFilesystem::open_at(&inner(store), fd, path_flags, path, open_flags, flags).await;
        if opened.is_err() {
            store.with(|mut access| access.get().opened.close());
        } else if open_flags.contains(OpenFlags::CREATE) {
            made(store).await?;
        }
        opened
    }

    // The others take nothing.

    fn read_via_stream(
        mut store: Access<'_, Host, Self>,
        fd: Fd,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        WasiFilesystem::read_via_stream(Access::<Host, WasiFilesystem>::new(store.as_context_mut(), files), fd, offset)
    }
    fn read_directory(
        mut store: Access<'_, Host, Self>,
        fd: Fd,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
        let host = store.data_mut();
        let account = host.limits.account().clone();
        let directory = match host.wasi.filesystem().table.get(&fd)? {
            Descriptor::Dir(directory) => Ok(directory.dir.clone()),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory),
        };
        list::begin(store.as_context_mut(), directory, &account)
    }
    async fn advise(store: &Store, fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> Done {
        WasiFilesystem::advise(&inner(store), fd, offset, length, advice).await
    }
    async fn sync_data(store: &Store, fd: Fd) -> Done {
        WasiFilesystem::sync_data(&inner(store), fd).await
    }
    async fn get_flags(store: &Store, fd: Fd) -> FilesystemResult<DescriptorFlags> {
        WasiFilesystem::get_flags(&inner(store), fd).await
    }
    async fn get_type(store: &Store, fd: Fd) -> FilesystemResult<DescriptorType> {
        WasiFilesystem::get_type(&inner(store), fd).await
    }
    async fn set_size(store: &Store, fd: Fd, size: Filesize) -> Done {
        WasiFilesystem::set_size(&inner(store), fd, size).await
    }
    async fn set_times(store: &Store, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> Done {
        WasiFilesystem::set_times(&inner(store), fd, accessed, modified).await
    }
    async fn sync(store: &Store, fd: Fd) -> Done {
        WasiFilesystem::sync(&inner(store), fd).await
    }
    async fn stat(store: &Store, fd: Fd) -> FilesystemResult<DescriptorStat> {
        WasiFilesystem::stat(&inner(store), fd).await
    }
    async fn stat_at(store: &Store, fd: Fd, flags: PathFlags, path: String) -> FilesystemResult<DescriptorStat> {
        plain(&[&path])?;
        WasiFilesystem::stat_at(&inner(store), fd, flags, path).await
    }
    async fn set_times_at(
        store: &Store,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Done {
        plain(&[&path])?;
        WasiFilesystem::set_times_at(&inner(store), fd, flags, path, accessed, modified).await
    }
    async fn readlink_at(store: &Store, fd: Fd, path: String) -> FilesystemResult<String> {
        plain(&[&path])?;
        WasiFilesystem::readlink_at(&inner(store), fd, path).await
    }
    async fn remove_directory_at(store: &Store, fd: Fd, path: String) -> Done {
        plain(&[&path])?;
        WasiFilesystem::remove_directory_at(&inner(store), fd, path).await
    }
    async fn rename_at(store: &Store, fd: Fd, old: String, new_fd: Fd, new: String) -> Done {
        plain(&[&old, &new])?;
        WasiFilesystem::rename_at(&inner(store), fd, old, new_fd, new).await
    }
    async fn unlink_file_at(store: &Store, fd: Fd, path: String) -> Done {
        plain(&[&path])?;
        WasiFilesystem::unlink_file_at(&inner(store), fd, path).await
    }
    async fn is_same_object(store: &Store, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        WasiFilesystem::is_same_object(&inner(store), one, other).await
    }
    async fn metadata_hash(store: &Store, fd: Fd) -> FilesystemResult<MetadataHashValue> {
        WasiFilesystem::metadata_hash(&inner(store), fd).await
    }
    async fn metadata_hash_at(
        store: &Store,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        plain(&[&path])?;
        WasiFilesystem::metadata_hash_at(&inner(store), fd, flags, path).await
    }
}
