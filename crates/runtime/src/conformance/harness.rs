//! A runtime with a pod in it, and the words that the cases are written in.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};

use super::{Artefact, Mapping, Program, Subject};
use crate::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Exit, Mount, Runtime, RuntimeEvent, SandboxConfig,
    SandboxId,
};

/// How long a case waits for what must happen, unless `SKIFF_TEST_PATIENCE_SECONDS` says otherwise.
fn patience() -> Duration {
    let seconds = std::env::var("SKIFF_TEST_PATIENCE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Waits for what must happen, and panics with its name when it does not.
pub async fn eventually<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience(), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {:?}", patience()),
    }
}

pub struct Harness {
    pub runtime: Arc<dyn Runtime>,
    pub subject: Box<dyn Subject>,
    /// Of a pod that is there from the start.
    pub sandbox: SandboxId,
    scratch: Scratch,
    next: AtomicU32,
}

/// A directory of one case, removed at its end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A container that a case made, and the events since before it was made.
pub struct Subjected<'a> {
    pub harness: &'a Harness,
    pub id: ContainerId,
    pub log: PathBuf,
    events: BoxStream<'static, RuntimeEvent>,
}

/// The program that does what its arguments say.
pub fn obeys(words: &[&str]) -> Program {
    Program::Obeys(words.iter().map(|&word| word.to_owned()).collect())
}

impl Harness {
    /// The command that makes a container of [`obeys`] run another process of it.
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        let Mapping::Runs(artefact) = self.subject.map(&obeys(words)) else { return Vec::new() };
        let mut command = artefact.command;
        if command.is_empty() {
            // The name of a program whose artefact is the program.
            command.push("obey".to_owned());
        }
        command.extend(artefact.args);
        command
    }

    pub async fn open(subject: Box<dyn Subject>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("skiff-conformance-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch(std::env::temp_dir().join(unique));
        std::fs::create_dir_all(&scratch.0).expect("the temporary directory is writable");
        let runtime = subject.open(&scratch.0.join("root")).await;
        let config = Self::pod(&scratch.0, "pod", "uid-0");
        let sandbox = runtime.run_sandbox(config).await.expect("a sandbox can be made").id;
        Self { runtime, subject, sandbox, scratch, next: AtomicU32::new(1) }
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch.0
    }

    fn pod(scratch: &Path, name: &str, uid: &str) -> SandboxConfig {
        SandboxConfig {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            hostname: name.to_owned(),
            log_dir: scratch.join("logs").join(uid),
            ..SandboxConfig::default()
        }
    }

    /// The configuration of another pod.
    pub fn sandbox_config(&self, uid: &str) -> SandboxConfig {
        Self::pod(self.scratch(), "pod", uid)
    }

    /// What to run for the program; `None`, and a note, if the runtime has no such program.
    pub async fn artefact(&self, program: &Program) -> Option<(Artefact, String)> {
        let artefact = match self.subject.map(program) {
            Mapping::Runs(artefact) => artefact,
            Mapping::Lacks(reason) => {
                #[allow(clippy::print_stderr)]
                {
                    eprintln!("skipped: no program {program:?}: {reason}");
                }
                return None;
            }
        };
        let image = match &artefact.source {
            Some(source) => self.runtime.load_image(&artefact.reference, source.clone()).await,
            None => self.runtime.pull_image(&artefact.reference, None).await,
        };
        let image = image.unwrap_or_else(|error| panic!("the image of {program:?}: {error}"));
        Some((artefact, image.id))
    }

    /// The configuration of a container of the program, of a name not used yet.
    pub async fn config(&self, program: Program) -> Option<ContainerConfig> {
        let (artefact, image_id) = self.artefact(&program).await?;
        let name = format!("c{}", self.next.fetch_add(1, Ordering::Relaxed));
        Some(ContainerConfig {
            log_path: self.scratch().join("logs").join(&name).join("0.log"),
            name,
            image: artefact.reference,
            image_id,
            command: artefact.command,
            args: artefact.args,
            ..ContainerConfig::default()
        })
    }

    pub async fn create_with(&self, config: ContainerConfig) -> Subjected<'_> {
        let events = self.runtime.events();
        let log = config.log_path.clone();
        let id = self.runtime.create_container(&self.sandbox, config).await.expect("the container can be created");
        Subjected { harness: self, id, log, events }
    }

    pub async fn create(&self, program: Program) -> Option<Subjected<'_>> {
        let config = self.config(program).await?;
        Some(self.create_with(config).await)
    }

    pub async fn start(&self, program: Program) -> Option<Subjected<'_>> {
        let created = self.create(program).await?;
        created.start().await;
        Some(created)
    }

    pub async fn start_with(&self, config: ContainerConfig) -> Subjected<'_> {
        let created = self.create_with(config).await;
        created.start().await;
        created
    }

    /// A mount of a new directory that holds the one file.
    pub fn mount(&self, container_path: &str, read_only: bool, file: &str, content: &str) -> Mount {
        let name = format!("mount{}", self.next.fetch_add(1, Ordering::Relaxed));
        let host_path = self.scratch().join(name);
        std::fs::create_dir_all(&host_path).expect("the scratch directory is writable");
        std::fs::write(host_path.join(file), content).expect("the scratch directory is writable");
        Mount { host_path, container_path: container_path.to_owned(), read_only, volume: None }
    }
}

impl Subjected<'_> {
    pub async fn start(&self) {
        self.harness.runtime.start_container(&self.id).await.expect("the container can be started");
    }

    pub async fn status(&self) -> ContainerStatus {
        self.harness.runtime.container_status(&self.id).await.expect("the container is known")
    }

    /// Waits for the exit event of this container, and never asks for its state.
    pub async fn saw_exit(&mut self) {
        let id = self.id.clone();
        eventually("the exit of the container", async {
            while let Some(event) = self.events.next().await {
                match event {
                    RuntimeEvent::Exited { container, .. } if container == id => return,
                    RuntimeEvent::Resync => panic!("a case made more events than are kept"),
                    _ => {}
                }
            }
            panic!("the events ended");
        })
        .await;
    }

    /// Waits for the exit event and gives what the container left.
    pub async fn exit(&mut self) -> Exit {
        self.saw_exit().await;
        let status = self.status().await;
        assert_eq!(status.state, ContainerState::Exited);
        status.exit.expect("what has exited says how")
    }

    /// The log as (stream, full or partial, text); panics on a line that is not in the CRI format.
    pub fn log_lines(&self) -> Vec<(String, char, String)> {
        let text = match std::fs::read_to_string(&self.log) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.unwrap_or_else(|error| panic!("{:?}: {error}", self.log)),
        };
        assert!(text.is_empty() || text.ends_with('\n'), "the last record of the log is cut off");
        text.lines().map(parse).collect()
    }

    /// The text of complete stdout lines.
    pub fn stdout(&self) -> Vec<String> {
        let lines = self.log_lines().into_iter();
        lines.filter(|(stream, ..)| stream == "stdout").map(|(_, _, text)| text).collect()
    }
}

fn parse(line: &str) -> (String, char, String) {
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    let [time, stream, tag, text] = parts[..] else { panic!("not a CRI log line: {line:?}") };
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "not a time: {time:?}");
    assert!(matches!(stream, "stdout" | "stderr"), "not a stream: {stream:?}");
    assert!(matches!(tag, "F" | "P"), "not a tag: {tag:?}");
    (stream.to_owned(), tag.chars().next().unwrap_or('F'), text.to_owned())
}
