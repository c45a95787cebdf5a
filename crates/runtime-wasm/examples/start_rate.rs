//! How fast containers start, beside what the bare engine does: `cargo run --release -p skiff-runtime-wasm --example start_rate`.
//!
//! Prints one line per figure. The numbers of the project's README come from the whole system; these show how much of
//! that is the runtime's own.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // A tool that prints, and that may stop at the first failure.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::StreamExt as _;
use skiff_runtime::{ContainerConfig, ImageSource, Runtime, RuntimeEvent, SandboxConfig};
use skiff_runtime_wasm::{WasmConfig, WasmRuntime};

const HELLO: &str = include_str!("../../../wasm-examples/wat/hello.wat");
const SLEEP: &str = include_str!("../../../wasm-examples/wat/sleep.wat");
const LOOP: &str = include_str!("../../../wasm-examples/wat/loop.wat");
/// Its first instructions ask for the time; it prints what it got, as 16 hexadecimal digits.
const CLOCK: &str = r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "0123456789abcdef")
  (func (export "_start") (local $now i64) (local $n i32)
    (drop (call $time (i32.const 0) (i64.const 1) (i32.const 0)))
    (local.set $now (i64.load (i32.const 0)))
    (local.set $n (i32.const 15))
    (loop $digit
      (i32.store8 (i32.add (i32.const 128) (local.get $n))
        (i32.load8_u (i32.add (i32.const 64) (i32.wrap_i64 (i64.and (local.get $now) (i64.const 15))))))
      (local.set $now (i64.shr_u (local.get $now) (i64.const 4)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $digit (i32.ge_s (local.get $n) (i32.const 0))))
    (i32.store8 (i32.const 144) (i32.const 10))
    (i32.store (i32.const 8) (i32.const 128))
    (i32.store (i32.const 12) (i32.const 17))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#;
const STARTS: usize = 20_000;
const IN_FLIGHT: usize = 16;

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(count));
}

