//! A fast first start of large modules, on nodes that want it: Winch compiles them in a sixth of Cranelift's time, and
//! Cranelift's program replaces that one for later starts when nobody waits for the compiler any more.
//!
//! What Winch cannot compile (SIMD in part, garbage collection, exceptions, tail calls) waits for Cranelift as ever. A
//! container keeps the program that it started with.

use std::sync::Arc;

use crate::{
    compile::{Compiler, Failure},
    compile_queue::{LARGE_BYTES, Urgency},
    options::{Machines, Variant},
    program::Machine,
};

fn winch() -> Variant {
    Variant { winch: true, ..Variant::default() }
}

/// Compiles a module so that it can be started soon. `read` gives its bytes.
///
/// # Errors
/// Cranelift's.
pub async fn compile(
    compiler: &Arc<Compiler>,
    machines: &Arc<Machines>,
    digest: &str,
    bytes: usize,
    read: impl Fn() -> std::io::Result<Vec<u8>> + Clone + Send + Sync + 'static,
) -> Result<(), Failure> {
    let machine = machines.common().clone();
    let quick = machines.get(&winch()).ok().filter(|_| bytes >= LARGE_BYTES && !compiler.has(&machine, digest));
    let Some(quick) = quick else { return compiler.program(&machine, digest, read).await.map(drop) };
    if let Err(failure) = compiler.program(&quick, digest, read.clone()).await {
        tracing::debug!(digest, error = %failure, "not for Winch");
        compiler.forget_of(&quick, digest);
        return compiler.program(&machine, digest, read).await.map(drop);
    }
    let (compiler, digest) = (compiler.clone(), digest.to_owned());
    tokio::spawn(async move {
        match compiler.program_by(&machine, &digest, Urgency::Background, read).await {
            Ok(_) => compiler.forget_of(&quick, &digest),
            Err(failure) => tracing::warn!(digest, error = %failure, "Winch's program stays: Cranelift has none"),
        }
    });
    Ok(())
}

/// The machine to start a module with: the common one, unless only the other has its program by now.
pub fn machine(compiler: &Compiler, machines: &Machines, digest: &str) -> Result<Arc<Machine>, String> {
    let common = machines.common();
    if !compiler.has(common, digest)
        && let Ok(quick) = machines.get(&winch())
        && compiler.has(&quick, digest)
    {
        return Ok(quick);
    }
    Ok(common.clone())
}
