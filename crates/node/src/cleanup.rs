//! What an earlier process left: sandboxes to take over, and things of pods that are gone to remove.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use skiff_lifecycle::ContainerRecord;
use skiff_runtime::{ContainerStatus, Sandbox};
use tracing::{info, warn};

use crate::{agent::Agent, execute::record_state};

/// By pod uid: the runtime, the sandbox and its containers.
pub type Leftovers = HashMap<String, Vec<(usize, Sandbox, Vec<ContainerStatus>)>>;

pub async fn leftovers(agent: &Agent) -> Leftovers {
    let mut found = Leftovers::new();
    for (index, runtime) in agent.config.runtimes.iter().enumerate() {
        let sandboxes = match runtime.list_sandboxes().await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                warn!(%error, runtime = runtime.capabilities().scheme, "sandboxes cannot be listed");
                continue;
            }
        };
        for sandbox in sandboxes {
            let containers = runtime.list_containers(Some(&sandbox.id)).await.unwrap_or_default();
            found.entry(sandbox.uid.clone()).or_default().push((index, sandbox, containers));
        }
    }
    found
}

/// Containers of a sandbox that is taken over.
pub fn records(
    agent: &Agent,
    runtime: usize,
    sandbox: &Sandbox,
    containers: &[ContainerStatus],
) -> Vec<ContainerRecord> {
    let scheme = agent.runtime(runtime).capabilities().scheme;
    let record = |c: &ContainerStatus| ContainerRecord {
        name: c.name.clone(),
        attempt: c.attempt,
        id: c.id.to_string(),
        api_id: format!("{scheme}://{}", c.id),
        sandbox: Some(sandbox.attempt),
        state: record_state(c),
        image_spec: c.image.clone(),
        image: c.image.clone(),
        image_id: c.image_id.clone(),
        kill_at: None,
    };
    containers.iter().map(record).collect()
}

/// Removes sandboxes and directories of pods that are not in the API any more. `uids`: those that are.
pub async fn orphans(agent: &Agent, leftovers: Leftovers, uids: &HashSet<String>) {
    for (uid, sandboxes) in leftovers {
        if uids.contains(&uid) {
            continue;
        }
        for (runtime, sandbox, _) in sandboxes {
            info!(pod = %format!("{}/{}", sandbox.namespace, sandbox.name), uid, "removing the sandbox of a pod that is gone");
            if let Err(error) = agent.runtime(runtime).remove_sandbox(&sandbox.id).await {
                warn!(%error, uid, "sandbox of a pod that is gone not removed");
            }
        }
    }
    let dirs = agent.dirs.clone();
    let known = uids.clone();
    let swept = tokio::task::spawn_blocking(move || {
        sweep(&dirs.pods(), |name| known.contains(name));
        sweep(&dirs.logs(), |name| name.rsplit('_').next().is_some_and(|uid| known.contains(uid)));
    });
    if let Err(error) = swept.await {
        warn!(%error, "directories of pods that are gone not removed");
    }
}

fn sweep(dir: &Path, keep: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !keep(&entry.file_name().to_string_lossy())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            warn!(%error, path = %entry.path().display(), "directory of a pod that is gone not removed");
        }
    }
}
