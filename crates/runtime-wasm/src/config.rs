//! What the binary tells the runtime when it opens it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    net::{Mode, Network},
    signatures::SignaturePolicy,
};

/// Memory of a container that has no limit of its own: 1 GiB.
pub const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// The largest module or image layer that is taken: 256 MiB.
pub const IMAGE_BYTES_MAX: u64 = 256 << 20;
/// The most code (not data) of a module or component: compiling takes some 25 bytes of memory for each. 64 MiB.
pub const CODE_BYTES_MAX: u64 = 64 << 20;
/// The most that a function's local variables times the depth of its loops may be: compiling takes some 2 KiB of memory for each.
pub const LOCALS_IN_LOOPS_MAX: u64 = 200_000;
/// The most containers that the pool is made for by default; fewer where the system allows fewer.
pub const INSTANCES_MAX_DEFAULT: usize = 10_000;

#[derive(Clone)]
pub struct WasmConfig {
    /// Images, compiled modules and the containers' private files are kept here. One process at a time.
    pub root: PathBuf,
    /// The most containers alive at once; default [`INSTANCES_MAX_DEFAULT`], never more than the system allows. Requests that
    /// servers answer have instances beside these: an eighth as many, at least 16 and at most 1024.
    pub instances_max: Option<usize>,
    /// Threads that compile; default: one per processor. They run at a lower priority.
    pub compile_threads: Option<usize>,
    /// Threads that run guests; default: one per processor (of each of the two lanes, see `lanes.rs`).
    pub guest_threads: Option<usize>,
    /// Of a container without a limit; default [`MEMORY_BYTES_DEFAULT`].
    pub memory_bytes_default: u64,
    /// Of all containers together; default: the machine's memory.
    pub memory_bytes_total: Option<u64>,
    pub registry: RegistryConfig,
    /// Which images must be signed; default: none.
    pub signatures: SignaturePolicy,
    /// Large modules are started as soon as Winch has compiled them; Cranelift replaces that for later starts.
    pub fast_first_start: bool,
    /// Runs components of WASI 0.3, which wasmtime calls experimental. Off by default: all instances are dearer with it.
    pub wasi_0_3: bool,
    /// The pods' addresses; runtimes of one process share it, so that their pods reach each other. Default: one of its own.
    pub network: Option<Arc<Network>>,
    /// What the guests of a pod may do with the network when its annotation `skiff.dev/network` says nothing: all.
    pub network_mode: Mode,
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// `HOST[:PORT]` of registries that speak plain HTTP. Those on localhost or a loopback address always do.
    pub plain_http: Vec<String>,
    /// `(HOST, MIRROR_HOST)`: the mirror is asked in place of the host; names stay as they are.
    pub mirrors: Vec<(String, String)>,
    /// For one pull; default 15 minutes.
    pub time_max: Option<Duration>,
}

impl WasmConfig {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            instances_max: None,
            compile_threads: None,
            guest_threads: None,
            memory_bytes_default: MEMORY_BYTES_DEFAULT,
            memory_bytes_total: None,
            registry: RegistryConfig::default(),
            signatures: SignaturePolicy::default(),
            fast_first_start: false,
            wasi_0_3: false,
            network: None,
            network_mode: Mode::default(),
        }
    }
}
