//! The container runtime contract, after the CRI v1 `RuntimeService` and `ImageService`.
//!
//! What must stay true of every runtime:
//! - a sandbox is keyed by the pod's UID and attempt, never by its name; a container belongs to one sandbox;
//! - a container goes created → running → exited, never back; an exit is reported once, by an event, and stays
//!   readable by status until the container is removed; nobody has to poll;
//! - stop is idempotent, ends within the grace period (then the container is killed), and removing implies killing;
//! - what a container prints lands in its log file line by line in the CRI log format
//!   (`RFC3339NANO stdout|stderr F|P TEXT`), complete up to its exit, before the exit event is sent;
//! - no container, however hostile, stalls another one or the node.

pub mod annotations;
pub mod conformance;
pub mod fake;
pub mod ledger;
pub mod reference;
mod source;
pub mod streams;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
pub use source::{LiveSource, Source};
pub use streams::{Attached, Connection, ExecRequest, StreamsWanted, TerminalSize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Opaque, chosen by the runtime, unique for ever on this node. Containers carry a `scheme://` in the API
/// (`wasm://…`), which is [`Capabilities::scheme`] and not part of the id.
pub type SandboxId = Arc<str>;
pub type ContainerId = Arc<str>;

#[derive(Debug, thiserror::Error, Clone)]
pub enum Error {
    #[error("{what} {id:?} does not exist")]
    NotFound { what: &'static str, id: String },
    /// The state does not allow it (starting an exited container, removing a running sandbox's image, …).
    #[error("{0}")]
    InvalidState(String),
    /// The request can never succeed as it is; the message tells the user what to change.
    #[error("{0}")]
    Invalid(String),
    /// The image reference cannot be parsed: `InvalidImageName`.
    #[error("couldn't parse image name {name:?}: {reason}")]
    InvalidImageName { name: String, reason: String },
    /// The image could not be fetched: `ErrImagePull`.
    #[error("failed to pull image {image:?}: {reason}")]
    ImagePull { image: String, reason: String },
    /// The image is there but this runtime cannot run it (not Wasm, two layers, …): `ErrImagePull` as well.
    #[error("image {image:?} cannot be run: {reason}")]
    ImageUnusable { image: String, reason: String },
    /// The runtime does not offer this; [`Capabilities`] said so.
    #[error("{0} is not supported by this runtime")]
    Unsupported(&'static str),
    /// The node has no room left (instances, disk).
    #[error("{0}")]
    Exhausted(String),
    #[error("{0}")]
    Internal(String),
}

/// What this runtime can do. What is declared absent answers [`Error::Unsupported`]; the suite checks both ways.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// `wasm`, `fake`, `containerd`: the scheme of container ids in the API.
    pub scheme: &'static str,
    /// For `node.status.nodeInfo.containerRuntimeVersion`: `wasmtime://48.0.8`.
    pub version: String,
    /// RuntimeClass handlers that it answers to (`node.status.runtimeHandlers`); "" is the default handler.
    pub handlers: Vec<String>,
    /// Whether it runs Wasm modules, and Linux (OCI) containers.
    pub wasm: bool,
    pub linux: bool,
    pub exec: bool,
    pub attach: bool,
    pub port_forward: bool,
    pub stats: bool,
    /// Pods get an address of their own.
    pub pod_ip: bool,
    /// The most containers that can be alive at once, if the runtime has such a limit, and what sets it.
    pub containers_max: Option<(usize, &'static str)>,
}

#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Counts up when the sandbox of the same pod is made anew.
    pub attempt: u32,
    pub hostname: String,
    pub runtime_handler: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Where the pod's container logs go: `LOG_DIR/CONTAINER/ATTEMPT.log`.
    pub log_dir: PathBuf,
    /// Of all its containers' private files and logs and its emptyDir volumes together.
    pub ephemeral_bytes_max: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Sandbox {
    pub id: SandboxId,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub attempt: u32,
    pub ready: bool,
    pub created: Timestamp,
    /// Empty when the runtime gives pods no address of their own.
    pub ips: Vec<std::net::IpAddr>,
}

#[derive(Clone, Debug, Default)]
pub struct Mount {
    /// On the node.
    pub host_path: PathBuf,
    /// In the container; absolute.
    pub container_path: String,
    pub read_only: bool,
    /// What the mount takes of the pod's disk is counted with this volume's; a directory of the host is not counted.
    pub volume: Option<MountedVolume>,
}

/// An emptyDir, as far as its size is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountedVolume {
    pub name: String,
    /// On the node; the mount may be of a part of it.
    pub root: PathBuf,
    /// Its `sizeLimit`.
    pub bytes_max: Option<u64>,
    /// Its medium is memory: it is no part of what the pod takes of the disk.
    pub in_memory: bool,
}

/// Limits of one container; `None` means the node's default.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub memory_bytes_max: Option<u64>,
    pub cpu_millis_max: Option<u64>,
    pub cpu_millis_request: Option<u64>,
    pub ephemeral_bytes_max: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct ContainerConfig {
    pub name: String,
    /// Counts restarts, from 0.
    pub attempt: u32,
    /// As the pod names it.
    pub image: String,
    /// What [`Runtime::pull_image`] or [`Runtime::image_status`] gave: the image to run.
    pub image_id: String,
    /// `command` and `args` of the pod after `$(VAR)` expansion; empty means the image's own.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// In order; a later one of the same name wins.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    /// Declared container ports (the first TCP one is where a server listens that names no other).
    pub ports: Vec<u16>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What the annotations [`annotations::CONFIG`] and [`annotations::KEYVALUE`] name: `configmap/NAME`, `secret/NAME`.
    /// Read at each use: the node replaces what they hold when the API's objects change.
    pub sources: BTreeMap<String, Arc<LiveSource>>,
    /// Absolute; parent directories are made by the runtime. Of a container that prints nothing there may be no file.
    pub log_path: PathBuf,
    /// The log is rotated at `log_bytes_max` (default 10 MiB), keeping `log_files_max` files (default 5), the older
    /// ones with a time suffix beside it; the oldest is dropped.
    pub log_bytes_max: Option<u64>,
    pub log_files_max: Option<u32>,
    /// A file in the container; what it holds at the exit is [`Exit::message`] where the runtime has none of its own
    /// (a trap). `None`: not read.
    pub termination_message_path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
}

/// Why a container ended, as `status.containerStatuses[].state.terminated` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The guest's own, 137 when killed or out of memory, 128 + signal otherwise.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `StartError`, `DeadlineExceeded`, [`EVICTED`].
    pub reason: &'static str,
    /// A trap with its backtrace, or what else the user should read; at most [`MESSAGE_BYTES_MAX`].
    pub message: String,
}

impl Exit {
    /// By itself, with the guest's own code.
    pub fn from_code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self { code, reason, message: String::new() }
    }

    /// Killed: 128 + SIGKILL.
    pub fn killed() -> Self {
        Self { code: 137, reason: "Error", message: String::new() }
    }

    /// Ended because it was asked to: 128 + SIGTERM.
    pub fn terminated() -> Self {
        Self { code: 143, reason: "Error", message: String::new() }
    }
}

