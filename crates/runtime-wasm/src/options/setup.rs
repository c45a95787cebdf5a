//! A container's engine and what else its pod asked for, put together when it is created.

use std::{path::Path, sync::Arc};

use skiff_runtime::{ContainerConfig, SandboxConfig};
use wasmtime::Store;
use wasmtime_wasi::WasiCtxBuilder;

use super::{Machines, Options, Variant};
use crate::{
    compile::{Compiler, Failure},
    coredump::{self, Target},
    deterministic::Clock,
    first_start,
    guest::Host,
    limits::Budget,
    program::{Machine, Program},
    snapshot::{self, Snapshot},
    stores::{Stores, View},
};

pub struct Setup {
    pub machine: Arc<Machine>,
    pub options: Options,
    core_dump: Option<Target>,
    snapshot: Option<Snapshot>,
    stores: View,
}

/// What of the node a setup needs.
pub struct Node<'a> {
    pub machines: &'a Machines,
    /// On nodes that want it: the compiler and the module's digest.
    pub fast_first_start: Option<(&'a Compiler, &'a str)>,
    pub budget: &'a Arc<Budget>,
    pub stores: &'a Arc<Stores>,
    /// The runtime's directory.
    pub root: &'a Path,
    pub memory_bytes_default: u64,
}

/// What the host keeps per guest for these options.
#[derive(Default)]
pub struct Extras {
    pub clock: Option<Arc<Clock>>,
    pub stores: View,
}

impl Setup {
    /// # Errors
    /// Which annotation is wrong.
    pub fn of(node: &Node<'_>, config: &ContainerConfig, pod: &SandboxConfig) -> Result<Arc<Self>, String> {
        let options = Options::of(&config.annotations)?;
        let name = format!("{}_{}_{}_{}.coredump", pod.namespace, pod.name, config.name, config.attempt);
        let target =
            options.core_dump.as_ref().map(|place| place.target(&config.mounts, node.root.join("coredumps"), name));
        let core_dump = target.transpose()?;
        let machine = match node.fast_first_start {
            Some((compiler, digest)) if options.variant == Variant::default() && options.snapshot.is_none() => {
                first_start::machine(compiler, node.machines, digest)?
            }
            _ => node.machines.get(&options.variant)?,
        };
        let snapshot = options.snapshot.as_ref().map(|function| Snapshot {
            machine: machine.clone(),
            ticker: node.machines.ticker().clone(),
            function: function.clone(),
            memory_bytes_max: config.resources.memory_bytes_max.unwrap_or(node.memory_bytes_default),
            budget: node.budget.clone(),
        });
        let stores = View::of(node.stores, config, pod)?;
        Ok(Arc::new(Self { machine, options, core_dump, snapshot, stores }))
    }

    /// The program of a module, or of its snapshot.
    ///
    /// # Errors
    /// Why it cannot be compiled or prepared.
    pub async fn program(
        &self,
        compiler: &Arc<Compiler>,
        digest: &str,
        read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Arc<Program>, Failure> {
        let Some(snapshot) = self.snapshot.clone() else { return compiler.program(&self.machine, digest, read).await };
        let name = snapshot::name(digest, &snapshot.function);
        compiler.program(&self.machine, &name, move || snapshot.take(&read()?)).await
    }

    pub fn extras(&self, wasi: &mut WasiCtxBuilder) -> Extras {
        Extras { clock: self.options.seed.as_ref().map(|seed| seed.apply(wasi)), stores: self.stores.clone() }
    }

    /// Leaves a core dump if it is wanted and the error has one; gives what to tell the user.
    pub async fn dump(self: &Arc<Self>, error: &wasmtime::Error, store: &mut Store<Host>) -> Option<String> {
        let target = self.core_dump.clone()?;
        let dump = match coredump::serialize(error, store, "module.wasm")? {
            Ok(dump) => dump,
            Err(message) => return Some(message),
        };
        let write = tokio::task::spawn_blocking(move || coredump::write(&target, &dump));
        Some(write.await.unwrap_or_else(|_| "no core dump: the host failed to write it".to_owned()))
    }
}
