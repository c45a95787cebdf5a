//! One run of a program: its store, its view of the world, and how its end is read.

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

use skiff_runtime::{EVICTED, Exit};
use wasmtime::{
    Engine, PoolConcurrencyLimitError, Store, UpdateDeadline,
    component::{ResourceTable, ResourceTableError},
};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx, sockets::WasiSocketsView};

use crate::{
    charge::Account,
    deterministic::Clock,
    exec::Stdio,
    files::Preopen,
    http,
    limits::{Budget, Limits, OutOfMemory, Usage},
    messages,
    net::{ContainerNet, GuestNet, PodSockets, p1::Listening},
    options::{Extras, Setup},
    process::Warn,
    program::{ENTRY_DEFAULT, Program, Runnable},
    spin::{Part, Served},
    storage::{Evicted, Holdings, Storage},
    wasi3,
};

/// Files, streams, timers and the like that a guest may hold at once: enough for as many sockets as it may have, each with
/// its streams and what waits for them.
pub const RESOURCES_MAX: usize = 2048;

/// Calls, tasks, streams and futures of WASI 0.3 that a guest may have under way at once.
pub const CONCURRENT_MAX: usize = 8192;

/// Random bytes that one call of WASI 0.2 may ask for; one that asks for more traps.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// What one call may make the host copy out of the guest: its memory limit, within these bounds. A call of preview 1 that
/// asks for more fails with `ENOMEM`, one of WASI 0.2 traps.
const CALL_BYTES_MIN: usize = 1 << 20;
const CALL_BYTES_MAX: usize = 64 << 20;

/// What the host keeps per guest. Preview 1 and 0.2 share it.
pub struct Host {
    pub wasi: WasiP1Ctx,
    pub limits: Limits,
    pub http: http::State,
    net: Option<GuestNet>,
    pub extras: Extras,
    pub holdings: Holdings,
    /// What is opened when it asks for it.
    pub preopens: Option<Arc<[Preopen]>>,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl Host {
    /// For a store in which nothing runs.
    pub fn for_linking() -> Self {
        let limits = Limits::new(Account::new(0, Arc::default(), Budget::new(Some(0))));
        Self::alone(WasiCtxBuilder::new().build_p1(), limits)
    }

    /// Of a program that is in no pod.
    pub fn alone(wasi: WasiP1Ctx, limits: Limits) -> Self {
        Self {
            wasi,
            limits,
            http: http::State::default(),
            net: None,
            extras: Extras::default(),
            holdings: Holdings::none(),
            preopens: None,
        }
    }

    /// The memory that it asked for and did not get.
    pub fn refused(&self) -> Option<&OutOfMemory> {
        self.limits.refused.as_ref()
    }

    /// The pod's network; `None` where nothing runs.
    pub fn net(&self) -> Option<&GuestNet> {
        self.net.as_ref()
    }

    pub fn net_mut(&mut self) -> Option<&mut GuestNet> {
        self.net.as_mut()
    }

    /// The table of handles, and the pod's network beside it.
    pub fn table_and_net(&mut self) -> (&mut ResourceTable, Option<&GuestNet>) {
        (self.wasi.ctx().table, self.net.as_ref())
    }

    /// What calls on sockets work with.
    pub fn pod_sockets(&mut self) -> PodSockets<'_> {
        PodSockets { inner: self.wasi.sockets(), net: self.net.as_mut() }
    }

    /// Of a program that runs in virtual time.
    pub fn clock(&self) -> wasmtime::Result<Arc<Clock>> {
        self.extras.clock.clone().ok_or_else(|| wasmtime::Error::msg("the program has no virtual clock"))
    }
}

/// Everything a run needs.
pub struct Launch {
    pub setup: Arc<Setup>,
    pub program: Arc<Program>,
    /// The function named by `path#function`.
    pub entry: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub preopens: Arc<[Preopen]>,
    pub stdio: Stdio,
    pub usage: Arc<Usage>,
    pub budget: Arc<Budget>,
    pub memory_bytes_max: u64,
    pub storage: Arc<Storage>,
    pub yielded: Arc<AtomicBool>,
    /// Its pod's network, and what its container shares of it.
    pub net: Arc<ContainerNet>,
    /// What a preview 1 program accepts on.
    pub listening: Option<Listening>,
    pub warn: Warn,
    /// Of a program that serves requests.
    pub seat: Option<http::Seat>,
    /// Of a Spin application.
    pub app: Option<Arc<Served>>,
    /// Which component of it.
    pub part: Option<Arc<Part>>,
}

