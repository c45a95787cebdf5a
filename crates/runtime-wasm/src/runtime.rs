//! The runtime itself: the contract's verbs, each a few steps over the other modules.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, stream::BoxStream};
use parking_lot::Mutex;
use skiff_runtime::{
    Attached, Capabilities, Connection, ContainerConfig, ContainerId, ContainerState, ContainerStats, ContainerStatus,
    Credentials, Error, ExecRequest, Exit, Image, ImageSource, Result, Runtime, RuntimeEvent, Sandbox, SandboxConfig,
    SandboxId, StreamsWanted, annotations,
    ledger::{Container, Ledger},
    reference::Reference,
};
use tokio::sync::{SetOnce, oneshot};

use crate::{
    compile::{self, Compiler},
    config::WasmConfig,
    engine::{self, Ticker},
    exec::{Hub, Output, Processes, Stdio},
    files, first_start,
    guest::{self, Launch},
    http::{self, Seat},
    images::{self, Content, Images, RunConfig},
    lanes::{Bucket, Lanes, Metered},
    layout,
    limits::{Budget, Usage},
    log::Log,
    messages, module,
    net::{ContainerNet, Network, PodFacts, PodNet, p1::Listening},
    options::{self, Machines, Setup, Variant},
    process::{self, Process, Run, Warn},
    program::Machine,
    registry,
    storage::Storages,
    stores::Stores,
    sweep, wall,
};

/// The engine says its version nowhere; a test compares this with Cargo.lock.
pub const WASMTIME_VERSION: &str = "48.0.8";

pub struct WasmRuntime {
    shared: Arc<Shared>,
}

/// What outlives a call: guests hold it until they have ended.
pub(crate) struct Shared {
    config: WasmConfig,
    capabilities: Capabilities,
    instances_max: usize,
    pub(crate) ledger: Ledger<Process>,
    images: Images,
    compiler: Arc<Compiler>,
    machine: OnceLock<Result<Started>>,
    budget: Arc<Budget>,
    stores: Arc<Stores>,
    network: Arc<Network>,
    /// Each pod's place in the network, while its sandbox is there.
    nets: Mutex<HashMap<SandboxId, Arc<PodNet>>>,
    storages: Storages,
    pulls: Mutex<HashMap<PullKey, Pull>>,
    /// Processes of containers that hold an instance.
    alive: AtomicUsize,
    pub(crate) closed: AtomicBool,
}

/// The canonical reference, and the user's name and password.
type PullKey = (String, (String, String));
type Pull = futures::future::Shared<futures::future::BoxFuture<'static, Result<Image>>>;

/// What is made when the first image or container needs it (or in the background before).
#[derive(Clone)]
pub(crate) struct Started {
    pub machine: Arc<Machine>,
    machines: Arc<Machines>,
    pub ticker: Arc<Ticker>,
    pub lanes: Arc<Lanes>,
}

impl WasmRuntime {
    /// Opens the root directory and reads the image index; the engine is made in the background.
    ///
    /// # Errors
    /// [`Error::Internal`] when the root directory cannot be used.
    pub fn open(config: WasmConfig) -> Result<Arc<Self>> {
        let failed = |error: std::io::Error| {
            Error::Internal(format!("failed to open the Wasm runtime's directory {}: {error}", config.root.display()))
        };
        let (instances_max, limit) = engine::capacity(config.instances_max);
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
            containers_max: Some((instances_max, limit)),
            ..Capabilities::default()
        };
        sweep::sweep(&config.root, &capabilities.version, &images.modules());
        raise_file_limit();
        let budget = Budget::new(config.memory_bytes_total);
        let stores = Stores::new(config.root.join("keyvalue"));
        let network = match &config.network {
            Some(network) => network.clone(),
            None => Network::open().map_err(|error| Error::Internal(format!("no addresses for pods: {error}")))?,
        };
        let shared = Arc::new(Shared {
            config,
            capabilities,
            instances_max,
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
        });
        // What an earlier process left of its containers goes away in the background, and not among the new ones.
        let left = shared.config.root.join("containers.old");
        let _ = std::fs::create_dir_all(&left);
        let aside = left.join(jiff::Timestamp::now().as_nanosecond().to_string());
        let _ = std::fs::rename(shared.containers_directory(), aside);
        let warm = shared.clone();
        std::thread::Builder::new()
            .name("wasm-open".to_owned())
            .spawn(move || {
                let _ = warm.started_blocking();
                let _ = std::fs::remove_dir_all(left);
            })
            .map_err(|error| Error::Internal(format!("failed to start a thread: {error}")))?;
        Ok(Arc::new(Self { shared }))
    }
}

