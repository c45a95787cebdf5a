//! The wasmtime engine: the pooling allocator tuned as measured, and epochs that tick only while a guest computes.
//!
//! The pool is address space, not memory: idle slots cost a few hundred bytes each. With `pagemap_scan` (kernel 6.7)
//! and resident pages kept per slot it is two to six times faster than without, and scales over threads; without it
//! the pool is still used, and where even the address space is refused, instances are allocated on demand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{config::INSTANCES_MAX_DEFAULT, options::Variant};

/// How often a computing guest is interrupted to let others run.
pub const TICK: Duration = Duration::from_millis(10);
/// Maps of the process that are left to everything but instances.
const MAPS_RESERVED: usize = 8192;
/// Maps that one pooled instance takes, with a margin (measured: 4).
const MAPS_PER_INSTANCE: usize = 5;
/// Instances of requests: the least that a node has, and the most.
const REQUESTS_MIN: usize = 16;
const REQUESTS_MAX: usize = 1024;
/// Pages kept by an idle slot, so that its next use costs no page faults.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Idle slots that keep their pages: bounds what a burst leaves behind (100 × 64 KiB).
const WARM_SLOTS_MAX: u32 = 100;
/// Large programs have tables of tens of thousands of functions; this is address space as well (800 KB each).
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Each memory takes 4 GiB of address space, and the largest hole of 47 bits has some 79 TiB: this leaves a tenth of it.
/// One more, and the container that needs it does not start: 9,000 containers of two memories each.
const MEMORIES_MAX: u32 = 18_000;
/// A component may hold several core instances, memories and tables (Go: 4 to 5).
const CORE_INSTANCES_PER_CONTAINER: usize = 4;

/// How many instances can be alive at once.
pub struct Capacity {
    /// Of containers.
    pub containers: usize,
    /// What sets that limit.
    pub limit: &'static str,
    /// Of requests that servers answer, of all containers together.
    pub requests: usize,
}

/// The pool has room for the containers, and beside them for requests: an eighth as many, within bounds.
pub fn capacity(wanted: Option<usize>) -> Capacity {
    let maps: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530);
    share(maps.saturating_sub(MAPS_RESERVED) / MAPS_PER_INSTANCE, wanted.unwrap_or(INSTANCES_MAX_DEFAULT).max(1))
}

fn share(by_maps: usize, wanted: usize) -> Capacity {
    let requests = |containers: usize| (containers / 8).clamp(REQUESTS_MIN, REQUESTS_MAX);
    let by_maps = by_maps.saturating_sub(requests(wanted.min(by_maps))).max(1);
    let (containers, limit) =
        if by_maps < wanted { (by_maps, "vm.max_map_count") } else { (wanted, "the instance pool") };
    Capacity { containers, limit, requests: requests(containers) }
}

/// Makes the engine for that many instances. Takes some 20 ms for 10,000.
pub fn engine(instances: usize, wasi_0_3: bool) -> wasmtime::Result<Engine> {
    let mut last = None;
    let rows = [(Some(Enabled::Yes), "pool with pagemap_scan"), (Some(Enabled::No), "pool"), (None, "on demand")];
    for (pagemap_scan, name) in rows {
        match Engine::new(&config(instances, pagemap_scan, wasi_0_3)) {
            Ok(engine) => {
                tracing::info!(allocator = name, instances, "Wasm engine ready");
                return Ok(engine);
            }
            Err(error) => {
                tracing::warn!(allocator = name, error = %error, "instance allocator not available");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| wasmtime::Error::msg("no instance allocator")))
}

/// An engine of its own for pods that ask for it, with instances allocated on demand.
pub fn variant(variant: &Variant, wasi_0_3: bool) -> wasmtime::Result<Engine> {
    let mut config = config(0, None, wasi_0_3);
    variant.features.apply(&mut config);
    config.coredump_on_trap(variant.core_dump);
    if variant.source {
        config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    }
    if variant.winch {
        config.strategy(wasmtime::Strategy::Winch);
    }
    if variant.deterministic {
        config.cranelift_nan_canonicalization(true);
        config.relaxed_simd_deterministic(true);
    }
    Engine::new(&config)
}

fn config(instances: usize, pool: Option<Enabled>, wasi_0_3: bool) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    // Components of WASI 0.3 need it; instances are cheaper without.
    config.concurrency_support(wasi_0_3);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    if let Some(pagemap_scan) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(instances, pagemap_scan)));
    } else {
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    config
}

