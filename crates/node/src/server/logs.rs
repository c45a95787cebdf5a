//! `GET /containerLogs/NAMESPACE/POD/CONTAINER`: what `kubectl logs` reads.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use skiff_reconcile::ObjectKey;

use super::refuse;
use crate::{
    agent::Agent,
    logs::{LogOptions, LogStream, Stream},
    mailbox::{PodHandle, Snapshot},
};

type Parameters = HashMap<String, String>;

pub async fn serve(
    State(agent): State<Arc<Agent>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let key = ObjectKey::new(namespace, name);
    let Some(handle) = agent.by_name(&key) else {
        return refuse(StatusCode::NOT_FOUND, format!("pod \"{key}\" not found"));
    };
    let options = match options(&parameters, agent.now()) {
        Ok(options) => options,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let previous = parameters.get("previous").is_some_and(|v| v == "true");
    let status = handle.snapshot.borrow().status.clone();
    let attempt = match attempt(&status, &key.name, &container, previous) {
        Ok(attempt) => attempt,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    match open(&agent, &handle, container, attempt, options) {
        Ok(stream) => (([(header::CONTENT_TYPE, "text/plain")]), body(stream)).into_response(),
        Err((path, error)) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to open log {}: {error}", path.display()))
        }
    }
}

fn open(
    agent: &Agent,
    handle: &Arc<PodHandle>,
    container: String,
    attempt: u32,
    options: LogOptions,
) -> Result<LogStream, (PathBuf, std::io::Error)> {
    let path = agent.dirs.container_log(&handle.key, &handle.uid, &container, attempt);
    let running = move |s: &Snapshot| {
        find(&s.status, &container).is_some_and(|c| {
            let runs = c.state.as_ref().is_some_and(|s| s.running.is_some());
            runs && u32::try_from(c.restart_count) == Ok(attempt)
        })
    };
    let follow = (handle.snapshot.subscribe(), Arc::new(running) as _);
    LogStream::open(path.clone(), options, Some(follow)).map_err(|e| (path, e))
}

fn body(stream: LogStream) -> Body {
    Body::from_stream(stream::try_unfold(stream, |mut stream| async move {
        Ok::<_, std::io::Error>(stream.next().await?.map(|bytes| (bytes, stream)))
    }))
}

fn options(parameters: &Parameters, now: Timestamp) -> Result<LogOptions, String> {
    fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = parameters.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}: {text:?} is not a number of 0 or more"))
    }
    let flag = |name: &str| parameters.get(name).is_some_and(|v| v == "true");
    let since_seconds = number(parameters, "sinceSeconds")?;
    let ago = |s: u64| now.checked_sub(SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX)));
    let since = match (since_seconds, parameters.get("sinceTime").filter(|t| !t.is_empty())) {
        (Some(seconds), _) => Some(ago(seconds).unwrap_or(Timestamp::MIN)),
        (None, Some(text)) => Some(text.parse().map_err(|_| format!("sinceTime: {text:?} is not a time"))?),
        (None, None) => None,
    };
    let stream = match parameters.get("stream").map(String::as_str) {
        None | Some("" | "All") => None,
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        Some(other) => return Err(format!("stream: {other:?} is neither All, Stdout nor Stderr")),
    };
    let tail = number(parameters, "tailLines")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    Ok(LogOptions {
        follow: flag("follow"),
        tail_lines: tail,
        since,
        timestamps: flag("timestamps"),
        limit_bytes: number(parameters, "limitBytes")?,
        stream,
    })
}

fn find<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(status.init_container_statuses.iter()).flatten();
    all.into_iter().find(|c| c.name == container)
}

/// Whose log is meant: the newest attempt that ran, or the one before it.
fn attempt(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<u32, String> {
    let Some(of) = find(status, container) else {
        return Err(format!("container \"{container}\" in pod \"{pod}\" is not available"));
    };
    let count = u32::try_from(of.restart_count).unwrap_or(0);
    let state = of.state.clone().unwrap_or_default();
    let ran_before = of.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    let waits = state.running.is_none() && state.terminated.is_none();
    match (previous, waits) {
        (true, _) if !ran_before => {
            Err(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))
        }
        // What waits to run again is the previous one itself.
        (true, true) => Ok(count),
        (true, false) => Ok(count.saturating_sub(1)),
        (false, false) => Ok(count),
        (false, true) if ran_before => Ok(count),
        (false, true) => {
            let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
            let why = match reason.as_str() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            Err(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_log_of_the_attempt_that_is_meant_is_found() {
        let terminated = json!({ "terminated": { "exitCode": 1 } });
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
        let text = |t: &str| Err(format!("container \"a\" in pod \"p\" is waiting to start: {t}"));
        for (sentence, state, last, count, previous, expected) in [
            ("it runs", json!({ "running": {} }), json!({}), 2, false, Ok(2)),
            ("it ran before", json!({ "running": {} }), terminated.clone(), 2, true, Ok(1)),
            ("it waits to run again", waiting("CrashLoopBackOff"), terminated.clone(), 2, false, Ok(2)),
            ("the previous one is the one that waits", waiting("CrashLoopBackOff"), terminated, 2, true, Ok(2)),
            ("it has not run", waiting("ContainerCreating"), json!({}), 0, false, text("ContainerCreating")),
            ("no image", waiting("ImagePullBackOff"), json!({}), 0, false, text("trying and failing to pull image")),
            (
                "there was none before",
                json!({ "running": {} }),
                json!({}),
                0,
                true,
                Err("previous terminated container \"a\" in pod \"p\" not found".to_owned()),
            ),
        ] {
            let container = json!({ "name": "a", "image": "", "imageID": "", "ready": false,
                "restartCount": count, "state": state, "lastState": last });
            let status: PodStatus =
                serde_json::from_value(json!({ "containerStatuses": [container] })).expect("status");
            assert_eq!(attempt(&status, "p", "a", previous), expected, "{sentence}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let parse = |name: &str, value: &str| {
            options(&HashMap::from([(name.to_owned(), value.to_owned())]), Timestamp::UNIX_EPOCH).map(|_| ())
        };
        assert_eq!(parse("tailLines", "-1"), Err("tailLines: \"-1\" is not a number of 0 or more".to_owned()));
        assert!(parse("sinceTime", "yesterday").is_err());
        assert!(parse("stream", "both").is_err());
        assert!(parse("sinceTime", "2026-01-01T00:00:00Z").is_ok());
    }
}
