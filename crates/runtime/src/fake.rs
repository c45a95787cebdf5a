//! A runtime that runs nothing: for simulated nodes (`--fake-nodes`) and for tests of the layers above.
//!
//! Every image is present. A container runs until it is stopped, unless the pod says otherwise, by an annotation or
//! by an argument; only tokio's timers are used, so paused time works, and a container without a time of its own
//! costs no task and no file.
//!
//! | annotation | argument | effect |
//! |---|---|---|
//! | `fake.skiff.dev/exit-after: 1500ms` | `--exit-after=1500ms` | exits by itself after that time (`ms`, `s`, `m`, `h`) |
//! | `fake.skiff.dev/exit-code: 3` | `--exit-code=3` | with this code (default 0; at once if no time is given) |
//! | `fake.skiff.dev/print-lines: 5` | `--print-lines=5` | writes `line 0` … `line 4` to the log when it starts |
//! | `fake.skiff.dev/ignore-term: true` | `--ignore-term=true` | does not end when asked, only when killed |

pub mod talk;

use std::{collections::HashMap, fmt::Write as _, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;
use tokio::{io::DuplexStream, task::AbortHandle};

use crate::{
    Attached, Capabilities, Connection, ContainerConfig, ContainerId, ContainerState, ContainerStats, ContainerStatus,
    Credentials, Error, ExecRequest, Exit, Image, ImageKind, ImageSource, Result, Runtime, RuntimeEvent, Sandbox,
    SandboxConfig, StreamsWanted,
    ledger::{Container, Ledger},
    reference::Reference,
};

/// Annotations of this prefix steer a fake container.
pub const ANNOTATION_PREFIX: &str = "fake.skiff.dev/";

pub struct FakeRuntime {
    capabilities: Capabilities,
    ledger: Arc<Ledger<Fake>>,
    /// See [`FakeRuntime::talking`].
    talks: Option<talk::Alive>,
    /// By port; see [`FakeRuntime::serve`].
    served: parking_lot::Mutex<HashMap<u16, Box<talk::Server>>>,
}

/// What one container will do.
#[derive(Default)]
struct Fake {
    exit_after: Option<Duration>,
    exit_code: Option<i32>,
    print_lines: u32,
    ignore_term: bool,
    timer: parking_lot::Mutex<Option<AbortHandle>>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        let handlers = ["", "wasm", "wasmtime"];
        let capabilities = Capabilities {
            scheme: "fake",
            version: concat!("fake://", env!("CARGO_PKG_VERSION")).to_owned(),
            handlers: handlers.map(str::to_owned).to_vec(),
            wasm: true,
            linux: true,
            stats: true,
            ..Capabilities::default()
        };
        Self { capabilities, ledger: Arc::new(Ledger::new()), talks: None, served: parking_lot::Mutex::default() }
    }
}

impl FakeRuntime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// With other capabilities, for tests of what the layers above do about them.
    pub fn with_capabilities(capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self { capabilities, ..Self::default() })
    }

    /// With processes to exec, attach to and dial ([`talk`]), for tests of the protocols above.
    pub fn talking() -> Arc<Self> {
        let mut this = Self { talks: Some(talk::Alive::default()), ..Self::default() };
        this.capabilities.exec = true;
        this.capabilities.attach = true;
        this.capabilities.port_forward = true;
        Arc::new(this)
    }

    /// What every pod's port does with a connection from now on.
    pub fn serve(&self, port: u16, server: impl Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.served.lock().insert(port, Box::new(server));
    }

    /// Processes and connections that are left.
    pub fn talks(&self) -> usize {
        self.talks.as_ref().map_or(0, talk::Alive::count)
    }

    fn talks_in(&self, container: &str, what: &'static str) -> Result<&talk::Alive> {
        let talks = self.talks.as_ref().ok_or(Error::Unsupported(what))?;
        match self.ledger.container(container)?.state() {
            ContainerState::Running => Ok(talks),
            _ => Err(Error::InvalidState(format!("container {container:?} does not run"))),
        }
    }

    /// Ends a running container as if by itself: what a test wants to happen now.
    pub fn exit(&self, container: &str, code: i32) -> Result<()> {
        let container = self.ledger.container(container)?;
        finish(&self.ledger, &container, Exit::from_code(code));
        Ok(())
    }
}

fn finish(ledger: &Ledger<Fake>, container: &Container<Fake>, exit: Exit) {
    if let Some(timer) = container.extra.timer.lock().take() {
        timer.abort();
    }
    ledger.exited(container, exit);
}

