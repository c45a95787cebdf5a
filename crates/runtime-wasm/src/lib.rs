//! WebAssembly containers in an in-process wasmtime sandbox.
//!
//! A container's way: its image's module is compiled once per digest (`compile`), linked (`program`), instantiated
//! from a pool (`engine`) on threads apart from the control plane (`lanes`), with its files (`files`), its streams
//! going to its log (`stdio`, `log`), its memory bounded (`limits`, `charge`), and its end told as Kubernetes tells it (`guest`).
//!
//! A guest cannot catch signals: asked to stop, it ends at once with 143 (128 + SIGTERM); with no grace, 137. A server
//! (`http`) finishes its requests and ends with 0.

mod artefact;
mod charge;
mod compile;
mod compile_queue;
mod config;
mod coredump;
mod deterministic;
mod engine;
mod exec;
mod files;
mod first_start;
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod http;
mod images;
mod lanes;
mod layout;
mod limits;
mod log;
mod messages;
mod module;
mod nested;
mod net;
mod options;
mod preopens;
mod process;
mod program;
mod programs;
mod registry;
mod runtime;
mod signatures;
mod snapshot;
mod spin;
mod stdio;
mod storage;
mod stores;
mod sweep;
mod wall;
mod wasi3;

pub use config::{
    CODE_BYTES_MAX, IMAGE_BYTES_MAX, INSTANCES_MAX_DEFAULT, LOCALS_IN_LOOPS_MAX, MEMORY_BYTES_DEFAULT, RegistryConfig,
    WasmConfig,
};
pub use log::{LOG_BYTES_BURST, LOG_BYTES_PER_SECOND};
pub use net::{Mode as NetworkMode, Network, PodFacts};
pub use runtime::WasmRuntime;
pub use signatures::{SignaturePolicy, SignatureRule};
pub use storage::{EPHEMERAL_BYTES_DEFAULT, FILES_MAX, OPEN_FILES_MAX};
