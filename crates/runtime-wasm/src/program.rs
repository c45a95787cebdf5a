//! A compiled module or component, linked with the host as far as that can be done before an instance exists.

use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{
    Engine, ExternType, InstancePre, Linker, Module, Store,
    component::{self, Component},
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{
    deterministic, guest::Host, http, messages, net, options::Variant, preopens, programs::Code, storage, stores, wasi3,
};

/// The function of a module that is run when none is named.
pub const ENTRY_DEFAULT: &str = "_start";

/// The engine and what it offers to guests, made once.
pub struct Machine {
    /// Of this process.
    pub id: u64,
    pub variant: Variant,
    pub wasi_0_3: bool,
    pub engine: Engine,
    modules: Linker<Host>,
    /// For modules that accept on sockets.
    accepting: Linker<Host>,
    components: component::Linker<Host>,
}

pub enum Runnable {
    Module(InstancePre<Host>),
    Command(CommandPre<Host>),
    /// Of WASI 0.3.
    Command3(component::InstancePre<Host>),
    /// Answers requests, by default each with an instance of its own.
    Server(http::Service),
}

pub struct Program {
    /// Or why it can never be started here.
    pub runnable: Result<Runnable, String>,
    /// Of a server that can also be run: what exec runs in it.
    command: Option<Runnable>,
    /// Whether it can open files at all: one that cannot needs no private root.
    pub opens_files: bool,
    /// Whether it is a preview 1 program that accepts on sockets that the host hands it.
    pub accepts: bool,
    code_bytes: usize,
}

impl Code for Program {
    fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

impl Machine {
    pub fn new(engine: Engine, variant: &Variant, wasi_0_3: bool) -> wasmtime::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut modules = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut modules, |host: &mut Host| &mut host.wasi)?;
        storage::preview1::add_to_linker(&mut modules)?;
        let mut accepting = modules.clone();
        net::p1::add_to_linker(&mut accepting)?;
        let mut components = component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
        storage::preview2::add_to_linker(&mut components)?;
        preopens::add_to_linker(&mut components)?;
        net::add_to_linker(&mut components)?;
        stores::add_to_linker(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        if wasi_0_3 {
            wasi3::add_to_linker(&mut components)?;
        }
        if variant.deterministic {
            deterministic::link(&mut modules, &mut components)?;
        }
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let variant = variant.clone();
        Ok(Self { id, variant, wasi_0_3, engine, modules, accepting, components })
    }

    pub fn modules(&self) -> &Linker<Host> {
        &self.modules
    }

    pub fn components(&self) -> &component::Linker<Host> {
        &self.components
    }

    pub fn link_module(&self, module: &Module) -> Program {
        let opens_files = module.imports().any(|import| import.name().starts_with("path_"));
        // Virtual time has no network to wait for.
        let accepts = !self.variant.deterministic && net::p1::accepts(module);
        let linker = if accepts { &self.accepting } else { &self.modules };
        let mut scratch = Store::new(&self.engine, Host::for_linking());
        let has = |module: &str, name: &str| self.modules.get(&mut scratch, module, name).is_ok();
        let runnable = match messages::imports::of_module(module, has) {
            Some(message) => Err(message),
            None => linker.instantiate_pre(module).map(Runnable::Module).map_err(|error| format!("{error:#}")),
        };
        let image = module.image_range();
        Program { runnable, command: None, opens_files, accepts, code_bytes: image.end.addr() - image.start.addr() }
    }

    pub fn link_component(&self, component: &Component) -> Program {
        let ty = component.component_type();
        let opens_files = ty.imports(&self.engine).any(|(name, _)| name.starts_with("wasi:filesystem/"));
        let exports = |prefix: &str| ty.exports(&self.engine).any(|(name, _)| name.starts_with(prefix));
        let unsatisfied = |error| messages::imports::of_component(&self.components, component, &error);
        // Toolchains leave a 0.2 entry that does nothing beside one of 0.3.
        let newer = self.wasi_0_3 && (exports(http::HANDLER_0_3) || exports(wasi3::RUN));
        let linked = || self.components.instantiate_pre(component);
        let server = if newer && exports(http::HANDLER_0_3) {
            Some(linked().and_then(ServicePre::new).map(http::Service::Wasi3))
        } else if exports("wasi:http/incoming-handler@0.2.") {
            Some(linked().and_then(ProxyPre::new).map(http::Service::Wasi2))
        } else {
            None
        };
        let command = if newer && exports(wasi3::RUN) {
            Some(linked().map(Runnable::Command3))
        } else if exports("wasi:cli/run@0.2.") {
            Some(linked().and_then(CommandPre::new).map(Runnable::Command))
        } else {
            None
        };
        // One that has both is a server that can also be run: as a container, it serves.
        let (runnable, command) = match (server, command) {
            _ if newer && self.variant.deterministic => {
                (Err("deterministic runs are offered for WASI preview 1 and 0.2, not for 0.3".to_owned()), None)
            }
            (Some(server), command) => {
                (server.map(Runnable::Server).map_err(unsatisfied), command.and_then(Result::ok))
            }
            (None, Some(command)) => (command.map_err(unsatisfied), None),
            (None, None) => (Err(messages::exports::of_component(component)), None),
        };
        let image = component.image_range();
        Program { runnable, command, opens_files, accepts: false, code_bytes: image.end.addr() - image.start.addr() }
    }
}

impl Program {
    /// Whether it answers requests.
    pub fn serves(&self) -> bool {
        matches!(self.runnable, Ok(Runnable::Server(_)))
    }

    /// What exec runs of it, and a container that does not serve.
    ///
    /// # Errors
    /// Why there is nothing.
    pub fn command(&self) -> Result<&Runnable, String> {
        match (&self.runnable, &self.command) {
            (Err(message), _) => Err(message.clone()),
            // Its handler would serve once more, and not do what it is told.
            (Ok(Runnable::Server(_)), None) => Err("it is an HTTP server and exports no wasi:cli/run".to_owned()),
            (Ok(Runnable::Server(_)), Some(command)) | (Ok(command), _) => Ok(command),
        }
    }

    /// Whether `entry` (`path#function` named it, or the default) can be called.
    pub fn check(&self, entry: Option<&str>) -> Result<(), String> {
        let module = match &self.runnable {
            Err(message) => return Err(message.clone()),
            Ok(Runnable::Command(_) | Runnable::Command3(_)) => {
                return match entry {
                    None | Some(ENTRY_DEFAULT | "run") => Ok(()),
                    Some(name) => Err(format!("it is a component: only wasi:cli/run can be called, not {name:?}")),
                };
            }
            // Its label may name a function, as a module's does; it has one entry.
            Ok(Runnable::Server(_)) => return Ok(()),
            Ok(Runnable::Module(instance)) => instance.module(),
        };
        let name = entry.unwrap_or(ENTRY_DEFAULT);
        match module.get_export(name) {
            Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => Ok(()),
            Some(ExternType::Func(_)) => Err(format!("its function {name:?} takes parameters or gives results")),
            _ => Err(messages::exports::of_module(module, name)),
        }
    }
}
