//! Carrying out a pod's commands against a runtime. What comes of each goes back as outcomes; nothing here decides.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Container, Pod, PodSpec, Service},
    node::v1::RuntimeClass,
};
use parking_lot::Mutex;
use skiff_api::quantity::Quantity;
use skiff_client::rest::{Written, delete_options};
use skiff_lifecycle::{Command, ContainerRecord, Outcome, RecordState, TerminatedState};
use skiff_reconcile::{
    EventType::{Normal, Warning},
    KindRef, ObjectKey, Preconditions, ViewExt,
};
use skiff_runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Error, Resources, Runtime, Sandbox, SandboxConfig, SandboxId,
    annotations::{self, declared_environment_only},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    agent::{Agent, pods},
    dispatch,
    env::{self, EnvInput},
    expand::expand,
    fields::NodeFacts,
    hooks::Begun,
    images::{self, Found},
    logs,
    mailbox::PodHandle,
    sources::Sources,
    volumes,
};

/// Between tries of a clean-up that a runtime refused.
const CLEAN_RETRY: Duration = Duration::from_secs(1);

/// One pod's dealings with the runtimes.
pub struct PodContext {
    pub agent: Arc<Agent>,
    pub handle: Arc<PodHandle>,
    /// preStop hooks that have begun.
    pub hooks: Begun,
    /// Cancelled when the pod is to end: nothing of its start is waited for any more.
    pub ending: CancellationToken,
    placed: Mutex<Placed>,
}

#[derive(Default)]
struct Placed {
    /// A pod has a sandbox in each runtime that one of its containers went to.
    sandboxes: Vec<(usize, Sandbox)>,
    images: HashMap<String, Found>,
    /// Runtime by container id.
    containers: HashMap<Arc<str>, usize>,
}

impl PodContext {
    pub fn new(agent: Arc<Agent>, handle: Arc<PodHandle>) -> Self {
        let ending = CancellationToken::new();
        Self { agent, handle, hooks: Begun::default(), ending, placed: Mutex::default() }
    }

    /// Takes over what an earlier process left in a runtime.
    pub fn adopt(&self, runtime: usize, sandbox: Sandbox, containers: &[ContainerStatus]) {
        let mut placed = self.placed.lock();
        placed.sandboxes.push((runtime, sandbox));
        placed.containers.extend(containers.iter().map(|c| (c.id.clone(), runtime)));
    }

    pub fn runtime_of(&self, container: &str) -> usize {
        self.placed.lock().containers.get(container).copied().unwrap_or(0)
    }

    /// The pod's sandbox in a runtime.
    pub fn sandbox_id(&self, runtime: usize) -> Option<SandboxId> {
        let placed = self.placed.lock();
        placed.sandboxes.iter().rev().find(|(index, _)| *index == runtime).map(|(_, sandbox)| sandbox.id.clone())
    }

    pub fn sandbox_ip(&self, runtime: usize) -> Option<String> {
        let placed = self.placed.lock();
        let sandbox = placed.sandboxes.iter().rev().find(|(index, _)| *index == runtime);
        sandbox.and_then(|(_, sandbox)| sandbox.ips.first()).map(ToString::to_string)
    }

    fn runtime(&self, index: usize) -> &Arc<dyn Runtime> {
        self.agent.runtime(index)
    }

    fn log_path(&self, container: &str, attempt: u32) -> std::path::PathBuf {
        self.agent.dirs.container_log(&self.handle.key, &self.handle.uid, container, attempt)
    }

