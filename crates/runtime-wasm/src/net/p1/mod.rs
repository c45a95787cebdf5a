//! Preview 1 programs that accept: the host listens on the container's declared ports and hands the sockets over, as
//! file descriptors from 3 on (directories come after them), with their number in `LISTEN_FDS`.
//!
//! wasmtime's preview 1 has no sockets, so the functions that a socket may be given to are put in front of it, for modules that import
//! `sock_accept` alone: a descriptor that is no socket goes on to wasmtime. What must stay true: no call reads or writes more
//! than [`CHUNK_BYTES_MAX`], and accepted sockets count as others of the container do.

mod calls;
mod memory;
mod poll;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use wasmtime::{ExternType, Module};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::{
    container::{GuestNet, SocketPermit},
    pod::{Listener, PodNet},
};

pub use calls::add_to_linker;

/// Bytes that one call reads or writes at most.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// The first descriptor that the host hands over.
const FD_FIRST: u32 = 3;
/// Accepted sockets are numbered from here: wasmtime gives the lowest free number, and has no more than a guest may hold resources.
const FD_ACCEPTED: u32 = 1 << 16;
/// Ports of one container that are listened on; further ones are not.
const LISTENERS_MAX: usize = 16;

/// Whether a module accepts on a socket that it was given, so that it needs one.
pub fn accepts(module: &Module) -> bool {
    let shared = |ty: &ExternType| matches!(ty, ExternType::Memory(memory) if memory.is_shared());
    let wants = |name: &str| module.imports().any(|i| i.name() == name && i.module() == "wasi_snapshot_preview1");
    // Nobody else may see the memory while a call works on it.
    wants("sock_accept") && !module.exports().any(|export| shared(&export.ty()))
}

/// What a program is given to accept on.
pub struct Listening {
    listeners: Vec<Arc<Accepting>>,
    /// An empty directory: wasmtime's descriptors of these numbers have to be something.
    placeholder: PathBuf,
}

impl Listening {
    /// Listens on the container's ports.
    ///
    /// # Errors
    /// Names the port.
    pub async fn open(pod: &Arc<PodNet>, ports: &[u16], placeholder: PathBuf) -> Result<Self, String> {
        let mut listeners = Vec::new();
        for port in ports.iter().take(LISTENERS_MAX) {
            let listener = pod.listen(*port).await;
            let listener = listener.map_err(|error| format!("failed to listen on container port {port}: {error}"))?;
            listeners.push(Arc::new(Accepting { listener, waiting: Mutex::default() }));
        }
        std::fs::create_dir_all(&placeholder).map_err(|error| format!("failed to make a directory: {error}"))?;
        Ok(Self { listeners, placeholder })
    }

    /// Takes the first descriptors and tells the guest.
    pub fn give(&self, wasi: &mut WasiCtxBuilder) -> Result<(), String> {
        for _ in &self.listeners {
            wasi.preopened_dir(&self.placeholder, "", FsPerms::ReadOnly)
                .map_err(|error| format!("failed to hand over a socket: {error}"))?;
        }
        if !self.listeners.is_empty() {
            wasi.env("LISTEN_FDS", self.listeners.len().to_string());
        }
        Ok(())
    }

    pub fn sockets(self) -> Sockets {
        let listeners = (FD_FIRST..)
            .zip(self.listeners)
            .map(|(fd, listener)| (fd, Entry { socket: Socket::Listener(listener), nonblocking: false }));
        Sockets { entries: listeners.collect() }
    }
}

/// One guest's sockets, by their descriptors.
#[derive(Default)]
pub struct Sockets {
    entries: BTreeMap<u32, Entry>,
}

#[derive(Clone)]
struct Entry {
    socket: Socket,
    nonblocking: bool,
}

#[derive(Clone)]
enum Socket {
    Listener(Arc<Accepting>),
    Stream(Arc<Connected>),
}

struct Accepting {
    listener: Listener,
    /// Found by a poll, and not accepted yet.
    waiting: Mutex<Option<TcpStream>>,
}

struct Connected {
    stream: TcpStream,
    _permit: SocketPermit,
}

impl Accepting {
    /// Ready when there is a connection to accept.
    fn poll_waiting(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.lock();
        if waiting.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.listener.socket.poll_accept(context).map_ok(|(stream, _)| *waiting = Some(stream))
    }
}

impl Sockets {
    fn get(&self, fd: i32) -> Option<Entry> {
        self.entries.get(&fd.cast_unsigned()).cloned()
    }

    fn get_mut(&mut self, fd: i32) -> Option<&mut Entry> {
        self.entries.get_mut(&fd.cast_unsigned())
    }

    fn close(&mut self, fd: i32) {
        self.entries.remove(&fd.cast_unsigned());
    }

    fn add(&mut self, stream: TcpStream, permit: SocketPermit, nonblocking: bool) -> u32 {
        let taken = |fd: &u32| self.entries.contains_key(fd);
        // The container's limit of sockets ends this.
        let fd = (FD_ACCEPTED..).find(|fd| !taken(fd)).unwrap_or(FD_ACCEPTED);
        let socket = Socket::Stream(Arc::new(Connected { stream, _permit: permit }));
        self.entries.insert(fd, Entry { socket, nonblocking });
        fd
    }
}

impl GuestNet {
    /// Hands over what the program accepts on.
    pub fn with(mut self, listening: Option<Listening>) -> Self {
        self.p1 = listening.map(Listening::sockets).unwrap_or_default();
        self
    }
}
