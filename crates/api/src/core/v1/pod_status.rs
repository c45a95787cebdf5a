//! What a pod's status comes to in one word, as `kubectl get pods` shows it.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::{at, flag, get, has, int, items, text};

/// The cells of a row that need thought.
pub struct Summary {
    pub ready: usize,
    pub total: usize,
    pub reason: String,
    pub restarts: i64,
    pub last_restart: Option<Timestamp>,
}

pub fn condition<'v>(status: &'v Value, kind: &str) -> Option<&'v Value> {
    items(status, "conditions").iter().find(|c| text(c, "type") == kind)
}

pub fn is_finished(pod: &Value) -> bool {
    matches!(text(get(pod, "status"), "phase"), "Succeeded" | "Failed")
}

/// An init container that keeps running beside the others.
fn is_sidecar(spec: &Value, name: &str) -> bool {
    items(spec, "initContainers").iter().any(|c| text(c, "name") == name && text(c, "restartPolicy") == "Always")
}

pub fn summary(pod: &Value) -> Summary {
    let (spec, status) = (get(pod, "spec"), get(pod, "status"));
    let phase = text(status, "phase");
    let mut reason = if text(status, "reason").is_empty() { phase } else { text(status, "reason") }.to_owned();
    if condition(status, "PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let sidecars = items(spec, "initContainers").iter().filter(|c| text(c, "restartPolicy") == "Always").count();
    let mut out = Summary {
        ready: 0,
        total: items(spec, "containers").len() + sidecars,
        reason,
        restarts: 0,
        last_restart: None,
    };
    let initializing = init_containers(spec, status, &mut out);
    if !initializing || condition(status, "Initialized").is_some_and(|c| text(c, "status") == "True") {
        containers(status, &mut out);
    }
    if has(get(pod, "metadata"), "deletionTimestamp") {
        if text(status, "reason") == "NodeLost" {
            out.reason = "Unknown".to_owned();
        } else if !is_finished(pod) {
            out.reason = "Terminating".to_owned();
        }
    }
    out
}

/// The restarts of a container and when it last ended.
fn count_restarts(container: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
    *restarts += int(container, "restartCount").unwrap_or(0);
    let ended = at(container, &["lastState", "terminated", "finishedAt"]).as_str().and_then(|t| t.parse().ok());
    *last = (*last).max(ended);
}

/// Whether one of them has still to finish. What only sidecars restarted is kept for when it has not.
fn init_containers(spec: &Value, status: &Value, out: &mut Summary) -> bool {
    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    let total = items(spec, "initContainers").len();
    let mut blocked = None;
    for (i, container) in items(status, "initContainerStatuses").iter().enumerate() {
        let sidecar = is_sidecar(spec, text(container, "name"));
        count_restarts(container, &mut out.restarts, &mut out.last_restart);
        if sidecar {
            count_restarts(container, &mut sidecar_restarts, &mut sidecar_last);
        }
        let state = get(container, "state");
        let terminated = get(state, "terminated");
        let waiting = text(get(state, "waiting"), "reason");
        if int(terminated, "exitCode") == Some(0) {
            continue;
        }
        if sidecar && flag(container, "started") {
            out.ready += usize::from(flag(container, "ready"));
            continue;
        }
        blocked = Some(if !terminated.is_null() {
            format!("Init:{}", ending(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{total}")
        });
        break;
    }
    let initializing = blocked.is_some();
    if let Some(reason) = blocked {
        out.reason = reason;
    }
    if !initializing || condition(status, "Initialized").is_some_and(|c| text(c, "status") == "True") {
        (out.restarts, out.last_restart) = (sidecar_restarts, sidecar_last);
    }
    initializing
}

/// `Error`, `Signal:9`, `ExitCode:3`.
fn ending(terminated: &Value) -> String {
    match (text(terminated, "reason"), int(terminated, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers(status: &Value, out: &mut Summary) {
    let mut running = false;
    let mut error = None;
    for container in items(status, "containerStatuses").iter().rev() {
        count_restarts(container, &mut out.restarts, &mut out.last_restart);
        let state = get(container, "state");
        let waiting = text(get(state, "waiting"), "reason");
        let terminated = get(state, "terminated");
        if !waiting.is_empty() {
            out.reason = waiting.to_owned();
        } else if !terminated.is_null() {
            out.reason = ending(terminated);
            if int(terminated, "exitCode").unwrap_or(0) != 0 {
                error = Some(out.reason.clone());
            }
        } else if flag(container, "ready") && has(state, "running") {
            running = true;
            out.ready += 1;
        }
    }
    if out.reason == "Completed" {
        let ready = condition(status, "Ready").is_some_and(|c| text(c, "status") == "True");
        if running && ready {
            out.reason = "Running".to_owned();
        } else if let Some(error) = error {
            out.reason = error;
        } else if running {
            out.reason = "NotReady".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubectl_shows() {
        let waiting = |r: &str| json!({"name": "a", "state": {"waiting": {"reason": r}}});
        let ended = |code: i64, reason: &str| json!({"name": "a", "state": {"terminated": {"exitCode": code, "reason": reason}}});
        let running = json!({"name": "b", "ready": true, "state": {"running": {}}});
        let one = json!({"containers": [{"name": "a"}]});
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let init = json!({"initContainers": [{"name": "a"}, {"name": "i"}], "containers": [{"name": "c"}]});
        let sidecar =
            json!({"initContainers": [{"name": "a", "restartPolicy": "Always"}], "containers": [{"name": "b"}]});
        for (spec, status, expected) in [
            (&one, json!({"phase": "Pending"}), "0/1 Pending"),
            (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted"),
            (
                &one,
                json!({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
                "0/1 ContainerCreating",
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}),
                "0/1 CrashLoopBackOff",
            ),
            (&one, json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}), "0/1 Completed"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended(3, "")]}), "0/1 ExitCode:3"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended(137, "OOMKilled")]}), "0/1 OOMKilled"),
            (&two, json!({"phase": "Running", "containerStatuses": [ended(0, "Completed"), running]}), "1/2 NotReady"),
            (
                &two,
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [ended(0, "Completed"), running]}),
                "1/2 Running",
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [ended(0, "Completed"), waiting("PodInitializing")]}),
                "0/1 Init:1/2",
            ),
            (&init, json!({"phase": "Pending", "initContainerStatuses": [ended(1, "Error")]}), "0/1 Init:Error"),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}),
                "0/1 Init:ImagePullBackOff",
            ),
            (
                &sidecar,
                json!({"phase": "Running", "initContainerStatuses": [{"name": "a", "started": true, "ready": true, "state": {"running": {}}}],
                "containerStatuses": [running]}),
                "2/2 Running",
            ),
        ] {
            let s = summary(&json!({ "spec": spec, "status": status }));
            assert_eq!(format!("{}/{} {}", s.ready, s.total, s.reason), expected, "{status}");
        }
        let deleted =
            |phase: &str| summary(&json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": phase}})).reason;
        assert_eq!((deleted("Running").as_str(), deleted("Succeeded").as_str()), ("Terminating", "Succeeded"));
    }
}