/// [`Exit::reason`] of a container that took more of the disk than it or its pod may: the whole pod is to be evicted, and
/// [`Exit::message`] says why.
pub const EVICTED: &str = "Evicted";

/// The limit of a termination message (as the kubelet's); longer ones keep their beginning.
pub const MESSAGE_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub image: String,
    pub image_id: String,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub exit: Option<Exit>,
    pub log_path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// A digest: `sha256:…`. Two references to the same content have the same id.
    pub id: String,
    /// `REPOSITORY:TAG` references, canonical (`docker.io/library/x:latest`).
    pub tags: Vec<String>,
    /// `REPOSITORY@sha256:…` references.
    pub digests: Vec<String>,
    pub size_bytes: u64,
    pub kind: ImageKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    Wasm,
    Linux,
}

/// Registry credentials, from an imagePullSecret.
#[derive(Clone, Default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

/// What happened to a container. Events may be missed by a subscriber that lags (the stream then yields
/// [`RuntimeEvent::Resync`]); the statuses are the truth.
#[derive(Clone, Debug)]
pub enum RuntimeEvent {
    Started {
        sandbox: SandboxId,
        pod_uid: Arc<str>,
        container: ContainerId,
    },
    Exited {
        sandbox: SandboxId,
        pod_uid: Arc<str>,
        container: ContainerId,
    },
    /// Something that the user should know of a container that goes on: an Event of type Warning. At most
    /// [`ledger::WARNINGS_MAX`] per container; those that a slow subscriber misses are lost.
    Warning {
        pod_uid: Arc<str>,
        /// The container's name in its pod.
        container: Arc<str>,
        /// One word, as in `kubectl describe`.
        reason: &'static str,
        message: String,
    },
    /// Something was lost: look at everything again.
    Resync,
}