/// What the container is told to do: its arguments, then its annotations, then the sandbox's.
fn plan(config: &ContainerConfig, sandbox: &SandboxConfig) -> Result<Fake> {
    let setting = |name: &str| -> Option<String> {
        let argument =
            config.command.iter().chain(&config.args).find_map(|argument| {
                argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
            });
        let key = format!("{ANNOTATION_PREFIX}{name}");
        argument.or_else(|| config.annotations.get(&key).or_else(|| sandbox.annotations.get(&key)).cloned())
    };
    fn read<T>(name: &str, text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = text else { return Ok(None) };
        let wrong = || Error::Invalid(format!("{ANNOTATION_PREFIX}{name}: {text:?} is not valid"));
        parse(&text).map(Some).ok_or_else(wrong)
    }
    Ok(Fake {
        exit_after: read("exit-after", setting("exit-after"), duration)?,
        exit_code: read("exit-code", setting("exit-code"), |text| text.parse().ok())?,
        print_lines: read("print-lines", setting("print-lines"), |text| text.parse().ok())?.unwrap_or(0),
        ignore_term: read("ignore-term", setting("ignore-term"), |text| text.parse().ok())?.unwrap_or(false),
        timer: parking_lot::Mutex::default(),
    })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

async fn print_lines(path: &Path, count: u32) -> Result<()> {
    let failed = |error: std::io::Error| Error::Internal(format!("failed to write log {}: {error}", path.display()));
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    }
    let mut text = String::new();
    for line in 0..count {
        let _ = writeln!(text, "{} stdout F line {line}", Timestamp::now());
    }
    tokio::fs::write(path, text).await.map_err(failed)
}

