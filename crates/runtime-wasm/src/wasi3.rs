//! WASI 0.3 commands, on nodes that run them: cli, clocks, filesystem, random, and sockets and HTTP that know the pod's
//! address. Its servers are in [`crate::http`].

use wasmtime::{
    Result, Store,
    component::{InstancePre, Linker},
};
use wasmtime_wasi::p3::{self, bindings::Command};

use crate::{guest::Host, http, net, preopens, storage};

/// What a component exports that is such a command.
pub const RUN: &str = "wasi:cli/run@0.3.";

pub fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    p3::cli::add_to_linker(linker)?;
    p3::clocks::add_to_linker(linker)?;
    storage::wasi3::add_to_linker(linker)?;
    preopens::add_0_3_to_linker(linker)?;
    p3::random::add_to_linker(linker)?;
    net::p3::add_to_linker(linker)?;
    http::add_0_3_to_linker(linker)
}

/// Runs it to its end; gives the exit code.
pub async fn run(store: &mut Store<Host>, command: &InstancePre<Host>) -> Result<i32> {
    let instance = command.instantiate_async(&mut *store).await?;
    let command = Command::new(&mut *store, &instance)?;
    let result = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await??;
    Ok(i32::from(result.is_err()))
}
