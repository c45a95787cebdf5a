//! Where a pod's containers live: which runtime takes them, and a sandbox in each that takes one.

use k8s_openapi::api::{
    core::v1::{Container, Pod, PodSpec},
    node::v1::RuntimeClass,
};
use skiff_lifecycle::Outcome;
use skiff_reconcile::{EventType::Warning, KindRef, ObjectKey, ViewExt};
use skiff_runtime::{Error, Sandbox, SandboxConfig};
use tracing::warn;

use super::{CLEAN_RETRY, PodContext, config::resources};
use crate::dispatch;

impl PodContext {
    /// The pod's sandbox in the runtime that its first container asks for; others are made when they are needed.
    pub(super) async fn run_sandbox(&self, pod: &Pod, attempt: u32) -> Outcome {
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

    pub(super) async fn order(&self, pod: &Pod, container: &Container) -> Result<Vec<usize>, String> {
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

    pub(super) async fn sandbox_in(&self, runtime: usize, pod: &Pod, attempt: u32) -> Result<Sandbox, Error> {
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

    pub(super) async fn remove_sandboxes(&self, attempt: u32) {
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