#[derive(Clone, Debug, Default)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    pub memory_bytes: u64,
    pub memory_bytes_peak: u64,
    pub cpu_nanos_total: u64,
    pub log_bytes: u64,
}

/// The result of a synchronous command in a container (exec probes and hooks).
#[derive(Clone, Debug)]
pub struct ExecOutput {
    pub code: i32,
    /// At most [`streams::OUTPUT_BYTES_MAX`] of each; what is more is dropped.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;

    /// Makes the pod's environment. Idempotent for the same (uid, attempt).
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox>;
    /// Kills what still runs in it and frees its network. Idempotent.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Stops it and forgets it and its containers. Idempotent: an unknown id is fine. Log files stay.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>>;

    /// # Errors
    /// [`Error::Invalid`] when the container can never start as configured (no such export, unsatisfied import).
    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Asks it to end (SIGTERM), and kills it after `grace`; returns when it has exited. Idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Kills it if it runs, and forgets it. Idempotent. The log file stays.
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    /// Of one sandbox, or of all.
    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>>;

    /// Every event from now on.
    fn events(&self) -> BoxStream<'static, RuntimeEvent>;

    /// The image that a reference names, if it is here.
    async fn image_status(&self, reference: &str) -> Result<Option<Image>>;
    /// Fetches and prepares (verifies, compiles) an image; concurrent pulls of one reference share the work.
    async fn pull_image(&self, reference: &str, credentials: Option<Credentials>) -> Result<Image>;
    /// Imports a `.wasm`, `.wat` or OCI layout directory under the reference (`skiff image load`).
    async fn load_image(&self, reference: &str, source: ImageSource) -> Result<Image>;
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// Idempotent; running containers keep what they use.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let _ = id;
        Err(Error::Unsupported("stats"))
    }
    /// Starts another process in a running container: same files, environment, limits and network.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when the container does not run, [`Error::Invalid`] when the command can never run.
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Attached> {
        let _ = (id, request);
        Err(Error::Unsupported("exec"))
    }
    /// Joins the streams of a running container's own process: what it prints from now on, and its stdin if it has one.
    async fn attach(&self, id: &str, wanted: StreamsWanted) -> Result<Attached> {
        let _ = (id, wanted);
        Err(Error::Unsupported("attach"))
    }
    /// A connection to a TCP port of the pod, as if made inside of it (port-forward, probes).
    ///
    /// # Errors
    /// [`Error::Invalid`] with `connection refused` when nothing listens there.
    async fn dial(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>> {
        let _ = (sandbox, port);
        Err(Error::Unsupported("port-forward"))
    }
    /// Runs a command to its end in a container; at the time-out it is killed (exec probes and hooks).
    ///
    /// # Errors
    /// Those of [`Runtime::exec`], and [`Error::Invalid`] with `timed out after …`.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let wanted = StreamsWanted { stdout: true, stderr: true, ..StreamsWanted::default() };
        let attached = self.exec(id, ExecRequest { command: command.to_vec(), streams: wanted }).await?;
        streams::collect(attached, timeout).await
    }
    /// Stops everything within `grace`, then returns. Sandboxes do not outlive an in-process runtime.
    async fn shutdown(&self, grace: Duration);
}

#[derive(Clone, Debug)]
pub enum ImageSource {
    /// The bytes of a `.wasm` or `.wat` file.
    Module(bytes::Bytes),
    /// A tar archive of an OCI image layout directory.
    OciLayoutTar(bytes::Bytes),
}
