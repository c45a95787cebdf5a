//! Snapshots: a program whose start is slow is prepared once, and its containers start from what that left in memory.
//!
//! The function that the pod names is called in an instance without arguments, variables or files; then memories and
//! globals become the initial ones of a new module, which is compiled and cached like any other, under the digest of the
//! original and the function's name. So everything that the function computes is the same in all containers: what it
//! drew of randomness, too.
//!
//! Bounded: [`TIME_MAX`], the container's memory limit, [`crate::config::IMAGE_BYTES_MAX`] for the result, one at a time.

mod state;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::{Module, Store, component::Component};
use wasmtime_wasi::{WasiCtxBuilder, p2::pipe::MemoryOutputPipe};
use wasmtime_wizer::Wizer;

use crate::{
    charge::Account,
    compile::hex,
    config::IMAGE_BYTES_MAX,
    engine::Ticker,
    guest::{self, Host},
    limits::{Budget, Limits},
    messages,
    program::Machine,
};
use state::{ComponentState, ModuleState};

/// How long the preparation may take.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Of what it prints: told when it fails.
const OUTPUT_BYTES_MAX: usize = 2048;

/// What the preparation needs.
#[derive(Clone)]
pub struct Snapshot {
    pub machine: Arc<Machine>,
    pub ticker: Arc<Ticker>,
    pub function: String,
    pub memory_bytes_max: u64,
    pub budget: Arc<Budget>,
}

/// The name that the snapshot's compiled form is kept by: it goes with the original.
pub fn name(digest: &str, function: &str) -> String {
    format!("{digest}+{}", &hex(&Sha256::digest(function.as_bytes()))[..16])
}

impl Snapshot {
    /// The module as the function leaves it. Blocks.
    ///
    /// # Errors
    /// Why there is none, in words for the user.
    pub fn take(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock();
        let _computing = self.ticker.computing();
        let run = || {
            crate::lanes::lower_priority();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
            let output = MemoryOutputPipe::new(OUTPUT_BYTES_MAX);
            let mut store = self.store(&output);
            let prepared =
                runtime.block_on(async { tokio::time::timeout(TIME_MAX, self.prepare(&mut store, bytes)).await });
            let printed = String::from_utf8_lossy(&output.contents()).trim().to_owned();
            let printed = if printed.is_empty() { String::new() } else { format!("; it printed: {printed}") };
            match prepared {
                Ok(Ok(module)) if module.len() as u64 > IMAGE_BYTES_MAX => {
                    Err(format!("the result has {} bytes; the limit is {IMAGE_BYTES_MAX}", module.len()))
                }
                Ok(Ok(module)) => Ok(module),
                Ok(Err(error)) => Err(describe(&error, &store) + &printed),
                Err(_) => Err(format!("it did not end within {TIME_MAX:?}{printed}")),
            }
        };
        // A thread of its own: the instrumentation panics on what it does not know.
        let result = std::thread::scope(|scope| scope.spawn(run).join());
        let result = result.unwrap_or_else(|_| Err("its form is not supported".to_owned()));
        result
            .map_err(|reason| io::Error::other(format!("no snapshot from its function {:?}: {reason}", self.function)))
    }

    fn store(&self, output: &MemoryOutputPipe) -> Store<Host> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output.clone()).stderr(output.clone());
        let limits = Limits::new(Account::new(self.memory_bytes_max, Arc::default(), self.budget.clone()));
        let host = Host::alone(wasi.build_p1(), limits);
        guest::store_of(&self.machine.engine, host, Arc::new(AtomicBool::new(false)))
    }

    async fn prepare(&self, store: &mut Store<Host>, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let mut wizer = Wizer::new();
        wizer.init_func(&self.function);
        if wasmparser::Parser::is_component(bytes) {
            // What is around the core module refers to it.
            wizer.keep_init_func(true);
            self.prepare_component(&wizer, store, bytes).await
        } else {
            self.prepare_module(&wizer, store, bytes).await
        }
    }

    async fn prepare_module(&self, wizer: &Wizer, store: &mut Store<Host>, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let (context, instrumented) = wizer.instrument(bytes)?;
        let module = Module::new(&self.machine.engine, instrumented)?;
        let instance = self.machine.modules().instantiate_async(&mut *store, &module).await?;
        // A reactor is set up before any other function of it is called.
        if self.function != "_initialize"
            && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")
        {
            initialize.call_async(&mut *store, ()).await?;
        }
        if instance.get_func(&mut *store, &self.function).is_none() {
            wasmtime::bail!("{}", messages::exports::of_module(&module, &self.function));
        }
        instance.get_typed_func::<(), ()>(&mut *store, &self.function)?.call_async(&mut *store, ()).await?;
        wizer.snapshot(&context, &mut ModuleState { store, instance }).await
    }

    async fn prepare_component(
        &self,
        wizer: &Wizer,
        store: &mut Store<Host>,
        bytes: &[u8],
    ) -> wasmtime::Result<Vec<u8>> {
        let (context, instrumented) = wizer.instrument_component(bytes)?;
        let component = Component::new(&self.machine.engine, instrumented)?;
        let Some(index) = component.get_export_index(None, &self.function) else {
            wasmtime::bail!("the component exports no function of this name");
        };
        let instance = self.machine.components().instantiate_async(&mut *store, &component).await?;
        let function = instance.get_typed_func::<(), ()>(&mut *store, index)?;
        function.call_async(&mut *store, ()).await?;
        wizer.snapshot_component(&context, &mut ComponentState { store, instance }).await
    }
}

/// As the end of a container would be told.
fn describe(error: &wasmtime::Error, store: &Store<Host>) -> String {
    match store.data().refused() {
        Some(out_of_memory) => out_of_memory.to_string(),
        None => messages::traps::describe(error),
    }
}