    /// Carries out one command.
    pub async fn execute(self: Arc<Self>, pod: Arc<Pod>, command: Command) -> Vec<Outcome> {
        match command {
            Command::MountVolumes => vec![self.mount(&pod).await],
            Command::UnmountVolumes => {
                volumes::unmount(&self.agent, &pod, &self.handle).await;
                vec![Outcome::VolumesGone]
            }
            Command::RunSandbox { attempt } => vec![self.run_sandbox(&pod, attempt).await],
            Command::RemoveSandbox { attempt, .. } => {
                self.remove_sandboxes(attempt).await;
                vec![Outcome::SandboxRemoved]
            }
            Command::EnsureImage { container, attempt, image } => {
                vec![self.ensure_image(&pod, container, attempt, image).await]
            }
            Command::CreateAndStart { container, attempt, .. } => {
                vec![self.create_and_start(&pod, container, attempt).await]
            }
            Command::StopContainer { container, id, grace_s, message, .. } => {
                vec![self.stop(&pod, &container, id, grace_s, message).await]
            }
            Command::RemoveContainer { container, attempt, id } => {
                self.remove_container(&container, attempt, &id).await;
                vec![]
            }
            Command::DeletePodFromApi { uid } => vec![self.delete(uid).await],
        }
    }

    async fn mount(&self, pod: &Arc<Pod>) -> Outcome {
        match volumes::mount(&self.agent, pod, &self.handle).await {
            Ok(()) => Outcome::VolumesReady,
            Err(message) => {
                self.agent.event(pod, None, Warning, "FailedMount", message.clone());
                Outcome::VolumesFailed { message }
            }
        }
    }

