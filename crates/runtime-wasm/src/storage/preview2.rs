//! WASI 0.2's files, with what they take of the disk and of open files counted around the WASI crate's own.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView as _},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable, StreamError,
        StreamResult,
        bindings::filesystem::types::{self, HostDescriptor, HostDirectoryEntryStream},
    },
};

use super::{Evicted, Opened, Storage};
use crate::{
    charge::{Account, Charge},
    guest::Host,
    limits::OutOfMemory,
};

/// What one stream of a file holds at most when the guest does not wait for it: one read or write.
const STREAM_BYTES: u64 = 64 << 10;
/// What one name of a directory takes at most.
const ENTRY_BYTES: u64 = 320;

struct Counted;

impl HasData for Counted {
    type Data<'a> = View<'a>;
}

struct View<'a> {
    files: WasiFilesystemCtxView<'a>,
    storage: &'a Arc<Storage>,
    opened: &'a mut Opened,
    account: &'a Account,
}

/// Takes the place of what `wasmtime_wasi` has put into the linker.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Host, Counted>(linker, |host| View {
        files: host.wasi.filesystem(),
        storage: &host.holdings.storage,
        opened: &mut host.holdings.opened,
        account: host.limits.account(),
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

impl View<'_> {
    async fn made(&mut self) -> FsResult<()> {
        if self.storage.made() {
            self.storage.settle().await.map_err(evicted)?;
        }
        Ok(())
    }

    fn counted(&mut self, stream: Resource<DynOutputStream>) -> FsResult<Resource<DynOutputStream>> {
        let place = self.files.table.get_mut(&stream)?;
        let inner = std::mem::replace(place, Box::new(wasmtime_wasi::p2::pipe::ClosedOutputStream));
        let (storage, charge) = (self.storage.clone(), self.account.nothing());
        *place = Box::new(Writer { inner, storage, charge, over: false, evicted: None });
        Ok(stream)
    }
}

fn evicted(error: Evicted) -> FsError {
    FsError::trap(error)
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        self.files.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        self.files.filesystem_error_code(error)
    }
}

type Fd = Resource<Descriptor>;

impl HostDescriptor for View<'_> {
    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let written = HostDescriptor::write(&mut self.files, fd, bytes, offset).await?;
        if self.storage.wrote(written) {
            self.storage.settle().await.map_err(evicted)?;
        }
        Ok(written)
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.files.create_directory_at(fd, path).await?;
        self.made().await
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        old_path: String,
        new: Fd,
        new_path: String,
    ) -> FsResult<()> {
        self.files.link_at(fd, flags, old_path, new, new_path).await?;
        self.made().await
    }

    async fn symlink_at(&mut self, fd: Fd, source: String, path: String) -> FsResult<()> {
        self.files.symlink_at(fd, source, path).await?;
        self.made().await
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Fd> {
        // 0.2 has no word for "too many open files".
        self.opened.open().map_err(|_| types::ErrorCode::InsufficientMemory)?;
        let opened = self.files.open_at(fd, path_flags, path, open_flags, flags).await;
        if opened.is_err() {
            self.opened.close();
        } else if open_flags.contains(types::OpenFlags::CREATE) {
            self.made().await?;
        }
        opened
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.files, fd)?;
        self.opened.close();
        Ok(())
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.files.write_via_stream(fd, offset)?;
        self.counted(stream)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.files.append_via_stream(fd)?;
        self.counted(stream)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let stream = self.files.read_via_stream(fd, offset)?;
        let charge = self.account.nothing();
        let place = self.files.table.get_mut(&stream)?;
        let inner = std::mem::replace(place, Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream));
        *place = Box::new(Reader { inner, charge });
        Ok(stream)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let read = self.files.read_directory(fd).await?;
        let entries = self.files.table.delete(read)?.into_iter();
        let bytes = (entries.size_hint().0 as u64).saturating_mul(ENTRY_BYTES);
        let charge = self.account.charge(bytes).map_err(|_| types::ErrorCode::InsufficientMemory)?;
        let directory = self.files.table.push(Directory { entries: Mutex::new(entries), _charge: charge })?;
        Ok(Resource::new_own(directory.rep()))
    }

    // The others take nothing.

    async fn advise(&mut self, fd: Fd, offset: u64, length: u64, advice: types::Advice) -> FsResult<()> {
        self.files.advise(fd, offset, length, advice).await
    }
    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.files.sync_data(fd).await
    }
    async fn get_flags(&mut self, fd: Fd) -> FsResult<types::DescriptorFlags> {
        self.files.get_flags(fd).await
    }
    async fn get_type(&mut self, fd: Fd) -> FsResult<types::DescriptorType> {
        self.files.get_type(fd).await
    }
    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        self.files.set_size(fd, size).await
    }
    async fn set_times(&mut self, fd: Fd, access: types::NewTimestamp, change: types::NewTimestamp) -> FsResult<()> {
        self.files.set_times(fd, access, change).await
    }
    async fn read(&mut self, fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        HostDescriptor::read(&mut self.files, fd, length, offset).await
    }
    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.files.sync(fd).await
    }
    async fn stat(&mut self, fd: Fd) -> FsResult<types::DescriptorStat> {
        self.files.stat(fd).await
    }
    async fn stat_at(&mut self, fd: Fd, flags: types::PathFlags, path: String) -> FsResult<types::DescriptorStat> {
        self.files.stat_at(fd, flags, path).await
    }
    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
        access: types::NewTimestamp,
        change: types::NewTimestamp,
    ) -> FsResult<()> {
        self.files.set_times_at(fd, flags, path, access, change).await
    }
    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.files.readlink_at(fd, path).await
    }
    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.files.remove_directory_at(fd, path).await
    }
    async fn rename_at(&mut self, fd: Fd, old_path: String, new: Fd, new_path: String) -> FsResult<()> {
        self.files.rename_at(fd, old_path, new, new_path).await
    }
    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.files.unlink_file_at(fd, path).await
    }
    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        self.files.is_same_object(one, other).await
    }
    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<types::MetadataHashValue> {
        self.files.metadata_hash(fd).await
    }
    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.files.metadata_hash_at(fd, flags, path).await
    }
}

