//! Seeing to it that a container's image is here, as its pull policy says, and telling of it in events.

use std::sync::Arc;

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde_json::Value;
use skiff_reconcile::EventType::{Normal, Warning};
use skiff_runtime::{Credentials, Error, Image, Runtime, reference::Reference};
use tokio::time::Instant;

use crate::{agent::Agent, dispatch, sources::Sources};

/// An image that a runtime can run.
#[derive(Clone, Debug)]
pub struct Found {
    pub runtime: usize,
    pub image: Image,
}

/// Why there is none: the reason of the waiting state and its message.
#[derive(Clone, Debug)]
pub struct Failed {
    pub reason: &'static str,
    pub message: String,
}

/// Looks in the runtimes in this order, and pulls where the policy asks for it.
///
/// # Errors
/// See [`Failed`]; the events are recorded.
pub async fn ensure(agent: &Agent, pod: &Pod, container: &Container, order: &[usize]) -> Result<Found, Failed> {
    let name = container.image.as_deref().unwrap_or_default();
    let done = try_ensure(agent, pod, container, name, order).await;
    if let Err(failed) = &done {
        let say = |reason, message| agent.event(pod, Some(&container.name), Warning, reason, message);
        match failed.reason {
            "ErrImageNeverPull" => say("ErrImageNeverPull", failed.message.clone()),
            "InvalidImageName" => say("InspectFailed", failed.message.clone()),
            _ => say("Failed", format!("Failed to pull image \"{name}\": {}", failed.message)),
        }
        say("Failed", format!("Error: {}", failed.reason));
    }
    done
}

async fn try_ensure(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    name: &str,
    order: &[usize],
) -> Result<Found, Failed> {
    let invalid = |e: Error| {
        let message = format!("Failed to apply default image tag \"{name}\": {e}");
        Failed { reason: "InvalidImageName", message }
    };
    let reference = Reference::parse(name).map_err(invalid)?;
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    // There is no registry on `localhost` without a port: what is loaded under that name is all there will be.
    let present_counts = policy != "Always" || reference.host == "localhost";
    if present_counts && let Some(found) = present(agent, name, order).await? {
        let message = format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
        agent.event(pod, Some(&container.name), Normal, "Pulled", message);
        return Ok(found);
    }
    if policy == "Never" {
        let message = format!("Container image \"{name}\" is not present with pull policy of Never");
        return Err(Failed { reason: "ErrImageNeverPull", message });
    }
    pull(agent, pod, container, name, &reference, order).await
}

async fn present(agent: &Agent, name: &str, order: &[usize]) -> Result<Option<Found>, Failed> {
    for &runtime in order {
        match agent.runtime(runtime).image_status(name).await {
            Ok(Some(image)) if dispatch::runs(agent.runtime(runtime).capabilities(), image.kind) => {
                return Ok(Some(Found { runtime, image }));
            }
            Ok(_) => {}
            Err(e) => {
                let message = format!("Failed to inspect image \"{name}\": {e}");
                return Err(Failed { reason: "ImageInspectError", message });
            }
        }
    }
    Ok(None)
}

async fn pull(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    name: &str,
    reference: &Reference,
    order: &[usize],
) -> Result<Found, Failed> {
    let asked = Instant::now();
    // The semaphore is never closed; if it were, pulls would merely not be bounded.
    let _permit = agent.pulls.acquire().await;
    agent.event(pod, Some(&container.name), Normal, "Pulling", format!("Pulling image \"{name}\""));
    let credentials = credentials(agent, pod, reference).await;
    let began = Instant::now();
    let mut last = None;
    for &runtime in order {
        let pulled = pull_from(agent.runtime(runtime), name, &credentials).await;
        match pulled {
            Ok(image) if dispatch::runs(agent.runtime(runtime).capabilities(), image.kind) => {
                let (took, waited) = (go_duration(began.elapsed()), go_duration(asked.elapsed()));
                let message = format!(
                    "Successfully pulled image \"{name}\" in {took} ({waited} including waiting). Image size: {} bytes.",
                    image.size_bytes
                );
                agent.event(pod, Some(&container.name), Normal, "Pulled", message);
                agent.status_changed.notify_one();
                return Ok(Found { runtime, image });
            }
            Ok(image) => {
                let reason = format!("no runtime of this node runs {:?} images", image.kind);
                last = Some(Error::ImageUnusable { image: name.to_owned(), reason });
            }
            // Perhaps the next runtime can.
            Err(e @ Error::ImageUnusable { .. }) => last = Some(e),
            Err(e) => {
                last = Some(e);
                break;
            }
        }
    }
    let message = last.map_or_else(|| "this node has no container runtime".to_owned(), |e| e.to_string());
    Err(Failed { reason: "ErrImagePull", message })
}

