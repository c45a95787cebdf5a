//! What a WASI 0.3 guest writes to a file, in a stream: a piece at a time on a thread for blocking calls, and counted there.

use std::{
    fs::File,
    io::IoSlice,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustix::io::{ReadWriteFlags, pwritev2};
use tokio::{sync::oneshot, task::spawn_blocking};
use wasmtime::{
    StoreContextMut,
    component::{FutureReader, Source, StreamConsumer, StreamReader, StreamResult},
};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::{
    super::{Evicted, Storage},
    WRITE_BYTES,
};
use crate::{
    charge::{Account, Charge},
    guest::Host,
};

/// Where in the file.
#[derive(Clone, Copy)]
pub enum Place {
    At(u64),
    End,
}

impl Place {
    fn write(self, file: &File, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::At(offset) => file.write_at(bytes, offset),
            Self::End => Ok(pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?),
        }
    }
}

/// Lets the stream be written; gives what becomes of it.
pub fn begin(
    mut store: StoreContextMut<'_, Host>,
    file: Result<Arc<File>, ErrorCode>,
    (storage, account): (Arc<Storage>, &Account),
    mut data: StreamReader<u8>,
    place: Place,
) -> wasmtime::Result<FutureReader<Result<(), ErrorCode>>> {
    let (end, ended) = oneshot::channel();
    let charged = account.charge(WRITE_BYTES as u64).map_err(|_| ErrorCode::InsufficientMemory);
    match file.and_then(|file| Ok((file, charged?))) {
        Ok((file, charge)) => {
            let writing = Writing { file, storage, _charge: charge, place, end: Some(end), piece: None };
            data.pipe(&mut store, writing)?;
        }
        Err(code) => {
            data.close(&mut store)?;
            let _ = end.send(Err(code));
        }
    }
    FutureReader::new(&mut store, ended)
}

type Piece = Pin<Box<dyn Future<Output = Result<std::io::Result<usize>, Evicted>> + Send>>;

struct Writing {
    file: Arc<File>,
    storage: Arc<Storage>,
    /// For the piece.
    _charge: Charge,
    place: Place,
    end: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    /// What is being written; it is not given up when the guest would cancel it.
    piece: Option<Piece>,
}

impl Writing {
    fn tell(&mut self, how: Result<(), ErrorCode>) {
        if let Some(end) = self.end.take() {
            let _ = end.send(how);
        }
    }

    fn begin(&self, bytes: &[u8]) -> Piece {
        let (file, storage, place) = (self.file.clone(), self.storage.clone(), self.place);
        let bytes = bytes[..bytes.len().min(WRITE_BYTES)].to_vec();
        Box::pin(async move {
            let counting = storage.clone();
            let written = spawn_blocking(move || {
                let written = place.write(&file, &bytes)?;
                // Here, for nobody may wait for it any more.
                Ok((written, counting.wrote(written as u64)))
            });
            match written.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok((written, over)) => {
                    if over {
                        storage.settle().await?;
                    }
                    Ok(Ok(written))
                }
                Err(error) => Ok(Err(error)),
            }
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

impl StreamConsumer<Host> for Writing {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, Host>,
        from: Source<'_, Self::Item>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut from = from.as_direct(store);
        if self.piece.is_none() {
            let bytes = from.remaining();
            if bytes.is_empty() {
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            self.piece = Some(self.begin(bytes));
        }
        let Some(piece) = &mut self.piece else { return Poll::Ready(Ok(StreamResult::Dropped)) };
        let Poll::Ready(written) = piece.as_mut().poll(context) else { return Poll::Pending };
        self.piece = None;
        match written {
            Err(evicted) => Poll::Ready(Err(evicted.into())),
            Ok(Err(error)) => {
                self.tell(Err(error.into()));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Ok(Ok(count)) => {
                from.mark_read(count);
                if let Place::At(offset) = &mut self.place {
                    *offset = offset.saturating_add(count as u64);
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
        }
    }
}