impl Launch {
    /// The same for a component of its application.
    pub fn of_part(&self, part: &Arc<Part>) -> Self {
        let root = part.files.iter().map(|directory| Preopen {
            host_path: directory.clone(),
            guest_path: "/".to_owned(),
            perms: FsPerms::ReadOnly,
        });
        let private = |preopen: &&Preopen| part.files.is_none() || preopen.guest_path != "/";
        Self {
            setup: self.setup.clone(),
            program: part.program.clone(),
            entry: None,
            args: self.args.clone(),
            env: part.env.clone(),
            working_dir: self.working_dir.clone(),
            preopens: root.chain(self.preopens.iter().filter(private).cloned()).collect(),
            stdio: self.stdio.clone(),
            usage: self.usage.clone(),
            budget: self.budget.clone(),
            memory_bytes_max: self.memory_bytes_max,
            storage: self.storage.clone(),
            yielded: self.yielded.clone(),
            net: self.net.clone(),
            listening: None,
            warn: self.warn.clone(),
            seat: None,
            app: None,
            part: Some(part.clone()),
        }
    }
}

impl Launch {
    /// Where the memory of what it starts is counted.
    pub fn account(&self) -> Account {
        Account::new(self.memory_bytes_max, self.usage.clone(), self.budget.clone())
    }
}

/// Runs it to its end.
pub async fn run(mut launch: Launch) -> Exit {
    let program = launch.program.clone();
    if let (Ok(Runnable::Server(server)), Some(seat)) = (&program.runnable, launch.seat.take()) {
        return http::serve(server.clone(), launch, seat).await;
    }
    let entry = launch.entry.clone();
    let (usage, setup) = (launch.usage.clone(), launch.setup.clone());
    let listening = launch.listening.take();
    let mut store = match store(&launch, listening, &launch.yielded) {
        Ok(store) => store,
        Err(message) => return start_error(message),
    };
    drop(launch);
    let result = match program.command() {
        Ok(Runnable::Module(instance)) => run_module(&mut store, instance, entry.as_deref()).await,
        Ok(Runnable::Command(command)) => run_command(&mut store, command).await,
        Ok(Runnable::Command3(command)) => wasi3::run(&mut store, command).await,
        Ok(Runnable::Server(_)) => return start_error("an HTTP server is not run but served".to_owned()),
        Err(message) => return start_error(message),
    };
    match result {
        Ok(code) => Exit::from_code(code),
        Err(error) => {
            let mut exit = exit_of(&error, store.data().limits.refused.as_ref(), &usage);
            if let Some(dump) = setup.dump(&error, &mut store).await {
                // First, for a backtrace may fill the whole message.
                exit.message.insert_str(exit.message.find('\n').unwrap_or(exit.message.len()), &format!("\n{dump}"));
            }
            exit
        }
    }
}

pub fn start_error(message: String) -> Exit {
    Exit { code: 128, reason: "StartError", message }
}

