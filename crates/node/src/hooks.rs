//! Lifecycle hooks, carried out: postStart after a container's start, preStop before it is asked to end.
//!
//! A hook ends early when its container has exited by itself, and a postStart when its pod is deleted. What a failed hook
//! said goes to the node's log and (of a postStart) into the container's status, as upstream; never into an event, which
//! more people may read.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use skiff_lifecycle::hooks::{self, Hook};
use skiff_reconcile::EventType::Warning;
use skiff_runtime::{ContainerState, Runtime, RuntimeEvent};
use tokio::{
    sync::SetOnce,
    time::{Instant, timeout},
};
use tracing::info;

use crate::{execute::PodContext, probes};

/// What is kept of a failed hook's output, as of a termination message.
const SAID_BYTES_MAX: usize = 4096;
/// Somebody else bounds it, or nobody does: a postStart has no time-out of its own.
pub const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// preStop hooks of one pod that have begun, by container id: each runs once, whoever stops the container again meanwhile.
#[derive(Default)]
pub struct Begun(Mutex<HashMap<String, Arc<SetOnce<()>>>>);

impl Begun {
    /// What tells that it is over, and whether the caller is to run it.
    fn begin(&self, id: &str) -> (Arc<SetOnce<()>>, bool) {
        let mut begun = self.0.lock();
        let first = !begun.contains_key(id);
        (begun.entry(id.to_owned()).or_default().clone(), first)
    }

    pub fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

/// Until the container has exited.
async fn exited(runtime: &dyn Runtime, id: &str) {
    let mut events = runtime.events();
    loop {
        match runtime.container_status(id).await {
            Ok(status) if status.state != ContainerState::Exited => {}
            _ => return,
        }
        loop {
            match events.next().await {
                Some(RuntimeEvent::Exited { container, .. }) if *container == *id => return,
                Some(RuntimeEvent::Resync) => break,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl PodContext {
    /// Runs the container's postStart, if it has one.
    ///
    /// # Errors
    /// Why it failed: the container must go.
    pub async fn post_start(&self, pod: &Pod, container: &Container, id: &str) -> Result<(), String> {
        let Some(hook) = hooks::post_start(container) else { return Ok(()) };
        let runtime = self.agent.runtime(self.runtime_of(id)).clone();
        let result = tokio::select! {
            result = self.hook(pod, container, id, &hook, FOR_EVER) => result,
            // Whoever looks at the container next sees to it.
            () = exited(&*runtime, id) => return Ok(()),
            () = self.ending.cancelled() => return Ok(()),
        };
        if let Err(why) = &result {
            info!(pod = %self.handle.key, container = container.name, error = why, "postStart hook failed");
            self.agent.event(
                pod,
                Some(&container.name),
                Warning,
                "FailedPostStartHook",
                "PostStartHook failed".to_owned(),
            );
        }
        result
    }

    /// Runs the container's preStop, if it has one; what is left of the grace period then.
    pub async fn pre_stop(&self, pod: &Pod, container: &Container, id: &str, grace_s: u64) -> u64 {
        let Some(hook) = hooks::pre_stop(container, grace_s) else { return grace_s };
        let start = Instant::now();
        let (over, first) = self.hooks.begin(id);
        let grace = Duration::from_secs(grace_s);
        if first {
            let runtime = self.agent.runtime(self.runtime_of(id)).clone();
            let ended = async {
                tokio::select! {
                    result = self.hook(pod, container, id, &hook, grace) => result,
                    () = exited(&*runtime, id) => Ok(()),
                }
            };
            // Not in time is not a failure: its time is over.
            if let Ok(Err(why)) = timeout(grace, ended).await {
                info!(pod = %self.handle.key, container = container.name, error = why, "preStop hook failed");
                self.agent.event(
                    pod,
                    Some(&container.name),
                    Warning,
                    "FailedPreStopHook",
                    "PreStopHook failed".to_owned(),
                );
            }
            let _ = over.set(());
        } else {
            // Told to stop again, with less time.
            let _ = timeout(grace, over.wait()).await;
        }
        hooks::grace_after(grace_s, start.elapsed().as_secs())
    }

    /// # Errors
    /// In upstream's words.
    async fn hook(
        &self,
        pod: &Pod,
        container: &Container,
        id: &str,
        hook: &Hook,
        limit: Duration,
    ) -> Result<(), String> {
        let whose = || format!("for Container {:?} in Pod {:?} failed", container.name, skiff_lifecycle::pod_name(pod));
        match hook {
            Hook::Exec(command) => {
                let runtime = self.agent.runtime(self.runtime_of(id));
                let failed = |error: &dyn fmt::Display, said: &str| {
                    let words = command.join(" ");
                    format!("Exec lifecycle hook ([{words}]) {} - error: {error}, message: {said:?}", whose())
                };
                let output = runtime.exec_sync(id, command, limit).await.map_err(|error| failed(&error, ""))?;
                if output.code == 0 {
                    return Ok(());
                }
                let mut said = [output.stdout, output.stderr].concat();
                said.truncate(SAID_BYTES_MAX);
                let error = format!("command '{}' exited with {}", command.join(" "), output.code);
                Err(failed(&error, &String::from_utf8_lossy(&said)))
            }
            Hook::HttpGet(get) => {
                let path = get.path.as_deref().unwrap_or_default();
                let failed = |error| format!("HTTP lifecycle hook ({path}) {} - error: {error}", whose());
                probes::hook(self, container, id, get).await.map_err(failed)
            }
            Hook::Sleep { seconds } => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Ok(())
            }
            Hook::Unsupported => Err("Cannot run handler: it is neither exec, httpGet nor sleep".to_owned()),
        }
    }
}