/// What is in a directory, read at once and given one by one. It stands in the table where the WASI crate's own would.
struct Directory {
    entries: Mutex<Box<dyn Iterator<Item = FsResult<types::DirectoryEntry>> + Send>>,
    _charge: Charge,
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let directory = self.files.table.get_mut(&Resource::<Directory>::new_borrow(stream.rep()))?;
        directory.entries.get_mut().next().transpose()
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files.table.delete(Resource::<Directory>::new_own(stream.rep()))?;
        Ok(())
    }
}

/// A file's input stream: what was read for the guest and not taken yet is counted.
struct Reader {
    inner: DynInputStream,
    charge: Charge,
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            full(self.charge.at_least(STREAM_BYTES))?;
        }
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// As a system that has no memory says it.
fn full(charged: Result<(), OutOfMemory>) -> StreamResult<()> {
    charged.map_err(|_| StreamError::LastOperationFailed(std::io::Error::from(rustix::io::Errno::NOMEM).into()))
}

/// A file's output stream whose bytes are counted.
struct Writer {
    inner: DynOutputStream,
    storage: Arc<Storage>,
    /// For what is on its way to the disk while the guest goes on.
    charge: Charge,
    /// A place may be full: nothing more is taken before that is known.
    over: bool,
    evicted: Option<Evicted>,
}

impl Writer {
    fn fate(&mut self) -> StreamResult<()> {
        match self.evicted.take() {
            Some(evicted) => Err(StreamError::Trap(evicted.into())),
            None => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.inner.ready().await;
        if self.over {
            self.evicted = self.storage.settle().await.err();
            self.over = false;
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = bytes.len() as u64;
        full(self.charge.at_least(STREAM_BYTES))?;
        self.inner.write(bytes)?;
        self.over |= self.storage.wrote(length);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.fate()?;
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.fate()?;
        if self.over { Ok(0) } else { self.inner.check_write() }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.fate()?;
        let length = bytes.len() as u64;
        self.inner.blocking_write_and_flush(bytes).await?;
        if self.storage.wrote(length) {
            self.over = true;
            self.ready().await;
        }
        self.fate()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
