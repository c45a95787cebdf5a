//! What outlives a call: the parts of the runtime that its guests hold until they have ended.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use skiff_runtime::{Capabilities, Error, Image, Result, SandboxId, ledger::Ledger};

use super::WASMTIME_VERSION;
use crate::{
    compile::Compiler,
    config::WasmConfig,
    engine::{self, Ticker},
    http::Slots,
    images::Images,
    lanes::Lanes,
    limits::Budget,
    messages,
    net::{Network, PodNet},
    options::{Machines, Variant},
    process::Process,
    program::Machine,
    storage::Storages,
    stores::Stores,
    sweep,
};

/// What outlives a call: guests hold it until they have ended.
pub(crate) struct Shared {
    pub(super) config: WasmConfig,
    pub(super) capabilities: Capabilities,
    /// Containers and what is exec'd in them, each with an instance.
    pub(super) instances_max: usize,
    /// The instances of requests, beside those.
    pub(super) request_slots: Arc<Slots>,
    pub(crate) ledger: Ledger<Process>,
    pub(super) images: Images,
    pub(super) compiler: Arc<Compiler>,
    pub(super) machine: OnceLock<Result<Started>>,
    pub(super) budget: Arc<Budget>,
    pub(super) stores: Arc<Stores>,
    pub(super) network: Arc<Network>,
    /// Each pod's place in the network, while its sandbox is there.
    pub(super) nets: Mutex<HashMap<SandboxId, Arc<PodNet>>>,
    pub(super) storages: Storages,
    pub(super) pulls: Mutex<HashMap<PullKey, Pull>>,
    /// Processes of containers that hold an instance.
    pub(super) alive: AtomicUsize,
    pub(crate) closed: AtomicBool,
}

/// The canonical reference, and the user's name and password.
pub(super) type PullKey = (String, (String, String));
pub(super) type Pull = futures::future::Shared<futures::future::BoxFuture<'static, Result<Image>>>;

/// What is made when the first image or container needs it (or in the background before).
#[derive(Clone)]
pub(crate) struct Started {
    pub machine: Arc<Machine>,
    pub machines: Arc<Machines>,
    pub ticker: Arc<Ticker>,
    pub lanes: Arc<Lanes>,
}

impl Shared {
    /// Opens the root directory and reads the image index.
    pub(super) fn open(config: WasmConfig) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::Internal(format!("failed to open the Wasm runtime's directory {}: {error}", config.root.display()))
        };
        let capacity = engine::capacity(config.instances_max);
        let instances_max = capacity.containers;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::fs::create_dir_all(&config.root).map_err(failed)?;
        let images = Images::open(&config.root).map_err(failed)?;
        let compiler = Compiler::new(&config.root, config.compile_threads.unwrap_or(processors)).map_err(failed)?;
        let capabilities = Capabilities {
            scheme: "wasm",
            version: format!("wasmtime://{WASMTIME_VERSION}"),
            handlers: messages::engines::HANDLERS.map(|(name, _)| name.to_owned()).to_vec(),
            wasm: true,
            exec: true,
            attach: true,
            stats: true,
            port_forward: true,
            pod_ip: true,
            containers_max: Some((instances_max, capacity.limit)),
            ..Capabilities::default()
        };
        sweep::sweep(&config.root, &capabilities.version, &images.modules());
        let budget = Budget::new(config.memory_bytes_total);
        let stores = Stores::new(config.root.join("keyvalue"));
        let network = match &config.network {
            Some(network) => network.clone(),
            None => Network::open().map_err(|error| Error::Internal(format!("no addresses for pods: {error}")))?,
        };
        Ok(Self {
            config,
            capabilities,
            instances_max,
            request_slots: Slots::new(capacity.requests),
            ledger: Ledger::new(),
            images,
            compiler,
            machine: OnceLock::new(),
            budget,
            stores,
            network,
            nets: Mutex::default(),
            storages: Storages::new(),
            pulls: Mutex::default(),
            alive: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn containers_directory(&self) -> PathBuf {
        self.config.root.join("containers")
    }

    pub(super) fn net(&self, sandbox: &str) -> Result<Arc<PodNet>> {
        let net = self.nets.lock().get(sandbox).cloned();
        net.ok_or_else(|| Error::NotFound { what: "sandbox", id: sandbox.to_owned() })
    }

    pub(super) fn started_blocking(&self) -> Result<Started> {
        let make = || {
            let failed = |error: String| Error::Internal(format!("failed to start the Wasm engine: {error}"));
            let wasi_0_3 = self.config.wasi_0_3;
            let engine = engine::engine(self.instances_max + self.request_slots.max(), wasi_0_3)
                .map_err(|error| failed(format!("{error:#}")))?;
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = self.config.guest_threads.unwrap_or(processors).max(1);
            let common = Machine::new(engine.clone(), &Variant::default(), wasi_0_3);
            let common = Arc::new(common.map_err(|error| failed(format!("{error:#}")))?);
            let ticker = Arc::new(Ticker::start(engine).map_err(|error| failed(error.to_string()))?);
            Ok(Started {
                machines: Arc::new(Machines::new(common.clone(), ticker.clone(), self.compiler.clone(), wasi_0_3)),
                ticker,
                lanes: Arc::new(Lanes::new(threads).map_err(|error| failed(error.to_string()))?),
                machine: common,
            })
        };
        self.machine.get_or_init(make).clone()
    }

    pub(crate) async fn started(self: &Arc<Self>) -> Result<Started> {
        if let Some(started) = self.machine.get() {
            return started.clone();
        }
        let shared = self.clone();
        blocking(move || shared.started_blocking()).await
    }

    /// Room for one more instance, until it is given back.
    pub(crate) fn take_slot(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::InvalidState("the runtime is shutting down".to_owned()));
        }
        if self.alive.fetch_add(1, Ordering::SeqCst) >= self.instances_max {
            self.give_slot_back();
            return Err(Error::Exhausted(format!(
                "the node runs {} Wasm containers, as many as it can",
                self.instances_max
            )));
        }
        Ok(())
    }

    pub(crate) fn give_slot_back(&self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs what reads or writes files apart from the threads that answer.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a step of the Wasm runtime failed: {error}"))),
    }
}