async fn measure(alive: usize) {
    let directory = tempfile::tempdir().unwrap();
    println!("resident at first: {} MiB", resident_mib());
    let start = Instant::now();
    let runtime: Arc<dyn Runtime> = WasmRuntime::open(WasmConfig::new(directory.path().join("root"))).unwrap();
    println!("open: {:?}", start.elapsed());
    let start = Instant::now();
    load(&runtime, "hello", HELLO).await;
    println!("first image (engine made, compiled): {:?}", start.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("resident, idle: {} MiB", resident_mib());
    load(&runtime, "sleep", SLEEP).await;
    load(&runtime, "loop", LOOP).await;

    println!("bare engine, 2 threads: {:.0}/s", bare());
    let bench = Bench::new(runtime.clone(), directory.path()).await;
    load(&runtime, "clock", CLOCK).await;
    bench.first_instructions("start command to first instruction, alone", STARTS / 10).await;
    bench.starts("alone", 1, STARTS / 4).await;
    bench.starts("16 in flight", IN_FLIGHT, STARTS).await;

    let loops: Vec<_> = futures::future::join_all((0..20).map(|_| bench.start("loop"))).await;
    bench.starts("alone, beside 20 loops", 1, 500).await;
    bench.first_instructions("start command to first instruction, beside 20 loops", STARTS / 10).await;
    for id in loops {
        let start = Instant::now();
        runtime.stop_container(&id, Duration::from_secs(5)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    println!("resident after the starts: {} MiB", resident_mib());

    let start = Instant::now();
    for _ in 0..alive {
        bench.start("sleep").await;
    }
    println!("{alive} sleepers started: {:?}, resident {} MiB", start.elapsed(), resident_mib());
    let start = Instant::now();
    runtime.remove_sandbox(&bench.sandbox).await.unwrap();
    println!("{alive} sleepers removed: {:?}, resident {} MiB", start.elapsed(), resident_mib());
    runtime.shutdown(Duration::ZERO).await;
}

async fn load(runtime: &Arc<dyn Runtime>, name: &str, text: &str) {
    let source = ImageSource::Module(Bytes::copy_from_slice(text.as_bytes()));
    runtime.load_image(&format!("localhost/{name}"), source).await.unwrap();
}

struct Bench {
    runtime: Arc<dyn Runtime>,
    sandbox: Arc<str>,
    logs: std::path::PathBuf,
    next: AtomicUsize,
}

impl Bench {
    async fn new(runtime: Arc<dyn Runtime>, directory: &Path) -> Arc<Self> {
        let sandbox = runtime.run_sandbox(SandboxConfig::default()).await.unwrap().id;
        Arc::new(Self { runtime, sandbox, logs: directory.join("logs"), next: AtomicUsize::new(0) })
    }

    async fn start(&self, image: &str) -> Arc<str> {
        let id = self.create(image).await;
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    async fn create(&self, image: &str) -> Arc<str> {
        let name = format!("c{}", self.next.fetch_add(1, Ordering::Relaxed));
        let config = ContainerConfig {
            image: format!("localhost/{image}:latest"),
            log_path: self.logs.join(&name).join("0.log"),
            name,
            ..ContainerConfig::default()
        };
        self.runtime.create_container(&self.sandbox, config).await.unwrap()
    }

    async fn starts(self: &Arc<Self>, what: &str, in_flight: usize, count: usize) {
        let start = Instant::now();
        let each = count / in_flight;
        let workers = (0..in_flight).map(|_| {
            let bench = self.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(each);
                for _ in 0..each {
                    times.push(bench.once().await);
                }
                times
            })
        });
        let times: Vec<_> = futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        let quantile = |which: fn(&(Duration, Duration)) -> Duration, part: f64| {
            let mut sorted: Vec<_> = times.iter().map(which).collect();
            sorted.sort_unstable();
            sorted[((sorted.len() - 1) as f64 * part) as usize]
        };
        println!(
            "{what}: {rate:.0}/s; create→running p50 {:?} p99 {:?}; create→exit p50 {:?} p99 {:?}",
            quantile(|t| t.0, 0.5),
            quantile(|t| t.0, 0.99),
            quantile(|t| t.1, 0.5),
            quantile(|t| t.1, 0.99),
        );
    }

    /// From the call that starts a container to the time that its guest read first.
    async fn first_instructions(&self, what: &str, count: usize) {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let mut events = self.runtime.events();
            let id = self.create("clock").await;
            let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            self.runtime.start_container(&id).await.unwrap();
            while let Some(event) = events.next().await {
                match event {
                    RuntimeEvent::Exited { container, .. } if container == id => break,
                    _ => {}
                }
            }
            let log = self.runtime.container_status(&id).await.unwrap().log_path;
            let text = std::fs::read_to_string(log).unwrap();
            let first = u64::from_str_radix(text.trim_end().rsplit(' ').next().unwrap(), 16).unwrap();
            times.push(Duration::from_nanos(first).saturating_sub(asked));
            self.runtime.remove_container(&id).await.unwrap();
        }
        times.sort_unstable();
        println!("{what}: p50 {:?} p99 {:?} of {count}", times[count / 2], times[count * 99 / 100]);
    }

    /// One container from creation to removal: how long until it ran, and until its exit was told.
    async fn once(&self) -> (Duration, Duration) {
        let start = Instant::now();
        let mut events = self.runtime.events();
        let id = self.start("hello").await;
        let running = start.elapsed();
        while let Some(event) = events.next().await {
            match event {
                RuntimeEvent::Exited { container, .. } if container == id => break,
                _ => {}
            }
        }
        let exited = start.elapsed();
        self.runtime.remove_container(&id).await.unwrap();
        (running, exited)
    }
}

/// Instantiate, run and drop the same module with nothing around it, per second on two threads.
fn bare() -> f64 {
    let mut config = wasmtime::Config::new();
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.pagemap_scan(wasmtime::Enabled::Auto).linear_memory_keep_resident(64 << 10).table_keep_resident(64 << 10);
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool)).concurrency_support(false);
    let engine = wasmtime::Engine::new(&config).unwrap();
    let module = wasmtime::Module::new(&engine, HELLO).unwrap();
    let mut linker = wasmtime::Linker::new(&engine);
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |wasi: &mut wasmtime_wasi::p1::WasiP1Ctx| wasi).unwrap();
    let program = linker.instantiate_pre(&module).unwrap();
    let count = STARTS;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..count {
                    let wasi = wasmtime_wasi::WasiCtxBuilder::new().build_p1();
                    let mut store = wasmtime::Store::new(&engine, wasi);
                    let instance = program.instantiate(&mut store).unwrap();
                    let main = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
                    main.call(&mut store, ()).unwrap();
                }
            });
        }
    });
    2.0 * count as f64 / start.elapsed().as_secs_f64()
}

fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}
