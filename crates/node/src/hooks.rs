//! Lifecycle hooks, carried out: postStart after a container's start, preStop before it is asked to end.
//!
//! A hook ends early when its container has exited by itself, and a postStart when its pod is deleted. What a failed hook
//! said goes to the node's log and not into an event, where everybody could read it.

use std::{collections::HashMap, sync::Arc, time::Duration};

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
    /// Runs the container's postStart, if it has one. False when it failed, and the container must go.
    pub async fn post_start(&self, pod: &Pod, container: &Container, id: &str) -> bool {
        let Some(hook) = hooks::post_start(container) else { return true };
        let runtime = self.agent.runtime(self.runtime_of(id)).clone();
        let result = tokio::select! {
            result = self.hook(container, id, &hook, FOR_EVER) => result,
            // Whoever looks at the container next sees to it.
            () = exited(&*runtime, id) => return true,
            () = self.ending.cancelled() => return true,
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
        result.is_ok()
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
                    result = self.hook(container, id, &hook, grace) => result,
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

    async fn hook(&self, container: &Container, id: &str, hook: &Hook, limit: Duration) -> Result<(), String> {
        match hook {
            Hook::Exec(command) => {
                let runtime = self.agent.runtime(self.runtime_of(id));
                let output = runtime.exec_sync(id, command, limit).await.map_err(|error| error.to_string())?;
                if output.code == 0 {
                    return Ok(());
                }
                let said = [output.stdout, output.stderr].concat();
                Err(format!("command {command:?} exited with {}: {}", output.code, String::from_utf8_lossy(&said)))
            }
            Hook::HttpGet(get) => probes::hook(self, container, id, get).await,
            Hook::Sleep { seconds } => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Ok(())
            }
            Hook::Unsupported => Err("it has no handler that can be run".to_owned()),
        }
    }
}
