//! Volumes that follow the API while their pod runs, and what containers read by key (see [`super::keyed`]).
//!
//! What must stay true: nothing polls. The process's one watch of ConfigMaps and its one of Secrets (metadata only) say
//! that an object changed; this table says which pods of this node mount it; their workers make the files again, at
//! most [`REFRESHES_MAX`] at once. A payload that is the same writes nothing. Objects that are `immutable` are
//! followed no further. A `subPath` mount stays as it was when its container started, as everywhere.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;
use skiff_client::Change;
use skiff_reconcile::{EventType::Warning, ObjectKey};

use super::{keyed::Keyed, payload, write_payloads};
use crate::{agent::Agent, mailbox::PodHandle, sources::Sources};

/// Pods whose files are made again at once; others wait in line, and their news coalesce.
pub const REFRESHES_MAX: usize = 16;
/// A service account token is asked for again when this part of its life is over, in percent.
const TOKEN_RENEW_PERCENT: i64 = 80;
/// Between tries when the API could not be read, doubled each time.
const RETRY_S: u64 = 1;
const RETRY_S_MAX: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    ConfigMap,
    Secret,
}

pub(super) type Source = (SourceKind, ObjectKey);

/// Which pods mount which objects. Bounded by what the node's pods name.
#[derive(Debug, Default)]
pub struct Live {
    /// Pods by what they mount.
    mounted: Mutex<HashMap<Source, BTreeSet<Arc<str>>>>,
}

impl Live {
    fn follow(&self, uid: &Arc<str>, sources: impl Iterator<Item = Source>) {
        let mut mounted = self.mounted.lock();
        for source in sources {
            mounted.entry(source).or_default().insert(uid.clone());
        }
    }

    fn forget(&self, uid: &str, sources: impl Iterator<Item = Source>) {
        let mut mounted = self.mounted.lock();
        for source in sources {
            if let Some(pods) = mounted.get_mut(&source) {
                pods.remove(uid);
                if pods.is_empty() {
                    mounted.remove(&source);
                }
            }
        }
    }

    /// Wakes the pods that mount what changed.
    pub fn changed(&self, agent: &Agent, kind: SourceKind, changes: &[Change]) {
        let mut wanted = BTreeSet::new();
        {
            let mounted = self.mounted.lock();
            if mounted.is_empty() {
                return;
            }
            for change in changes {
                wanted.extend(mounted.get(&(kind, change.key.clone())).into_iter().flatten().cloned());
            }
        }
        let pods = agent.pods.read();
        for handle in wanted.iter().filter_map(|uid| pods.get(uid)) {
            handle.mailbox.put(|news| news.volumes_stale = true);
        }
    }
}

/// One pod's mounted volumes: what is kept between two makings of their files.
#[derive(Debug, Default)]
pub struct Mounted {
    /// Held while files are made or removed; true while they are there.
    there: tokio::sync::Mutex<bool>,
    /// What the pod is woken for.
    followed: Mutex<Vec<Source>>,
    pub(super) keyed: Keyed,
    /// By volume and path: a token lives for an hour, and is not asked for at every change of another file.
    tokens: Mutex<HashMap<(String, String), Token>>,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    renew: Timestamp,
}

impl Mounted {
    /// A token that is young enough.
    pub fn token(&self, volume: &str, path: &str, now: Timestamp) -> Option<String> {
        let tokens = self.tokens.lock();
        let token = tokens.get(&(volume.to_owned(), path.to_owned()))?;
        (now < token.renew).then(|| token.text.clone())
    }

    pub fn keep_token(&self, volume: &str, path: &str, text: String, now: Timestamp, expires: Timestamp) {
        let life = expires.as_second().saturating_sub(now.as_second()).max(1);
        let renew = now.saturating_add((life * TOKEN_RENEW_PERCENT / 100).max(1).seconds()).unwrap_or(expires);
        self.tokens.lock().insert((volume.to_owned(), path.to_owned()), Token { text, renew });
    }

    /// When the first token must be asked for again.
    pub fn renew(&self) -> Option<Timestamp> {
        self.tokens.lock().values().map(|token| token.renew).min()
    }
}

impl Agent {
    /// Wakes the pod from now on when one of these changes.
    pub(super) fn follow(&self, handle: &PodHandle, sources: Vec<Source>) {
        self.live.follow(&handle.uid, sources.iter().cloned());
        handle.volumes.followed.lock().extend(sources);
    }
}

fn sources(namespace: &str, pod: &Pod, volumes: &[Volume]) -> Vec<Source> {
    let (maps, secrets) = payload::references(pod, volumes);
    let key = |name: String| ObjectKey::new(namespace, name);
    let maps = maps.into_iter().map(|name| (SourceKind::ConfigMap, key(name)));
    maps.chain(secrets.into_iter().map(|name| (SourceKind::Secret, key(name)))).collect()
}