fn image(reference: &str) -> Result<Image> {
    let parsed = Reference::parse(reference)?;
    // Any stable digest will do: there is no content.
    let digest = parsed.digest.clone().unwrap_or_else(|| {
        let hash = parsed
            .to_string()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("sha256:{}", format!("{hash:016x}").repeat(4))
    });
    Ok(Image {
        tags: parsed.tagged().into_iter().collect(),
        digests: vec![format!("{}@{digest}", parsed.repository())],
        id: digest,
        size_bytes: 0,
        kind: ImageKind::Wasm,
    })
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        self.ledger.run_sandbox(config, |_| Ok(Vec::new()))
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        for container in self.ledger.stop_sandbox(id) {
            finish(&self.ledger, &container, Exit::killed());
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        self.ledger.remove_sandbox(id);
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>> {
        Ok(self.ledger.sandboxes())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        let fake = plan(&config, &*self.ledger.sandbox_config(sandbox)?)?;
        Ok(self.ledger.create(sandbox, config, fake)?.id.clone())
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.ledger.container(id)?;
        if container.state() == ContainerState::Created && container.extra.print_lines > 0 {
            print_lines(&container.config.log_path, container.extra.print_lines).await?;
        }
        self.ledger.started(&container)?;
        let fake = &container.extra;
        let after = fake.exit_after.or(fake.exit_code.map(|_| Duration::ZERO));
        let after = after.or((fake.print_lines > 0).then_some(Duration::ZERO));
        if let Some(after) = after {
            let exit = Exit::from_code(fake.exit_code.unwrap_or(0));
            let (ledger, container) = (self.ledger.clone(), container.clone());
            let mut timer = fake.timer.lock();
            let task = {
                let container = container.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    ledger.exited(&container, exit);
                })
            };
            *timer = Some(task.abort_handle());
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.ledger.get(id) else { return Ok(()) };
        if container.state() == ContainerState::Running && container.extra.ignore_term && !grace.is_zero() {
            let _ = tokio::time::timeout(grace, container.wait_exited()).await;
            finish(&self.ledger, &container, Exit::killed());
        } else if grace.is_zero() {
            finish(&self.ledger, &container, Exit::killed());
        } else {
            finish(&self.ledger, &container, Exit::terminated());
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let Some(container) = self.ledger.get(id) else { return Ok(()) };
        finish(&self.ledger, &container, Exit::killed());
        self.ledger.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.ledger.container(id)?.status())
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        Ok(self.ledger.containers(sandbox).iter().map(|container| container.status()).collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        self.ledger.events()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        image(reference).map(Some)
    }

    async fn pull_image(&self, reference: &str, _: Option<Credentials>) -> Result<Image> {
        image(reference)
    }

    async fn load_image(&self, reference: &str, _: ImageSource) -> Result<Image> {
        image(reference)
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        Reference::parse(reference).map(|_| ())
    }

    /// A fake container uses nothing.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        if !self.capabilities.stats {
            return Err(Error::Unsupported("stats"));
        }
        let container = self.ledger.container(id)?;
        Ok(ContainerStats {
            id: container.id.to_string(),
            name: container.config.name.clone(),
            ..ContainerStats::default()
        })
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Attached> {
        talk::run(self.talks_in(id, "exec")?, request.command, request.streams)
    }

    async fn attach(&self, id: &str, wanted: StreamsWanted) -> Result<Attached> {
        talk::run(self.talks_in(id, "attach")?, vec!["cat".to_owned()], wanted)
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>> {
        let alive = self.talks.as_ref().ok_or(Error::Unsupported("port-forward"))?;
        self.ledger.sandbox_config(sandbox)?;
        match self.served.lock().get(&port) {
            Some(server) => Ok(talk::served(alive, &**server)),
            None => talk::dial(alive, port),
        }
    }

    async fn shutdown(&self, grace: Duration) {
        let containers = self.ledger.containers(None);
        let stops = containers.iter().map(|container| self.stop_container(&container.id, grace));
        futures::future::join_all(stops).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::conformance::{Artefact, Mapping, Program, Subject};

    struct Fakes;

    #[async_trait]
    impl Subject for Fakes {
        async fn open(&self, _: &Path) -> Arc<dyn Runtime> {
            FakeRuntime::talking()
        }

        fn keeps_images(&self) -> bool {
            false
        }

        fn map(&self, program: &Program) -> Mapping {
            let run = |args: &[&str]| Mapping::Runs(Artefact::named("localhost/fake:latest").args(args));
            match program {
                Program::ExitsWith(code) => run(&[&format!("--exit-code={code}")]),
                Program::PrintsLines(count) => run(&[&format!("--print-lines={count}")]),
                Program::Sleeps | Program::LoopsForever => run(&[]),
                Program::IgnoresTerm => run(&["--ignore-term=true"]),
                Program::EchoesConnections(talk::ECHO_PORT) => run(&[]),
                Program::PrintsBothStreams
                | Program::PrintsUnterminated
                | Program::PrintsLongLine(_)
                | Program::FloodsLog
                | Program::EchoesStdin
                | Program::EchoesConnections(_)
                | Program::PrintsEnv
                | Program::PrintsArgs
                | Program::PrintsFile(_)
                | Program::WritesFile(_)
                | Program::Traps
                | Program::Recurses
                | Program::GrowsMemory
                | Program::Obeys(_) => Mapping::Lacks("a fake container runs nothing"),
            }
        }
    }

    crate::runtime_conformance!(Fakes);

    #[tokio::test(start_paused = true)]
    async fn a_container_exits_after_its_time_by_annotation_of_the_pod() {
        let runtime = FakeRuntime::new();
        let mut events = runtime.events();
        let annotations =
            [("exit-after", "90s"), ("exit-code", "7")].map(|(k, v)| (format!("{ANNOTATION_PREFIX}{k}"), v.to_owned()));
        let sandbox = SandboxConfig { uid: "u".to_owned(), annotations: annotations.into(), ..Default::default() };
        let sandbox = runtime.run_sandbox(sandbox).await.unwrap();
        let id = runtime.create_container(&sandbox.id, ContainerConfig::default()).await.unwrap();
        let start = tokio::time::Instant::now();
        runtime.start_container(&id).await.unwrap();
        assert!(matches!(events.next().await, Some(RuntimeEvent::Started { .. })));
        assert!(matches!(events.next().await, Some(RuntimeEvent::Exited { .. })));
        let took = start.elapsed();
        assert!((90..91).contains(&took.as_secs()), "exited after {took:?}");
        assert_eq!(runtime.container_status(&id).await.unwrap().exit.unwrap().code, 7);
    }

    #[tokio::test]
    async fn a_wrong_annotation_is_named() {
        let runtime = FakeRuntime::new();
        let sandbox = runtime.run_sandbox(SandboxConfig::default()).await.unwrap();
        let config = ContainerConfig { args: vec!["--exit-after=soon".to_owned()], ..Default::default() };
        let error = runtime.create_container(&sandbox.id, config).await.unwrap_err();
        assert_eq!(error.to_string(), "fake.skiff.dev/exit-after: \"soon\" is not valid");
    }
}