/// A store with the container's view of the world, in which an instance can be made. `yielded` is set at each end of an epoch.
pub fn store(launch: &Launch, listening: Option<Listening>, yielded: &Arc<AtomicBool>) -> Result<Store<Host>, String> {
    let mut wasi = WasiCtxBuilder::new();
    launch.stdio.give(&mut wasi, yielded);
    wasi.args(&launch.args).envs(&launch.env);
    if let Some(directory) = &launch.working_dir {
        wasi.initial_cwd(directory);
    }
    if let Some(listening) = &listening {
        listening.give(&mut wasi)?;
    }
    let server = matches!(launch.program.runnable, Ok(Runnable::Server(_)));
    let preopens = server.then(|| launch.preopens.clone());
    for preopen in launch.preopens.iter().filter(|_| !server) {
        wasi.preopened_dir(&preopen.host_path, &preopen.guest_path, preopen.perms)
            .map_err(|error| format!("failed to mount {:?}: {error}", preopen.guest_path))?;
    }
    let pod = launch.net.pod.clone();
    let sockets = launch.part.as_ref().is_none_or(|part| part.hosts.allow_sockets());
    wasi.allow_tcp(sockets)
        .allow_udp(sockets)
        .socket_addr_check(move |address, used| Box::pin(std::future::ready(pod.permits(address, used))));
    let mut extras = launch.setup.extras(&mut wasi);
    if let Some(part) = &launch.part {
        extras.stores = extras.stores.of_part(part);
    }
    wasi.max_random_size(RANDOM_BYTES_MAX);
    let limits = Limits::new(launch.account());
    let mut wasi = wasi.build_p1();
    wasi.ctx().table.set_max_capacity(RESOURCES_MAX);
    let hosts = launch.part.as_ref().map(|part| part.hosts.clone());
    let outgoing = http::Outgoing { net: launch.net.clone(), warn: launch.warn.clone(), hosts };
    let net = Some(GuestNet::new(launch.net.clone(), launch.warn.clone()).with(listening));
    let holdings = Holdings::new(launch.storage.clone(), yielded.clone());
    let host = Host { wasi, limits, http: http::State::new(outgoing), net, extras, holdings, preopens };
    let mut store = store_of(&launch.setup.machine.engine, host, yielded.clone());
    let call_bytes = usize::try_from(launch.memory_bytes_max).unwrap_or(usize::MAX);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(CONCURRENT_MAX);
    }
    store.set_hostcall_fuel(call_bytes.clamp(CALL_BYTES_MIN, CALL_BYTES_MAX));
    Ok(store)
}

/// A store whose limits hold, and whose guest lets others run at the end of each epoch.
pub fn store_of(engine: &Engine, host: Host, yielded: Arc<AtomicBool>) -> Store<Host> {
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.limits);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store| {
        if let Some(error) = store.data().limits.overdrawn() {
            return Err(error);
        }
        yielded.store(true, Ordering::Relaxed);
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

async fn run_module(
    store: &mut Store<Host>,
    program: &wasmtime::InstancePre<Host>,
    entry: Option<&str>,
) -> wasmtime::Result<i32> {
    let instance = program.instantiate_async(&mut *store).await?;
    let entry = entry.unwrap_or(ENTRY_DEFAULT);
    // A reactor is set up before any other function of it is called.
    if entry != ENTRY_DEFAULT
        && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")
    {
        initialize.call_async(&mut *store, ()).await?;
    }
    instance.get_typed_func::<(), ()>(&mut *store, entry)?.call_async(&mut *store, ()).await?;
    Ok(0)
}

async fn run_command(
    store: &mut Store<Host>,
    command: &wasmtime_wasi::p2::bindings::CommandPre<Host>,
) -> wasmtime::Result<i32> {
    let instance = command.instantiate_async(&mut *store).await?;
    let result = instance.wasi_cli_run().call_run(&mut *store).await?;
    Ok(i32::from(result.is_err()))
}

/// How an error that ended a guest is told: its own exit, out of memory, or a fault as 128 + signal.
pub fn exit_of(error: &wasmtime::Error, refused: Option<&OutOfMemory>, usage: &Usage) -> Exit {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Exit::from_code(*code);
    }
    if let Some(out_of_memory) = refused {
        let peak = usage.memory_bytes_peak.load(Ordering::Relaxed);
        let message = format!("{out_of_memory} (peak {peak} bytes)");
        return Exit { code: 137, reason: "OOMKilled", message };
    }
    if let Some(evicted) = error.downcast_ref::<Evicted>() {
        return Exit { code: 137, reason: EVICTED, message: evicted.to_string() };
    }
    if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return start_error(format!("the node has no room for another instance: {full}"));
    }
    if error.downcast_ref::<ResourceTableError>().is_some_and(|full| matches!(full, ResourceTableError::Full)) {
        let message = format!(
            "it holds {RESOURCES_MAX} handles (files, streams, sockets, waits), or waits for {CONCURRENT_MAX} things at \
             once, as many as it may"
        );
        return Exit { code: 134, reason: "Error", message };
    }
    let code = 128 + messages::traps::signal(error.downcast_ref());
    Exit { code, reason: "Error", message: messages::traps::describe(error) }
}
