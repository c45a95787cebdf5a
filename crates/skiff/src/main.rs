//! The `skiff` command: parses the command line, picks the verb, and turns its result into an exit code.
//!
//! Exit codes: 0 done, 1 the operation failed, 2 the command line is wrong, 141 nobody reads the output any more.

mod allocator;
mod broken_pipe;

use std::process::ExitCode;

use clap::Parser;
use skiff::{commands::Command, global::Global};

/// WebAssembly and container workloads behind the Kubernetes API, in one binary.
///
/// Start a cluster with `skiff up` (no root, no Docker, no etcd) and use it with kubectl, or run a manifest in a
/// throwaway one with `skiff run -f FILE`.
#[derive(Parser)]
#[command(name = "skiff", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Threads for file operations; what is more waits. With tokio's 512, nine thousand pods that end at once leave 512
/// threads with a heap of the allocator each, which is 400 MiB of resident memory.
const BLOCKING_THREADS_MAX: usize = 16;

fn main() -> ExitCode {
    broken_pipe::end_quietly();
    let cli = Cli::parse();
    if let Err(error) = cli.global.init_logging() {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("skiff")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .on_thread_park(allocator::give_back)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the worker threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli.command.run(&cli.global));
    // A task that hangs (a terminal read, say) must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", skiff::error::render(&error));
            ExitCode::FAILURE
        }
    }
}
