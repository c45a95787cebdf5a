//! Requests per second of an HTTP handler, with nothing of the cluster around it:
//! `cargo run --release -p skiff-runtime-wasm --example http_rate [SECONDS [WASMTIME]]`.
//!
//! A fresh instance per request and an instance that is reused, in turn with `WASMTIME serve` of the same handler where that is
//! named, under the same load on the same processors. Prints medians. `skiff bench --only http` does the same through a cluster.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // A tool that prints, and that may stop at the first failure.

#[path = "../../skiff/src/commands/bench/load.rs"]
mod load;

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use skiff_runtime::{ContainerConfig, ImageSource, Runtime, SandboxConfig};
use skiff_runtime_wasm::{WasmConfig, WasmRuntime};

const HANDLER: &[u8] = include_bytes!("../../../wasm-examples/rust/http-hello.wasm");
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(Duration::from_secs_f64(seconds), args.next()));
}

async fn measure(time: Duration, wasmtime: Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let runtime: Arc<dyn Runtime> = WasmRuntime::open(WasmConfig::new(directory.path().join("root"))).unwrap();
    runtime.load_image("localhost/handler", ImageSource::Module(Bytes::from_static(HANDLER))).await.unwrap();
    let mut contenders = vec![
        ("fresh instance per request", serve(&runtime, directory.path(), "fresh", "1").await, Vec::new()),
        ("instance reused", serve(&runtime, directory.path(), "reuse", "1000000").await, Vec::new()),
    ];
    let mut other = None;
    if let Some(program) = wasmtime {
        let file = directory.path().join("handler.wasm");
        std::fs::write(&file, HANDLER).unwrap();
        let (child, address) = start(&program, &file).await;
        other = Some(child);
        contenders.push(("wasmtime serve", address, Vec::new()));
    }
    for round in 0..=ROUNDS {
        for (name, address, rates) in &mut contenders {
            let done = load::run(*address, CONNECTIONS, time).await.unwrap();
            let rate = done.requests as f64 / done.elapsed.as_secs_f64();
            // The first round warms up.
            if round > 0 {
                println!("round {round}, {name}: {rate:.0}/s");
                rates.push(rate);
            }
        }
    }
    for (name, _, rates) in &mut contenders {
        rates.sort_unstable_by(f64::total_cmp);
        println!("median of {ROUNDS}, {CONNECTIONS} connections, {name}: {:.0}/s", rates[ROUNDS / 2]);
    }
    if let Some(mut child) = other {
        println!(
            "fresh instances, compared with wasmtime serve: {:.2}",
            contenders[0].2[ROUNDS / 2] / contenders[2].2[ROUNDS / 2]
        );
        let _ = child.kill();
    }
    runtime.shutdown(Duration::from_secs(1)).await;
}

async fn serve(runtime: &Arc<dyn Runtime>, directory: &std::path::Path, name: &str, reuse: &str) -> SocketAddr {
    let pod = SandboxConfig { name: name.to_owned(), uid: name.to_owned(), ..SandboxConfig::default() };
    let sandbox = runtime.run_sandbox(pod).await.unwrap();
    let config = ContainerConfig {
        name: name.to_owned(),
        image: "localhost/handler:latest".to_owned(),
        annotations: [("skiff.dev/http-reuse".to_owned(), reuse.to_owned())].into(),
        log_path: directory.join("logs").join(name).join("0.log"),
        ..ContainerConfig::default()
    };
    let id = runtime.create_container(&sandbox.id, config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    answering(SocketAddr::new(sandbox.ips[0], 8080)).await
}

async fn start(program: &str, file: &std::path::Path) -> (Child, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(program);
    command.arg("serve").arg("--addr").arg(free.to_string()).arg(file);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (child, answering(free).await)
}

async fn answering(address: SocketAddr) -> SocketAddr {
    let begun = Instant::now();
    while let Err(error) = load::once(address).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    address
}