fn pooling(instances: usize, pagemap_scan: Enabled) -> PoolingAllocationConfig {
    let count = |per_container: usize| u32::try_from(instances * per_container).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(count(CORE_INSTANCES_PER_CONTAINER))
        .total_component_instances(count(1))
        .total_memories(count(2).min(MEMORIES_MAX))
        .total_tables(count(CORE_INSTANCES_PER_CONTAINER))
        .total_stacks(count(1))
        .total_gc_heaps(count(1).min(1000))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memories_per_module(4)
        .max_tables_per_module(8)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(pagemap_scan);
    pool
}

/// Advances the engines' epochs every [`TICK`] while a guest computes, and sleeps while none does.
pub struct Ticker {
    state: Arc<TickerState>,
}

struct TickerState {
    computing: AtomicUsize,
    parked: AtomicBool,
    closed: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
    /// Beside the common one; those that are gone are forgotten.
    others: Mutex<Vec<EngineWeak>>,
}

impl Ticker {
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let state = Arc::new(TickerState {
            computing: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
            others: Mutex::default(),
        });
        let shared = state.clone();
        let handle = std::thread::Builder::new().name("wasm-epoch".to_owned()).spawn(move || tick(&shared, &engine))?;
        let _ = state.thread.set(handle.thread().clone());
        Ok(Self { state })
    }

    pub fn tick_also(&self, engine: &Engine) {
        self.state.others.lock().push(engine.weak());
    }

    /// While the guard lives, epochs pass.
    pub fn computing(&self) -> Computing<'_> {
        self.state.computing.fetch_add(1, Ordering::SeqCst);
        if self.state.parked.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
        Computing(self)
    }

    fn unpark(&self) {
        if let Some(thread) = self.state.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.unpark();
    }
}

pub struct Computing<'a>(&'a Ticker);

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        self.0.state.computing.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(state: &TickerState, engine: &Engine) {
    // How many ticks nothing computed: guests come and go in much less than a tick, and waking a thread is dear.
    let mut idle = 0;
    while !state.closed.load(Ordering::SeqCst) {
        if state.computing.load(Ordering::SeqCst) == 0 {
            idle += 1;
        } else {
            idle = 0;
            engine.increment_epoch();
            state.others.lock().retain(|other| {
                let there = other.upgrade();
                there.inspect(Engine::increment_epoch).is_some()
            });
        }
        if idle < 10 {
            std::thread::park_timeout(TICK);
            continue;
        }
        state.parked.store(true, Ordering::SeqCst);
        // A guest that began before it saw the flag is seen here.
        if state.computing.load(Ordering::SeqCst) == 0 && !state.closed.load(Ordering::SeqCst) {
            std::thread::park();
        }
        state.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_of_a_whole_node_fits_into_the_address_space() {
        let Capacity { containers, requests, .. } = capacity(None);
        let made = Engine::new(&config(containers + requests, Some(Enabled::No), false));
        assert!(made.is_ok(), "{containers} and {requests}: {:#}", made.expect_err("no pool"));
    }

    #[test]
    fn containers_and_requests_have_room_of_their_own() {
        // maps allow, wanted → containers, requests
        for (by_maps, wanted, containers, requests) in [
            (11_467, 10_000, 10_000, 1024),
            (11_467, 11_000, 10_443, 1024),
            (1000, 10_000, 875, 109),
            (100_000, 2, 2, 16),
            (10, 10_000, 1, 16),
        ] {
            let found = share(by_maps, wanted);
            assert_eq!((found.containers, found.requests), (containers, requests), "{by_maps} {wanted}");
        }
    }
}