    /// The pod's sandbox in the runtime that its first container asks for; others are made when they are needed.
    async fn run_sandbox(&self, pod: &Pod, attempt: u32) -> Outcome {
        let made = match self.first_choice(pod).await {
            Ok(runtime) => self.sandbox_in(runtime, pod, attempt).await.map_err(|e| e.to_string()),
            Err(message) => Err(message),
        };
        match made {
            Ok(sandbox) => {
                let ips = sandbox.ips.iter().map(ToString::to_string).collect();
                Outcome::SandboxReady { attempt, id: sandbox.id.to_string(), ips }
            }
            Err(message) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.agent.event(pod, None, Warning, "FailedCreatePodSandBox", message.clone());
                Outcome::SandboxFailed { message }
            }
        }
    }

    async fn first_choice(&self, pod: &Pod) -> Result<usize, String> {
        let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
        let first = spec.containers.first().ok_or("the pod has no containers")?;
        let order = self.order(pod, first).await?;
        order.first().copied().ok_or_else(|| "this node has no container runtime".to_owned())
    }

    async fn order(&self, pod: &Pod, container: &Container) -> Result<Vec<usize>, String> {
        let handler = self.handler(pod).await?;
        let argv0 = container.command.iter().flatten().chain(container.args.iter().flatten()).next();
        let capabilities: Vec<_> = self.agent.config.runtimes.iter().map(|r| r.capabilities()).collect();
        let wanted = dispatch::Wanted {
            annotations: pod.metadata.annotations.as_ref(),
            handler: &handler,
            argv0: argv0.map(String::as_str),
        };
        dispatch::order(wanted, &capabilities)
    }

    /// The handler of the pod's RuntimeClass.
    async fn handler(&self, pod: &Pod) -> Result<String, String> {
        let named = pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref()).filter(|n| !n.is_empty());
        let Some(name) = named else { return Ok(String::new()) };
        let key = ObjectKey::new("", name);
        if let Some(class) = self.agent.shared.get::<RuntimeClass>(&key) {
            return Ok(class.handler.clone());
        }
        let class = self.agent.rest.get::<RuntimeClass>(&KindRef::of::<RuntimeClass>(), &key).await;
        class.map(|c| c.handler).map_err(|e| format!("failed to look up RuntimeClass {name:?}: {e}"))
    }

    async fn sandbox_in(&self, runtime: usize, pod: &Pod, attempt: u32) -> Result<Sandbox, Error> {
        let there = self.placed.lock().sandboxes.iter().find(|(r, s)| *r == runtime && s.attempt == attempt).cloned();
        if let Some((_, sandbox)) = there {
            return Ok(sandbox);
        }
        let config = self.sandbox_config(pod, attempt).await;
        let sandbox = self.runtime(runtime).run_sandbox(config).await?;
        self.placed.lock().sandboxes.push((runtime, sandbox.clone()));
        Ok(sandbox)
    }

    async fn sandbox_config(&self, pod: &Pod, attempt: u32) -> SandboxConfig {
        let (key, uid) = (&self.handle.key, &self.handle.uid);
        let hostname = pod.spec.as_ref().and_then(|s| s.hostname.clone());
        SandboxConfig {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.to_string(),
            attempt,
            hostname: hostname.unwrap_or_else(|| key.name.clone()),
            // It was resolved before, or there would be no sandbox.
            runtime_handler: self.handler(pod).await.unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            annotations: pod.metadata.annotations.clone().unwrap_or_default(),
            log_dir: self.agent.dirs.pod_logs(key, uid),
            ephemeral_bytes_max: pod.spec.as_ref().and_then(ephemeral_limit),
        }
    }

    async fn remove_sandboxes(&self, attempt: u32) {
        let of_attempt: Vec<_> = {
            let mut placed = self.placed.lock();
            let (gone, kept) = placed.sandboxes.drain(..).partition(|(_, s)| s.attempt == attempt);
            placed.sandboxes = kept;
            gone
        };
        for (runtime, sandbox) in of_attempt {
            while let Err(error) = self.runtime(runtime).remove_sandbox(&sandbox.id).await {
                warn!(%error, pod = %self.handle.key, "sandbox not removed, trying again");
                tokio::time::sleep(CLEAN_RETRY).await;
            }
        }
    }

    async fn ensure_image(&self, pod: &Pod, container: String, attempt: u32, image: String) -> Outcome {
        let failed = |reason: &str, message| Outcome::ImageFailed {
            container: container.clone(),
            image: image.clone(),
            reason: reason.to_owned(),
            message,
        };
        let Some(spec) = container_of(pod, &container) else {
            return failed("ImageInspectError", format!("the pod has no container {container:?}"));
        };
        let order = match self.order(pod, spec).await {
            Ok(order) => order,
            Err(message) => return failed("ErrImagePull", message),
        };
        match images::ensure(&self.agent, pod, spec, &order).await {
            Err(e) => failed(e.reason, e.message),
            Ok(found) => {
                let id = found.image.id.clone();
                self.placed.lock().images.insert(container.clone(), found);
                Outcome::ImagePresent { container, attempt, image, id }
            }
        }
    }

    /// A container counts as started after its postStart.
    async fn create_and_start(&self, pod: &Arc<Pod>, container: String, attempt: u32) -> Outcome {
        let started = self.create_and_begin(pod, &container, attempt).await;
        let (Outcome::Started(mut record), Some(spec)) = (started.clone(), container_of(pod, &container)) else {
            return started;
        };
        if !record.running() || self.post_start(pod, spec, &record.id).await {
            return started;
        }
        let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let (id, grace_s) = (record.id.clone(), u64::try_from(grace).unwrap_or(0));
        let message = "FailedPostStartHook".to_owned();
        match self.stop(pod, &container, id, grace_s, message).await {
            Outcome::State { state, .. } => record.state = state,
            // It is there and could not be stopped: the next look says what became of it.
            _ => return Outcome::Started(record),
        }
        Outcome::StartedAndFailed(record)
    }

    async fn create_and_begin(&self, pod: &Arc<Pod>, container: &str, attempt: u32) -> Outcome {
        // The semaphore is never closed; if it were, starts would merely not be bounded.
        let _permit = self.agent.starts.acquire().await;
        let not_created = |reason: &str, message: String| {
            self.agent.event(pod, Some(container), Warning, "Failed", format!("Error: {message}"));
            Outcome::NotCreated { container: container.to_owned(), reason: reason.to_owned(), message }
        };
        let spec = container_of(pod, container);
        let found = self.placed.lock().images.get(container).cloned();
        let sandbox_attempt = self.placed.lock().sandboxes.last().map(|(_, s)| s.attempt);
        let (Some(spec), Some(found), Some(sandbox_attempt)) = (spec, found, sandbox_attempt) else {
            return not_created("CreateContainerError", "its image or sandbox went away".to_owned());
        };
        let sandbox = match self.sandbox_in(found.runtime, pod, sandbox_attempt).await {
            Ok(sandbox) => sandbox,
            Err(e) => return not_created("CreateContainerError", e.to_string()),
        };
        let config = match self.container_config(pod, spec, attempt, &found, &sandbox).await {
            Ok(config) => config,
            Err(message) => return not_created("CreateContainerConfigError", message),
        };
        let runtime = self.runtime(found.runtime);
        let id = match runtime.create_container(&sandbox.id, config).await {
            Ok(id) => id,
            Err(e) => return not_created("CreateContainerError", e.to_string()),
        };
        self.placed.lock().containers.insert(id.clone(), found.runtime);
        self.agent.event(pod, Some(container), Normal, "Created", "Container created".to_owned());
        self.start(pod, spec, attempt, sandbox_attempt, &found, id).await
    }

    async fn start(
        &self,
        pod: &Pod,
        spec: &Container,
        attempt: u32,
        sandbox_attempt: u32,
        found: &Found,
        id: Arc<str>,
    ) -> Outcome {
        let runtime = self.runtime(found.runtime);
        let started = runtime.start_container(&id).await;
        let status = runtime.container_status(&id).await;
        let now = self.agent.now();
        let state = match (&started, status) {
            (_, Ok(status)) if status.state == ContainerState::Exited => self.state(pod, spec, &status).await,
            (Ok(()), Ok(status)) => RecordState::Running { started: status.started.unwrap_or(now) },
            (Ok(()), Err(_)) => RecordState::Running { started: now },
            (Err(e), _) => RecordState::Exited(TerminatedState {
                code: 128,
                reason: "StartError".to_owned(),
                message: e.to_string(),
                started: None,
                finished: Some(now),
            }),
        };
        let scheme = runtime.capabilities().scheme;
        let image_spec = spec.image.clone().unwrap_or_default();
        let record = ContainerRecord {
            name: spec.name.clone(),
            attempt,
            id: id.to_string(),
            api_id: format!("{scheme}://{id}"),
            sandbox: Some(sandbox_attempt),
            state,
            image: found.image.tags.first().cloned().unwrap_or_else(|| image_spec.clone()),
            image_id: found.image.digests.first().cloned().unwrap_or_else(|| found.image.id.clone()),
            image_spec,
            kill_at: None,
        };
        match started {
            Ok(()) => {
                self.agent.event(pod, Some(&spec.name), Normal, "Started", "Container started".to_owned());
                Outcome::Started(record)
            }
            Err(e) => {
                self.agent.event(pod, Some(&spec.name), Warning, "Failed", format!("Error: {e}"));
                Outcome::StartedAndFailed(record)
            }
        }
    }

    async fn container_config(
        &self,
        pod: &Arc<Pod>,
        spec: &Container,
        attempt: u32,
        found: &Found,
        sandbox: &Sandbox,
    ) -> Result<ContainerConfig, String> {
        let pod_spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
        let namespace = self.handle.key.namespace.as_str();
        let (mut maps, mut secrets) = env::references(spec);
        let (more_maps, more_secrets) = annotations::sources(pod.metadata.annotations.as_ref());
        maps.extend(more_maps.iter().cloned());
        secrets.extend(more_secrets.iter().cloned());
        let sources = Sources::fetch(&self.agent.rest, namespace, maps, secrets).await;
        let facts = NodeFacts {
            host_ips: vec![self.agent.config.host_ip.clone()],
            pod_ips: self.pod_ips(pod_spec, sandbox),
            allocatable: self.agent.capacity.clone(),
        };
        let links = pod_spec.enable_service_links != Some(false);
        let services = self.agent.shared.list::<Service>(if links { None } else { Some("default") });
        let services = if declared_environment_only(pod.metadata.annotations.as_ref()) {
            BTreeMap::new()
        } else {
            env::services(services.iter().map(AsRef::as_ref), namespace, links)
        };
        let input = EnvInput { pod, container: spec, sources: &sources, facts: &facts, services: &services };
        let env = env::build(&input)?;
        let known: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter().flatten().map(|text| expand(text, |name| known.get(name).copied())).collect()
        };
        let by_name = sources.by_name(more_maps, more_secrets)?;
        let mounts = volumes::mounts(&self.agent.dirs, &self.handle.uid, pod_spec, spec, &known)?;
        let tcp = |p: &&k8s_openapi::api::core::v1::ContainerPort| p.protocol.as_deref().is_none_or(|p| p == "TCP");
        let ports = spec.ports.iter().flatten().filter(tcp).filter_map(|p| u16::try_from(p.container_port).ok());
        Ok(ContainerConfig {
            name: spec.name.clone(),
            attempt,
            image: spec.image.clone().unwrap_or_default(),
            image_id: found.image.id.clone(),
            command: expanded(&spec.command),
            args: expanded(&spec.args),
            working_dir: spec.working_dir.clone().filter(|d| !d.is_empty()),
            ports: ports.collect(),
            mounts,
            resources: resources(spec),
            stdin: spec.stdin == Some(true),
            stdin_once: spec.stdin_once == Some(true),
            tty: spec.tty == Some(true),
            labels: self.labels(spec),
            annotations: pod.metadata.annotations.clone().unwrap_or_default(),
            sources: by_name,
            log_path: self.log_path(&spec.name, attempt),
            termination_message_path: Some(
                spec.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned()),
            ),
            log_bytes_max: None,
            log_files_max: None,
            env,
        })
    }

    fn pod_ips(&self, spec: &PodSpec, sandbox: &Sandbox) -> Vec<String> {
        if spec.host_network == Some(true) {
            return vec![self.agent.config.host_ip.clone()];
        }
        sandbox.ips.iter().map(ToString::to_string).collect()
    }

    fn labels(&self, spec: &Container) -> std::collections::BTreeMap<String, String> {
        let key = &self.handle.key;
        [
            ("io.kubernetes.container.name", spec.name.clone()),
            ("io.kubernetes.pod.name", key.name.clone()),
            ("io.kubernetes.pod.namespace", key.namespace.clone()),
            ("io.kubernetes.pod.uid", self.handle.uid.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }

    async fn stop(&self, pod: &Pod, container: &str, id: String, grace_s: u64, message: String) -> Outcome {
        self.agent.event(pod, Some(container), Normal, "Killing", message);
        let grace_s = match container_of(pod, container) {
            Some(spec) => self.pre_stop(pod, spec, &id, grace_s).await,
            None => grace_s,
        };
        let runtime = self.runtime(self.runtime_of(&id));
        match runtime.stop_container(&id, Duration::from_secs(grace_s)).await {
            Ok(()) => self.look(pod, container, id).await,
            Err(Error::NotFound { .. }) => Outcome::Lost { id },
            Err(error) => {
                warn!(%error, pod = %self.handle.key, container, "container not stopped, trying again");
                tokio::time::sleep(CLEAN_RETRY).await;
                Outcome::StopFailed { id }
            }
        }
    }

    /// What the runtime says of a container now.
    pub async fn look(&self, pod: &Pod, container: &str, id: String) -> Outcome {
        let runtime = self.runtime(self.runtime_of(&id));
        match runtime.container_status(&id).await {
            Ok(status) => {
                let empty = Container::default();
                let spec = container_of(pod, container).unwrap_or(&empty);
                let state = self.state(pod, spec, &status).await;
                Outcome::State { id, state }
            }
            Err(Error::NotFound { .. }) => Outcome::Lost { id },
            Err(error) => {
                warn!(%error, pod = %self.handle.key, container, "container's state is not known, trying again");
                tokio::time::sleep(CLEAN_RETRY).await;
                Outcome::StopFailed { id }
            }
        }
    }

    async fn state(&self, _pod: &Pod, spec: &Container, status: &ContainerStatus) -> RecordState {
        let mut state = record_state(status);
        if let RecordState::Exited(exit) = &mut state {
            let fallback = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
            if fallback && exit.code != 0 && exit.message.is_empty() {
                exit.message = logs::tail_message(&status.log_path).await;
            }
        }
        state
    }

    async fn remove_container(&self, container: &str, attempt: u32, id: &str) {
        if !id.is_empty() {
            let runtime = self.runtime(self.runtime_of(id));
            if let Err(error) = runtime.remove_container(id).await {
                warn!(%error, pod = %self.handle.key, container, "old container not removed");
            }
            self.placed.lock().containers.remove(id);
            self.hooks.forget(id);
        }
        logs::remove(&self.log_path(container, attempt)).await;
    }

    async fn delete(&self, uid: String) -> Outcome {
        let options = delete_options(None, Some(0), &Preconditions { uid: Some(uid), ..Preconditions::default() });
        match self.agent.rest.delete::<Written>(&pods(), &self.handle.key, &options).await {
            Ok(_) => Outcome::Deleted,
            Err(e) if e.is_not_found() || e.is_conflict() => Outcome::Deleted,
            Err(error) => {
                warn!(%error, pod = %self.handle.key, "pod not deleted from the API, trying again");
                Outcome::DeleteFailed
            }
        }
    }
}

pub fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

pub fn record_state(status: &ContainerStatus) -> RecordState {
    match status.state {
        ContainerState::Created => RecordState::Created,
        ContainerState::Running => RecordState::Running { started: status.started.unwrap_or(status.created) },
        ContainerState::Exited => {
            let exit = status.exit.clone();
            RecordState::Exited(TerminatedState {
                code: exit.as_ref().map_or(137, |e| e.code),
                reason: exit.as_ref().map_or("ContainerStatusUnknown", |e| e.reason).to_owned(),
                message: exit.map(|e| e.message).unwrap_or_default(),
                started: status.started,
                finished: status.finished.or(status.started).or(Some(status.created)),
            })
        }
    }
}

/// The limits of a pod's containers together; none if no container has one.
fn ephemeral_limit(spec: &PodSpec) -> Option<u64> {
    let sum = |list: &mut dyn Iterator<Item = &Container>| {
        list.filter_map(|c| resources(c).ephemeral_bytes_max)
            .fold(None, |sum: Option<u64>, max| Some(sum.unwrap_or(0).saturating_add(max)))
    };
    let largest_init = spec.init_containers.iter().flatten().filter_map(|c| resources(c).ephemeral_bytes_max).max();
    sum(&mut spec.containers.iter()).max(largest_init)
}

fn resources(spec: &Container) -> Resources {
    let set = spec.resources.as_ref();
    let limit = |name: &str| set.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).and_then(parsed);
    let request = |name: &str| set.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)).and_then(parsed);
    let bytes = |q: Quantity| u64::try_from(q.value()).ok();
    let millis = |q: Quantity| u64::try_from(q.milli_value()).ok();
    Resources {
        memory_bytes_max: limit("memory").and_then(bytes),
        cpu_millis_max: limit("cpu").and_then(millis),
        cpu_millis_request: request("cpu").and_then(millis),
        ephemeral_bytes_max: limit("ephemeral-storage").and_then(bytes),
    }
}

fn parsed(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<Quantity> {
    Quantity::parse(&quantity.0).ok()
}