/// Whether its volumes show its own labels or annotations.
pub fn shows_itself(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let parts = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        volume.downward_api.is_some() || parts.into_iter().any(|part| part.downward_api.is_some())
    })
}

fn volumes_of(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default()
}

/// Makes all volumes of a pod, and follows what they are made of. Idempotent.
///
/// # Errors
/// A message for an event that names the volume.
pub async fn mount(agent: &Arc<Agent>, pod: &Arc<Pod>, handle: &PodHandle) -> Result<(), String> {
    let volumes = volumes_of(pod);
    let sources = sources(&handle.key.namespace, pod, volumes);
    if volumes.is_empty() && sources.is_empty() {
        return Ok(());
    }
    let mut there = handle.volumes.there.lock().await;
    *there = true;
    // Before they are read, so that no change falls in between.
    agent.follow(handle, sources);
    let payloads = payload::all(agent, pod, handle, volumes).await.map_err(|failure| failure.message)?;
    follow_less(agent, handle, &payloads.sources);
    write_payloads(agent, handle, volumes, payloads.files).await
}

/// What cannot change need not be followed.
fn follow_less(agent: &Agent, handle: &PodHandle, sources: &Sources) {
    let key = |name: &str| ObjectKey::new(handle.key.namespace.clone(), name);
    let maps =
        sources.config_maps.iter().filter(|(_, map)| matches!(map, Ok(Some(map)) if map.immutable == Some(true)));
    let maps: Vec<Source> = maps.map(|(name, _)| (SourceKind::ConfigMap, key(name))).collect();
    let secrets = sources
        .secrets
        .iter()
        .filter(|(_, secret)| matches!(secret, Ok(Some(secret)) if secret.immutable == Some(true)));
    let secrets = secrets.map(|(name, _)| (SourceKind::Secret, key(name)));
    agent.live.forget(&handle.uid, maps.into_iter().chain(secrets));
}

/// Makes the files again. What cannot be made (a ConfigMap was deleted) stays as it is, with an event; an API that
/// does not answer is asked again.
pub async fn refresh(agent: &Arc<Agent>, pod: &Arc<Pod>, handle: &PodHandle) {
    let volumes = volumes_of(pod);
    let mut wait_s = RETRY_S;
    loop {
        let result = {
            // Never closed; if it were, refreshes would merely not be bounded.
            let _permit = agent.refreshes.acquire().await;
            let there = handle.volumes.there.lock().await;
            if !*there {
                return;
            }
            match payload::all(agent, pod, handle, volumes).await {
                Ok(payloads) => {
                    follow_less(agent, handle, &payloads.sources);
                    let keyed = handle.volumes.keyed.refresh(&payloads.sources);
                    let again = payloads.sources.unreadable();
                    let written = write_payloads(agent, handle, volumes, payloads.files).await;
                    let written = written.map_err(|message| payload::Failure { message, again: true });
                    written.and(keyed.map_err(|message| payload::Failure { message, again }))
                }
                Err(failure) => Err(failure),
            }
        };
        let Err(failure) = result else { return };
        agent.event(pod, None, Warning, "FailedMount", failure.message);
        if !failure.again {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(wait_s)).await;
        wait_s = (wait_s * 2).min(RETRY_S_MAX);
    }
}

/// Removes what [`mount`] made. What cannot be removed is left to the clean-up at the node's next start.
pub async fn unmount(agent: &Agent, handle: &PodHandle) {
    let mut there = handle.volumes.there.lock().await;
    *there = false;
    let followed = std::mem::take(&mut *handle.volumes.followed.lock());
    agent.live.forget(&handle.uid, followed.into_iter());
    match tokio::fs::remove_dir_all(agent.dirs.volumes(&handle.uid)).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, uid = &*handle.uid, "volumes not removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_followed_for_as_long_as_a_pod_mounts_it() {
        let live = Live::default();
        let source = || (SourceKind::Secret, ObjectKey::new("ns", "s"));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        live.follow(&a, [source(), source()].into_iter());
        live.follow(&b, [source()].into_iter());
        live.forget("a", [source()].into_iter());
        assert_eq!(live.mounted.lock().get(&source()).map(BTreeSet::len), Some(1));
        live.forget("b", [source()].into_iter());
        assert!(live.mounted.lock().is_empty());
    }

    #[test]
    fn a_token_is_kept_for_most_of_its_life() {
        let at = |second: i64| Timestamp::from_second(second).expect("in range");
        let mounted = Mounted::default();
        mounted.keep_token("v", "token", "t".to_owned(), at(1000), at(4600));
        assert_eq!(mounted.renew(), Some(at(3880)));
        assert_eq!(mounted.token("v", "token", at(3879)).as_deref(), Some("t"));
        assert_eq!(mounted.token("v", "token", at(3880)), None);
        assert_eq!(mounted.token("v", "other", at(1000)), None);
    }
}