/// With each of the credentials, and without if there are none, until one is accepted.
async fn pull_from(runtime: &Arc<dyn Runtime>, name: &str, credentials: &[Credentials]) -> Result<Image, Error> {
    let mut tries: Vec<Option<Credentials>> = credentials.iter().cloned().map(Some).collect();
    if tries.is_empty() {
        tries.push(None);
    }
    let mut last = Error::Internal("no credentials".to_owned());
    for credentials in tries {
        match runtime.pull_image(name, credentials).await {
            Err(e @ Error::ImagePull { .. }) => last = e,
            other => return other,
        }
    }
    Err(last)
}

/// What the pod's imagePullSecrets hold for the registry of an image. A secret that is missing is skipped.
async fn credentials(agent: &Agent, pod: &Pod, reference: &Reference) -> Vec<Credentials> {
    let named = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_ref()).into_iter().flatten();
    let names: Vec<String> = named.map(|r| r.name.clone()).filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        return vec![];
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let sources = Sources::fetch(&agent.rest, namespace, vec![], names.clone()).await;
    let secrets = names.iter().filter_map(|n| sources.secret(n, true).ok().flatten());
    secrets.flat_map(|s| of_secret(s, reference)).collect()
}

fn of_secret(secret: &Secret, reference: &Reference) -> Vec<Credentials> {
    let data = secret.data.as_ref();
    let key = |name: &str| data.and_then(|d| d.get(name)).and_then(|v| serde_json::from_slice::<Value>(&v.0).ok());
    let auths = key(".dockerconfigjson").and_then(|v| v.get("auths").cloned()).or_else(|| key(".dockercfg"));
    let auths = auths.and_then(|v| v.as_object().cloned()).unwrap_or_default();
    let here = auths.iter().filter(|(registry, _)| covers(registry, reference));
    here.filter_map(|(_, auth)| of_auth(auth)).collect()
}

/// `https://index.docker.io/v1/`, `ghcr.io`, `*.example.com`, `registry:5000/team` against an image's repository.
fn covers(registry: &str, reference: &Reference) -> bool {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.trim_end_matches("/v1").trim_end_matches("/v2");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let host_matches = match host.strip_prefix("*.") {
        Some(domain) => reference.host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => host == reference.host,
    };
    let below = |path: &str| reference.path == path || reference.path.starts_with(&format!("{path}/"));
    host_matches && (path.is_empty() || below(path))
}

fn of_auth(auth: &Value) -> Option<Credentials> {
    let text = |key: &str| auth.get(key).and_then(Value::as_str).map(str::to_owned);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials { username, password });
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text("auth")?).ok()?;
    let decoded = String::from_utf8(bytes).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credentials { username: username.to_owned(), password: password.to_owned() })
}

/// As Go prints a duration, to milliseconds.
fn go_duration(took: std::time::Duration) -> String {
    match took.as_millis() {
        ms @ 0..1000 => format!("{ms}ms"),
        ms => format!("{}s", (ms as f64) / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_those_for_the_registry_of_the_image() {
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": "dTpw" },
            "ghcr.io/team": { "username": "g", "password": "t" },
            "*.example.com": { "auth": "eDp5Onо=" },
            "reg:5000": { "username": "r", "password": "5" },
        } });
        let config = k8s_openapi::ByteString(config.to_string().into_bytes());
        let secret = Secret { data: Some([(".dockerconfigjson".to_owned(), config)].into()), ..Secret::default() };
        for (image, expected) in [
            ("nginx", "u:p"),
            ("ghcr.io/team/app:1", "g:t"),
            ("ghcr.io/teams/app:1", ""),
            ("reg:5000/x", "r:5"),
            ("quay.io/x/y", ""),
            ("a.example.com/x", ""),
        ] {
            let reference = Reference::parse(image).expect("a reference");
            let got = of_secret(&secret, &reference);
            let got: Vec<String> = got.iter().map(|c| format!("{}:{}", c.username, c.password)).collect();
            assert_eq!(got.join(" "), expected, "{image}");
        }
    }
}
