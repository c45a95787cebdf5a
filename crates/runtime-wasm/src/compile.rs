//! From bytes to linked programs: once per digest, on a bounded set of low-priority threads, kept on disk.
//!
//! A compiled artefact is machine code that is mapped and run, so it is loaded only if *this host* made it: each
//! carries a keyed hash over its bytes, with a key that is made at random in the root directory and readable by its
//! owner alone. Anything that does not verify (or was made by another engine) is compiled again.

use std::{
    hash::{Hash, Hasher},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::{Module, component::Component};

use crate::{
    compile_queue::{LARGE_BYTES, Queue, Urgency},
    engine, options,
    program::{Machine, Program},
    programs::Programs,
};

const MAGIC: &[u8; 8] = b"skiffcw1";
const MAC_BYTES: usize = 32;
/// Kinds of artefacts: 0 is a core module.
const COMPONENT: u8 = 1;

pub struct Compiler {
    directory: PathBuf,
    key: OnceLock<[u8; 32]>,
    queue: Queue,
    programs: Mutex<Programs<Program>>,
}

/// Why there is no program.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The module is fine; a pod may ask for an engine that has what it needs.
    #[error("{0}")]
    Features(String),
    #[error("{0}")]
    Other(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

impl Compiler {
    pub fn new(root: &Path, threads: usize) -> std::io::Result<Arc<Self>> {
        let directory = root.join("compiled");
        std::fs::create_dir_all(&directory)?;
        Ok(Arc::new(Self { directory, key: OnceLock::new(), queue: Queue::new(threads), programs: Mutex::default() }))
    }

    /// The program of that digest; `read` gives its bytes if it must be compiled. Callers share the work.
    ///
    /// # Errors
    /// Why it cannot be compiled, with the place in the module.
    pub async fn program(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        digest: &str,
        read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Arc<Program>, Failure> {
        self.program_by(machine, digest, Urgency::Waited, read).await
    }

    /// As [`Self::program`].
    ///
    /// # Errors
    /// As those of [`Self::program`].
    pub async fn program_by(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        digest: &str,
        urgency: Urgency,
        read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Arc<Program>, Failure> {
        let cell = self.programs.lock().cell((digest.to_owned(), machine.id));
        if let Some(program) = cell.get() {
            return Ok(program.clone());
        }
        let made = cell.get_or_try_init(|| self.make(machine.clone(), digest.to_owned(), urgency, read)).await.cloned();
        drop(cell);
        self.programs.lock().trim();
        made
    }

    async fn make(
        self: &Arc<Self>,
        machine: Arc<Machine>,
        digest: String,
        urgency: Urgency,
        read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Arc<Program>, Failure> {
        let (this, engine, name) = (self.clone(), machine.clone(), digest.clone());
        let (cached, bytes) = blocking(move || {
            if let Some(program) = this.load(&engine, &name) {
                return Ok((Some(program), Vec::new()));
            }
            read().map(|bytes| (None, bytes)).map_err(|error| error.to_string())
        })
        .await?;
        if let Some(program) = cached {
            return Ok(Arc::new(program));
        }
        let _turn = self.queue.turn(bytes.len(), urgency).await?;
        let this = self.clone();
        blocking(move || this.compile(&machine, &digest, &bytes, urgency)).await.map(Arc::new)
    }

    /// Forgets the program of a removed image; running containers keep theirs.
    pub fn forget(&self, digest: &str) {
        // Its snapshots are named after it.
        self.programs.lock().retain(|(other, _)| !other.starts_with(digest));
        let prefix = digest.trim_start_matches("sha256:");
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Forgets the programs of a machine that goes; running containers keep theirs.
    pub fn forget_machine(&self, machine: &Machine) {
        self.programs.lock().retain(|(_, other)| *other != machine.id);
    }

    /// Whether a start with it has nothing to compile.
    pub fn has(&self, machine: &Machine, digest: &str) -> bool {
        self.programs.lock().get(&(digest.to_owned(), machine.id)).is_some_and(|cell| cell.initialized())
            || self.path(machine, digest).exists()
    }

    /// Forgets the program of one machine; running containers keep theirs.
    pub fn forget_of(&self, machine: &Machine, digest: &str) {
        self.programs.lock().remove(&(digest.to_owned(), machine.id));
        let _ = std::fs::remove_file(self.path(machine, digest));
    }

    /// What runs is what is kept: the compiler's own structures, several times the code, are gone before the program is made.
    #[allow(unsafe_code)]
    fn compile(&self, machine: &Machine, digest: &str, bytes: &[u8], urgency: Urgency) -> Result<Program, Failure> {
        let started = std::time::Instant::now();
        let describe = |error: wasmtime::Error| match options::missing(bytes, machine.variant.features) {
            Some(message) => Failure::Features(message),
            None => Failure::Other(format!("{error:#}")),
        };
        let kind = u8::from(wasmparser::Parser::is_component(bytes));
        let artefact = self.queue.run(bytes.len(), urgency, || {
            // An engine keeps what its compiler's threads worked with: tens of megabytes after a large module.
            let own = (bytes.len() >= LARGE_BYTES).then(|| engine::variant(&machine.variant, machine.wasi_0_3));
            let engine = own.transpose()?.unwrap_or_else(|| machine.engine.clone());
            match kind {
                COMPONENT => engine.precompile_component(bytes),
                _ => engine.precompile_module(bytes),
            }
        })?;
        let artefact = artefact.map_err(describe)?;
        if let Err(error) = self.save(machine, digest, kind, &artefact) {
            tracing::warn!(digest, error = %error, "compiled module not kept");
        }
        // SAFETY: the engine has just made it of a module of that kind.
        let program = unsafe { link(machine, kind, &artefact) }.map_err(describe)?;
        tracing::info!(digest, bytes = bytes.len(), millis = started.elapsed().as_millis(), "module compiled");
        Ok(program)
    }

    /// One file per digest and engine: another engine's settings or version give another name.
    fn path(&self, machine: &Machine, digest: &str) -> PathBuf {
        let mut hasher = ShaHasher(Sha256::new());
        machine.engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hex(&hasher.0.finalize()[..8]);
        self.directory.join(format!("{}-{engine}.cwasm", digest.trim_start_matches("sha256:")))
    }

    fn save(&self, machine: &Machine, digest: &str, kind: u8, body: &[u8]) -> std::io::Result<()> {
        let kind = [kind];
        let mac = mac(self.key()?, &[MAGIC, &kind, digest.as_bytes(), body]);
        crate::images::write_atomically(&self.path(machine, digest), &[MAGIC, &kind, &mac, body])
    }

    #[allow(unsafe_code)]
    fn load(&self, machine: &Machine, digest: &str) -> Option<Program> {
        let path = self.path(machine, digest);
        let bytes = std::fs::read(&path).ok()?;
        let (head, body) = bytes.split_at_checked(MAGIC.len() + 1 + MAC_BYTES)?;
        let (magic, rest) = head.split_at_checked(MAGIC.len())?;
        let (kind, found) = rest.split_at_checked(1)?;
        let key = self.key().ok()?;
        if magic != MAGIC || !same(found, &mac(key, &[MAGIC, kind, digest.as_bytes(), body])) {
            tracing::warn!(digest, "a compiled module was not made by this host: compiling again");
            return None;
        }
        // SAFETY: the bytes are held in our own memory and carry this host's keyed hash over content, kind and digest, so
        // they are what the engine gave to `save`; the engine checks its own version.
        let linked = unsafe { link(machine, kind[0], body) };
        linked.map_err(|error| tracing::warn!(digest, error = %error, "compiled module not loaded")).ok()
    }

    fn key(&self) -> std::io::Result<&[u8; 32]> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let key = read_or_make_key(&self.directory.join("key"))?;
        Ok(self.key.get_or_init(|| key))
    }
}

/// Loads compiled code and links it.
///
/// # Safety
/// `artefact` must be what this host's engine made of a module of that kind.
#[allow(unsafe_code)]
unsafe fn link(machine: &Machine, kind: u8, artefact: &[u8]) -> wasmtime::Result<Program> {
    if kind == COMPONENT {
        // SAFETY: the caller's.
        let component = unsafe { Component::deserialize(&machine.engine, artefact) }?;
        Ok(machine.link_component(&component))
    } else {
        // SAFETY: the caller's.
        let module = unsafe { Module::deserialize(&machine.engine, artefact) }?;
        Ok(machine.link_module(&module))
    }
}

async fn blocking<T: Send + 'static, E: From<String> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(format!("the compiler failed: {error}").into()),
    }
}

fn read_or_make_key(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
            file.write_all(&key)?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut file = std::fs::File::open(path)?;
            if file.read_exact(&mut key).is_err() {
                // Cut off while it was made: nothing can be signed with it yet.
                std::fs::remove_file(path)?;
                return read_or_make_key(path);
            }
        }
        Err(error) => return Err(error),
    }
    Ok(key)
}

/// HMAC-SHA256 (RFC 2104) over the parts, each preceded by its length.
fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        for (slot, key) in block.iter_mut().zip(key) {
            *slot ^= key;
        }
        block
    };
    let mut inner = Sha256::new();
    inner.update(pad(0x36));
    for part in parts {
        inner.update((part.len() as u64).to_le_bytes());
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(pad(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// In constant time.
fn same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