/// Guests hold file descriptors: take as many as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(error = %error, "limit of open files not raised");
    }
}

impl Shared {
    fn containers_directory(&self) -> PathBuf {
        self.config.root.join("containers")
    }

    fn net(&self, sandbox: &str) -> Result<Arc<PodNet>> {
        let net = self.nets.lock().get(sandbox).cloned();
        net.ok_or_else(|| Error::NotFound { what: "sandbox", id: sandbox.to_owned() })
    }

    fn started_blocking(&self) -> Result<Started> {
        let make = || {
            let failed = |error: String| Error::Internal(format!("failed to start the Wasm engine: {error}"));
            let wasi_0_3 = self.config.wasi_0_3;
            let engine = engine::engine(self.instances_max, wasi_0_3).map_err(|error| failed(format!("{error:#}")))?;
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

    /// Compiles what was fetched and names it.
    async fn admit(self: &Arc<Self>, name: Reference, content: Content) -> Result<Image> {
        let unusable = |reason: String| Error::ImageUnusable { image: name.to_string(), reason };
        let module = images::digest(&content.module);
        let Started { machine, machines, .. } = self.started().await?;
        let (shared, digest) = (self.clone(), module.clone());
        let content = blocking(move || {
            shared.images.keep(&digest, &content.module).map_err(disk)?;
            Ok(content)
        })
        .await?;
        let (shared, digest) = (self.clone(), module.clone());
        let read = move || shared.images.read(&digest);
        let compiled = if self.config.fast_first_start {
            first_start::compile(&self.compiler, &machines, &module, content.module.len(), read).await
        } else {
            self.compiler.program(&machine, &module, read).await.map(drop)
        };
        match compiled {
            // A pod may ask for them: then it is compiled when a container of it is created.
            Ok(()) | Err(compile::Failure::Features(_)) => {}
            Err(failure) => return Err(unusable(failure.to_string())),
        }
        let shared = self.clone();
        blocking(move || {
            let (image, gone) = shared.images.add(&name, &content, &module).map_err(disk)?;
            shared.forget(gone);
            Ok(image)
        })
        .await
    }

    /// Concurrent pulls of one reference with the same credentials share one.
    async fn pull_shared(self: &Arc<Self>, name: Reference, credentials: Option<Credentials>) -> Result<Image> {
        let user = credentials.as_ref().map(|c| (c.username.clone(), c.password.clone())).unwrap_or_default();
        let key = (name.to_string(), user);
        let pull = {
            let mut pulls = self.pulls.lock();
            // One that has ended is nobody's to share: the tag may have moved since.
            pulls.retain(|_, pull| pull.peek().is_none());
            let shared = self.clone();
            let start = || async move { shared.pull(name, credentials).await }.boxed().shared();
            pulls.entry(key).or_insert_with(start).clone()
        };
        let result = pull.await;
        // Nor is a password kept for longer than it is used.
        self.pulls.lock().retain(|_, pull| pull.peek().is_none());
        result
    }

    async fn pull(self: Arc<Self>, name: Reference, credentials: Option<Credentials>) -> Result<Image> {
        let known = |id: &str| matches!(self.images.find(id), Ok(Some(_)));
        let pulled = registry::pull(&self.config.registry, &name, credentials, &self.config.signatures, known).await;
        let image = name.to_string();
        match pulled {
            Ok(registry::Pulled::New(content)) => self.admit(name, content).await,
            Ok(registry::Pulled::Known { id, digests, signed_by }) => {
                let shared = self.clone();
                let named =
                    blocking(move || shared.images.name(&name, &id, &digests, signed_by.as_deref()).map_err(disk))
                        .await?;
                let gone_meanwhile =
                    || Error::ImagePull { image, reason: "it was removed while it was pulled".to_owned() };
                let (image, gone) = named.ok_or_else(gone_meanwhile)?;
                self.forget(gone);
                Ok(image)
            }
            Err(registry::Failure::Pull(reason)) => Err(Error::ImagePull { image, reason }),
            Err(registry::Failure::Unusable(reason)) => Err(Error::ImageUnusable { image, reason }),
        }
    }

    /// Whether the node's policy lets an image that is here go by that name.
    fn admits(&self, name: &str, record: &images::Record) -> bool {
        let name = Reference::parse(name);
        name.map_or(true, |name| self.config.signatures.admits(&name, &record.signed_by))
    }

    fn forget(&self, modules: Vec<String>) {
        for module in modules {
            self.compiler.forget(&module);
        }
    }

    /// Makes what tells the user about this container.
    fn warn(self: &Arc<Self>, container: &Arc<Container<Process>>) -> Warn {
        let (shared, container) = (self.clone(), container.clone());
        Arc::new(move |reason, message| shared.ledger.warn(&container, reason, message))
    }

    fn end(&self, container: &Container<Process>, exit: Exit) {
        let mut kill = container.extra.kill.lock();
        match kill.take() {
            // It runs: its own task reports the exit.
            Some(kill) => drop(kill.send(exit)),
            None if container.state() == ContainerState::Created => {
                self.ledger.exited(container, exit);
            }
            None => {}
        }
    }

    /// Asks it to end: at once, but a server may finish its requests within the grace.
    async fn stop(&self, container: &Container<Process>, grace: Duration) {
        let server = container.extra.server.as_ref().filter(|_| container.state() == ContainerState::Running);
        if let Some(server) = server.filter(|_| !grace.is_zero()) {
            server.drain.cancel();
            if tokio::time::timeout(grace, container.wait_exited()).await.is_ok() {
                return;
            }
            self.end(container, Exit::killed());
        } else {
            self.end(container, if grace.is_zero() { Exit::killed() } else { Exit::terminated() });
        }
        container.wait_exited().await;
    }

    /// After the main process is gone: what was exec'd ends, then the container.
    fn finish(self: Arc<Self>, container: Arc<Container<Process>>, exit: Exit) {
        if container.extra.processes.close() {
            return self.finished(&container, exit);
        }
        // On the thread of a lane, within its runtime.
        tokio::runtime::Handle::current().spawn(async move {
            container.extra.processes.quiet().await;
            self.finished(&container, exit);
        });
    }

    /// The log is complete, the files are read and removed, then the exit is told.
    fn finished(&self, container: &Container<Process>, mut exit: Exit) {
        let process = &container.extra;
        if let Some(log) = &*process.log.lock()
            && let Err(error) = log.finish()
        {
            tracing::warn!(container = &*container.id, error = %error, "end of a log not written");
        }
        if exit.message.is_empty()
            && let Some(path) = &container.config.termination_message_path
        {
            exit.message = files::termination_message(&process.root, &container.config.mounts, path);
        }
        files::remove(&process.root, container.config.termination_message_path.as_deref());
        process.kill.lock().take();
        self.give_slot_back();
        self.ledger.exited(container, exit.clone());
        process.hub.ended(&exit);
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

    fn start(self: &Arc<Self>, container: Arc<Container<Process>>, started: Started) -> Result<()> {
        let process = &container.extra;
        self.take_slot()?;
        let (sender, receiver) = oneshot::channel();
        let log = self.enter(&container, sender).inspect_err(|_| self.give_slot_back())?;
        let hub = &process.hub;
        let run = Run {
            main: true,
            entry: process.entry.clone(),
            args: process.args.clone(),
            stdio: Stdio {
                stdin: hub.stdin.clone(),
                output: Output::Log { log: log.clone(), attached: hub.clone() },
                tty: hub.tty(),
            },
            usage: process.usage_main.clone(),
        };
        log.counts_on(process.storage.clone());
        let (shared, ended) = (Arc::downgrade(self), Arc::downgrade(&container));
        process.storage.ends_with(move |exit| {
            if let (Some(shared), Some(container)) = (shared.upgrade(), ended.upgrade()) {
                shared.end(&container, exit);
            }
        });
        let mut guest = self.metered(&container, &started, run, receiver);
        guest.log = Some(log);
        let shared = self.clone();
        started.lanes.spawn(guest, move |exit| shared.finish(container, exit));
        Ok(())
    }

    /// A process of a container, ready to be driven.
    pub(crate) fn metered(
        self: &Arc<Self>,
        container: &Arc<Container<Process>>,
        started: &Started,
        run: Run,
        kill: oneshot::Receiver<Exit>,
    ) -> Metered {
        let yielded = Arc::new(AtomicBool::new(false));
        let usage = run.usage.clone();
        let bucket = container.extra.bucket.clone();
        let (seat, kill) = Self::seat(container, started, run.main, kill);
        Metered {
            guest: Box::pin(self.clone().guest(container.clone(), run, yielded.clone(), seat)),
            kill,
            yielded,
            usage,
            ticker: started.ticker.clone(),
            log: None,
            bucket,
            slices: 0,
            pause: None,
        }
    }

    /// A server's place, and the means to kill a process: a server's requests end before it does, so it has them itself.
    fn seat(
        container: &Container<Process>,
        started: &Started,
        main: bool,
        kill: oneshot::Receiver<Exit>,
    ) -> (Option<Seat>, Option<oneshot::Receiver<Exit>>) {
        let process = &container.extra;
        let control = process.server.as_ref().filter(|_| main);
        let (Some(control), Some(log)) = (control.cloned(), process.log.lock().clone()) else {
            return (None, Some(kill));
        };
        let net = process.net.pod.clone();
        let (lanes, ticker, bucket) = (started.lanes.clone(), started.ticker.clone(), process.bucket.clone());
        (Some(Seat { control, net, lanes, ticker, bucket, log, kill }), None)
    }

    /// created → running, once, with its log there and the means to end it.
    fn enter(&self, container: &Container<Process>, sender: oneshot::Sender<Exit>) -> Result<Log> {
        let config = &container.config;
        let log = Log::create(config.log_path.clone(), config.log_bytes_max, config.log_files_max)
            .map_err(|error| Error::Internal(format!("failed to create log {}: {error}", config.log_path.display())))?;
        // Held over both steps: who stops it meanwhile finds it created, or running with the means to end it.
        let mut kill = container.extra.kill.lock();
        self.ledger.started(container)?;
        *kill = Some(sender);
        *container.extra.log.lock() = Some(log.clone());
        Ok(log)
    }

    /// What a program accepts on: the main process has the container's ports, another has none.
    async fn listening(&self, container: &Container<Process>, main: bool) -> Result<Option<Listening>, String> {
        let process = &container.extra;
        if !process.program.accepts || !main {
            return Ok(None);
        }
        let placeholder = self.config.root.join("empty");
        Listening::open(&process.net.pod, &container.config.ports, placeholder).await.map(Some)
    }

    async fn guest(
        self: Arc<Self>,
        container: Arc<Container<Process>>,
        run: Run,
        yielded: Arc<AtomicBool>,
        seat: Option<Seat>,
    ) -> Exit {
        let process = &container.extra;
        let config = &container.config;
        let preopens = if run.main { lay_out(&container) } else { Ok(process.preopens.wait().await.clone()) };
        let preopens = match preopens {
            Ok(preopens) => preopens,
            Err(error) => {
                let message = format!("failed to make the container's files: {error}");
                return Exit { code: 128, reason: "StartError", message };
            }
        };
        let listening = match self.listening(&container, run.main).await {
            Ok(listening) => listening,
            Err(message) => return Exit { code: 128, reason: "StartError", message },
        };
        let main = run.main;
        let launch = Launch {
            setup: process.setup.clone(),
            program: process.program.clone(),
            entry: run.entry,
            args: run.args,
            env: process.env.clone(),
            working_dir: process.working_dir.clone(),
            preopens,
            stdio: run.stdio,
            usage: run.usage,
            storage: process.storage.clone(),
            budget: self.budget.clone(),
            memory_bytes_max: config.resources.memory_bytes_max.unwrap_or(self.config.memory_bytes_default),
            yielded,
            net: process.net.clone(),
            listening,
            warn: self.warn(&container),
            seat,
        };
        // Checked when it was created.
        let limit = wall::limit(&config.annotations).unwrap_or_default().filter(|_| main);
        let run = std::panic::AssertUnwindSafe(wall::within(limit, guest::run(launch))).catch_unwind();
        run.await.unwrap_or_else(|_| Exit {
            code: 128,
            reason: "StartError",
            message: "the host failed while it ran this container; its log tells more".to_owned(),
        })
    }
}

/// Makes what the processes of a container see of files.
fn lay_out(container: &Container<Process>) -> std::io::Result<Arc<[files::Preopen]>> {
    let (process, config) = (&container.extra, &container.config);
    let message_path = config.termination_message_path.as_deref();
    let private = process.program.opens_files;
    let preopens: Arc<[_]> = files::lay_out(&process.root, private, &config.mounts, message_path)?.into();
    let _ = process.preopens.set(preopens.clone());
    Ok(preopens)
}

fn disk(error: std::io::Error) -> Error {
    Error::Internal(format!("failed to write an image: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a step of the Wasm runtime failed: {error}"))),
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let shared = &self.shared;
        let mode = match config.annotations.get(annotations::NETWORK) {
            Some(text) => text.parse().map_err(Error::Invalid)?,
            None => shared.config.network_mode,
        };
        let facts = PodFacts { namespace: config.namespace.clone(), hostname: config.hostname.clone(), mode };
        shared.ledger.run_sandbox(config, |id| {
            let net = shared.network.join(facts).map_err(|error| Error::Exhausted(error.to_string()))?;
            let ip = net.ip();
            shared.nets.lock().insert(id.clone(), net);
            Ok(vec![ip.into()])
        })
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let containers = self.shared.ledger.stop_sandbox(id);
        for container in &containers {
            self.shared.end(container, Exit::killed());
        }
        for container in &containers {
            container.wait_exited().await;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        self.shared.ledger.remove_sandbox(id);
        self.shared.nets.lock().remove(id);
        self.shared.storages.forget(id);
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>> {
        Ok(self.shared.ledger.sandboxes())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        let shared = &self.shared;
        let pod = shared.ledger.sandbox_config(sandbox)?;
        let name = if config.image_id.is_empty() { &config.image } else { &config.image_id };
        let Some((_, image)) = shared.images.find(name)? else {
            return Err(Error::NotFound { what: "image", id: name.clone() });
        };
        let invalid = |reason: String| Error::Invalid(format!("container {:?}: {reason}", config.name));
        if !shared.admits(&config.image, &image) {
            let reason = "the node's image policy wants a signature, and none was checked".to_owned();
            return Err(Error::ImageUnusable { image: config.image, reason });
        }
        let machines = shared.started().await?.machines;
        let node = options::Node {
            machines: &machines,
            fast_first_start: shared.config.fast_first_start.then_some((&*shared.compiler, &*image.module)),
            budget: &shared.budget,
            stores: &shared.stores,
            root: &shared.config.root,
            memory_bytes_default: shared.config.memory_bytes_default,
        };
        let setup = Setup::of(&node, &config, &pod).map_err(invalid)?;
        let (reader, module) = (shared.clone(), image.module.clone());
        let program = setup
            .program(&shared.compiler, &image.module, move || reader.images.read(&module))
            .await
            .map_err(|failure| Error::ImageUnusable { image: config.image.clone(), reason: failure.to_string() })?;
        let args = process::arguments(&config, &image.run);
        let entry = process::entry(&args);
        program.check(entry.as_deref()).map_err(invalid)?;
        files::check(&config.mounts).map_err(invalid)?;
        wall::limit(&config.annotations).map_err(invalid)?;
        let RunConfig { working_dir, .. } = &image.run;
        let mut env = process::environment(&config, &pod, &image.run);
        let server = http::Control::of(&program, &config, &pod, &env).map_err(invalid)?;
        if server.is_some() {
            env.retain(|(name, _)| !http::for_host(name));
        }
        let usage = Arc::new(Usage::default());
        let root = shared.containers_directory().join(unique());
        let process = Process {
            setup,
            program,
            entry,
            env,
            args,
            working_dir: config.working_dir.clone().or_else(|| working_dir.clone()),
            storage: shared.storages.container(&Arc::from(sandbox), &pod, &config, root.clone()),
            root,
            preopens: SetOnce::new(),
            usage_main: Usage::of(&usage),
            usage,
            bucket: config.resources.cpu_millis_max.map(|millis| Arc::new(Mutex::new(Bucket::new(millis)))),
            processes: Processes::default(),
            hub: Hub::new(config.stdin, config.stdin_once, config.tty),
            net: ContainerNet::new(shared.net(sandbox)?),
            log: Mutex::default(),
            kill: Mutex::default(),
            server,
        };
        let first = config.attempt == 0 && shared.ledger.containers(Some(sandbox)).is_empty();
        let container = shared.ledger.create(sandbox, config, process)?;
        if first && let Some(message) = messages::engines::substituted(&pod.runtime_handler) {
            shared.ledger.warn(&container, messages::engines::REASON, message);
        }
        Ok(container.id.clone())
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.shared.ledger.container(id)?;
        let started = self.shared.started().await?;
        self.shared.start(container.clone(), started)?;
        if let Some(server) = &container.extra.server {
            tokio::select! {
                () = server.listens.cancelled() => {}
                () = container.wait_exited() => {}
            }
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.shared.ledger.get(id) else { return Ok(()) };
        self.shared.stop(&container, grace).await;
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.stop_container(id, Duration::ZERO).await?;
        self.shared.ledger.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.shared.ledger.container(id)?.status())
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        Ok(self.shared.ledger.containers(sandbox).iter().map(|container| container.status()).collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        self.shared.ledger.events()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        let found = self.shared.images.find(reference)?;
        let found = found.filter(|(_, record)| self.shared.admits(reference, record));
        Ok(found.map(|(id, record)| images::describe(&id, &record)))
    }

    async fn pull_image(&self, reference: &str, credentials: Option<Credentials>) -> Result<Image> {
        let name = Reference::parse(reference)?;
        self.shared.pull_shared(name, credentials).await
    }

    async fn load_image(&self, reference: &str, source: ImageSource) -> Result<Image> {
        let name = Reference::parse(reference)?;
        if name.digest.is_some() {
            return Err(Error::Invalid(format!("{reference:?}: what is loaded is named by a tag, not by a digest")));
        }
        if let Some(rule) = self.shared.config.signatures.rule(&name) {
            let reason = format!("what is loaded from a file cannot be checked, and {}", rule.describe());
            return Err(Error::ImageUnusable { image: name.to_string(), reason });
        }
        let image = name.to_string();
        let runtime = tokio::runtime::Handle::current();
        let content = blocking(move || {
            let unusable = |reason| Error::ImageUnusable { image, reason };
            match source {
                ImageSource::Module(bytes) => {
                    let module = module::read(&bytes).map_err(unusable)?;
                    let id = images::digest(&module);
                    Ok(Content { digests: vec![id.clone()], id, module, run: RunConfig::default(), signed_by: None })
                }
                ImageSource::OciLayoutTar(bytes) => runtime.block_on(layout::read(&bytes)).map_err(unusable),
            }
        })
        .await?;
        self.shared.admit(name, content).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.shared.images.list())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let (shared, reference) = (self.shared.clone(), reference.to_owned());
        blocking(move || {
            shared.forget(shared.images.remove(&reference)?);
            Ok(())
        })
        .await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.shared.ledger.container(id)?;
        let process = &container.extra;
        Ok(ContainerStats {
            id: container.id.to_string(),
            name: container.config.name.clone(),
            memory_bytes: process.usage.memory_bytes.load(Ordering::Relaxed),
            memory_bytes_peak: process.usage.memory_bytes_peak.load(Ordering::Relaxed),
            cpu_nanos_total: process.usage.cpu_nanos.load(Ordering::Relaxed),
            log_bytes: process.log.lock().as_ref().map_or(0, Log::bytes_total),
        })
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Attached> {
        self.shared.exec(id, request).await
    }

    async fn attach(&self, id: &str, wanted: StreamsWanted) -> Result<Attached> {
        self.shared.attach(id, wanted)
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>> {
        let net = self.shared.net(sandbox)?;
        match net.dial(port).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(Error::Invalid(format!("dial tcp {}:{port}: connect: connection refused", net.ip())))
            }
            Err(error) => Err(Error::Invalid(format!("dial tcp {}:{port}: {error}", net.ip()))),
        }
    }

    async fn shutdown(&self, grace: Duration) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let containers = self.shared.ledger.containers(None);
        futures::future::join_all(containers.iter().map(|container| self.shared.stop(container, grace))).await;
    }
}

/// A directory name that no other container of this process has.
fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).to_string()
}
