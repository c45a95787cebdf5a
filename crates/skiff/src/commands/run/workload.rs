//! When a workload is done: pure judgement over its JSON, for every kind that `skiff run` waits for.

use serde_json::Value;

/// The kinds that are waited for; others are applied and left alone.
pub const KINDS: &[(&str, &str)] = &[
    ("batch/v1", "Job"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "ReplicationController"),
    ("v1", "Pod"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Waiting,
    /// `complete`, `available`, `succeeded`.
    Good(&'static str),
    /// Why, for the summary.
    Bad(String),
}

/// How many pods are done of how many wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub done: i64,
    pub wanted: i64,
}

fn number(object: &Value, pointer: &str, default: i64) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(default)
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == name)
}

fn holds(object: &Value, name: &str) -> bool {
    condition(object, name).is_some_and(|c| c["status"] == "True")
}

fn why(condition: Option<&Value>) -> String {
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or("").to_owned();
    match (text("reason"), text("message")) {
        (reason, message) if message.is_empty() => reason,
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// How far an object of one of [`KINDS`] is.
pub fn judge(kind: &str, object: &Value) -> (Verdict, Count) {
    match kind {
        "Job" => job(object),
        "Pod" => pod(object),
        "DaemonSet" => {
            set(object, number(object, "/status/desiredNumberScheduled", 0), "/status/numberAvailable", true)
        }
        "StatefulSet" => set(object, number(object, "/spec/replicas", 1), "/status/readyReplicas", false),
        "Deployment" => deployment(object),
        _ => set(object, number(object, "/spec/replicas", 1), "/status/availableReplicas", false),
    }
}

fn job(object: &Value) -> (Verdict, Count) {
    let parallelism = number(object, "/spec/parallelism", 1);
    let count = Count {
        done: number(object, "/status/succeeded", 0),
        wanted: number(object, "/spec/completions", parallelism),
    };
    let verdict = if holds(object, "Failed") {
        Verdict::Bad(why(condition(object, "Failed")))
    } else if holds(object, "Complete") {
        Verdict::Good("complete")
    } else {
        Verdict::Waiting
    };
    (verdict, count)
}

fn deployment(object: &Value) -> (Verdict, Count) {
    let progressing = condition(object, "Progressing");
    if progressing.is_some_and(|c| c["status"] == "False" && c["reason"] == "ProgressDeadlineExceeded") {
        let count =
            Count { done: number(object, "/status/availableReplicas", 0), wanted: number(object, "/spec/replicas", 1) };
        return (Verdict::Bad(why(progressing)), count);
    }
    let wanted = number(object, "/spec/replicas", 1);
    let (verdict, count) = set(object, wanted, "/status/availableReplicas", false);
    let updated =
        number(object, "/status/updatedReplicas", 0) >= wanted && number(object, "/status/replicas", 0) <= wanted;
    if updated { (verdict, count) } else { (Verdict::Waiting, count) }
}

/// A set is available when its controller has seen this generation and enough pods are.
fn set(object: &Value, wanted: i64, available: &str, needs_seen: bool) -> (Verdict, Count) {
    let count = Count { done: number(object, available, 0), wanted };
    let seen = number(object, "/status/observedGeneration", 0) >= number(object, "/metadata/generation", 1);
    let ready = seen && count.done >= wanted && (!needs_seen || object["status"].is_object());
    (if ready { Verdict::Good("available") } else { Verdict::Waiting }, count)
}

fn pod(object: &Value) -> (Verdict, Count) {
    let count = |done| Count { done, wanted: 1 };
    match object["status"]["phase"].as_str() {
        Some("Succeeded") => (Verdict::Good("succeeded"), count(1)),
        Some("Failed") => {
            let status = &object["status"];
            let exit = status["containerStatuses"].as_array().into_iter().flatten().find_map(|c| {
                let code = c["state"]["terminated"]["exitCode"].as_i64().filter(|code| *code != 0)?;
                let reason = c["state"]["terminated"]["reason"].as_str().unwrap_or("Error");
                Some(format!("container {} ended with {code} ({reason})", c["name"].as_str().unwrap_or("")))
            });
            (Verdict::Bad(exit.unwrap_or_else(|| why(Some(status)))), count(0))
        }
        _ if object["spec"]["restartPolicy"] == "Always" && holds(object, "Ready") => {
            (Verdict::Good("available"), count(1))
        }
        _ => (Verdict::Waiting, count(0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts() {
        let cases = [
            ("Job", json!({"spec": {"completions": 3}, "status": {"succeeded": 1}}), Verdict::Waiting, (1, 3)),
            (
                "Job",
                json!({"spec": {"completions": 3}, "status": {"succeeded": 3, "conditions": [{"type": "Complete", "status": "True"}]}}),
                Verdict::Good("complete"),
                (3, 3),
            ),
            (
                "Job",
                json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]}}),
                Verdict::Bad("BackoffLimitExceeded: m".into()),
                (0, 1),
            ),
            (
                "Deployment",
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}}),
                Verdict::Waiting,
                (2, 2),
            ),
            (
                "Deployment",
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}}),
                Verdict::Good("available"),
                (2, 2),
            ),
            ("DaemonSet", json!({"metadata": {"generation": 1}}), Verdict::Waiting, (0, 0)),
            (
                "Pod",
                json!({"spec": {"restartPolicy": "Never"}, "status": {"phase": "Running"}}),
                Verdict::Waiting,
                (0, 1),
            ),
            (
                "Pod",
                json!({"status": {"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}}),
                Verdict::Bad("container a ended with 3 (Error)".into()),
                (0, 1),
            ),
        ];
        for (kind, object, verdict, (done, wanted)) in cases {
            assert_eq!(judge(kind, &object), (verdict, Count { done, wanted }), "{kind} {object}");
        }
    }
}
