//! The engines: the pooled one that nearly everything runs in, and one for each other variant that pods ask for.
//!
//! Others are made when they are first needed and allocate on demand, so that they cost next to nothing while nothing
//! runs in them. At most [`VARIANTS_MAX`] are kept: the one that was asked for longest ago goes, with its programs; its
//! containers run on to their end.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Variant;
use crate::{
    compile::Compiler,
    engine::{self, Ticker},
    program::Machine,
};

/// Engines beside the common one.
pub const VARIANTS_MAX: usize = 16;

pub struct Machines {
    common: Arc<Machine>,
    ticker: Arc<Ticker>,
    compiler: Arc<Compiler>,
    wasi_0_3: bool,
    /// The last used last.
    others: Mutex<Vec<(Variant, Arc<Machine>)>>,
}

impl Machines {
    pub fn new(common: Arc<Machine>, ticker: Arc<Ticker>, compiler: Arc<Compiler>, wasi_0_3: bool) -> Self {
        Self { common, ticker, compiler, wasi_0_3, others: Mutex::default() }
    }

    pub fn common(&self) -> &Arc<Machine> {
        &self.common
    }

    pub fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    /// # Errors
    /// Why there can be no such engine.
    pub fn get(&self, variant: &Variant) -> Result<Arc<Machine>, String> {
        if *variant == Variant::default() {
            return Ok(self.common.clone());
        }
        let mut others = self.others.lock();
        if let Some(position) = others.iter().position(|(other, _)| other == variant) {
            let found = others.remove(position);
            let machine = found.1.clone();
            others.push(found);
            return Ok(machine);
        }
        let failed = |error: wasmtime::Error| format!("no engine for the pod's annotations: {error:#}");
        let engine = engine::variant(variant, self.wasi_0_3).map_err(failed)?;
        let machine = Arc::new(Machine::new(engine, variant, self.wasi_0_3).map_err(failed)?);
        self.ticker.tick_also(&machine.engine);
        if others.len() >= VARIANTS_MAX {
            let (_, oldest) = others.remove(0);
            self.compiler.forget_machine(&oldest);
        }
        others.push((variant.clone(), machine.clone()));
        Ok(machine)
    }
}
