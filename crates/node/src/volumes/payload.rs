//! What files a volume holds that the API keeps: configMap, secret, downwardAPI, projected.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{
        ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount,
        ServiceAccountTokenProjection, Volume, VolumeProjection,
    },
};
use serde_json::json;
use skiff_reconcile::{EventType::Warning, KindRef, ObjectKey};

use super::{atomic::Payload, keyed};
use crate::{
    agent::Agent,
    fields::{self, NodeFacts},
    mailbox::PodHandle,
    sources::Sources,
};

const MODE: i32 = 0o644;
const TOKEN_FAILED: &str = "failed to fetch token";

/// What the volumes of a pod hold.
pub struct Payloads {
    /// One for each volume, in order; `None` for volumes that are not made of the API's data.
    pub files: Vec<Option<Payload>>,
    /// What they were made of.
    pub sources: Sources,
}

pub struct Failure {
    /// Names the first volume that cannot be made.
    pub message: String,
    /// The API did not answer: it may when it is asked again. Otherwise nothing changes before something is changed.
    pub again: bool,
}

pub async fn all(agent: &Arc<Agent>, pod: &Pod, handle: &PodHandle, volumes: &[Volume]) -> Result<Payloads, Failure> {
    let (maps, secrets) = references(pod, volumes);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let sources = Sources::fetch(&agent.rest, namespace, maps, secrets).await;
    let mut files = vec![];
    for volume in volumes {
        let of = Of { agent, pod, handle, sources: &sources };
        let payload = of.volume(volume).await;
        files.push(payload.map_err(|e| {
            let message = format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name);
            Failure { message, again: sources.unreadable() || e.starts_with(TOKEN_FAILED) }
        })?);
    }
    Ok(Payloads { files, sources })
}

/// The ConfigMaps and Secrets that volumes are made of, and those that containers read by key.
pub fn references(pod: &Pod, volumes: &[Volume]) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = keyed::named(pod);
    for volume in volumes {
        maps.extend(volume.config_map.iter().map(|c| c.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            maps.extend(source.config_map.iter().map(|c| c.name.clone()));
            secrets.extend(source.secret.iter().map(|s| s.name.clone()));
        }
    }
    (maps, secrets)
}

struct Of<'a> {
    agent: &'a Arc<Agent>,
    pod: &'a Pod,
    handle: &'a PodHandle,
    sources: &'a Sources,
}

impl Of<'_> {
    async fn volume(&self, volume: &Volume) -> Result<Option<Payload>, String> {
        let mut files = Payload::new();
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(MODE);
            let optional = source.optional == Some(true);
            self.config_map(&source.name, optional, source.items.as_deref(), mode, &mut files)?;
        } else if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(MODE);
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.secret(name, source.optional == Some(true), source.items.as_deref(), mode, &mut files)?;
        } else if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            self.downward(items, source.default_mode.unwrap_or(MODE), &mut files)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(MODE);
            for part in source.sources.iter().flatten() {
                self.part(&volume.name, part, mode, &mut files).await?;
            }
        } else {
            return Ok(None);
        }
        Ok(Some(files))
    }

    async fn part(&self, volume: &str, part: &VolumeProjection, mode: i32, files: &mut Payload) -> Result<(), String> {
        if let Some(p) = &part.config_map {
            self.config_map(&p.name, p.optional == Some(true), p.items.as_deref(), mode, files)
        } else if let Some(p) = &part.secret {
            self.secret(&p.name, p.optional == Some(true), p.items.as_deref(), mode, files)
        } else if let Some(p) = &part.downward_api {
            self.downward(p.items.as_deref().unwrap_or_default(), mode, files)
        } else if let Some(p) = &part.service_account_token {
            self.token(volume, p, mode, files).await
        } else {
            Err("clusterTrustBundle and podCertificate projections are not supported yet".to_owned())
        }
    }

    fn config_map(
        &self,
        name: &str,
        optional: bool,
        items: Option<&[KeyToPath]>,
        mode: i32,
        files: &mut Payload,
    ) -> Result<(), String> {
        let Some(map) = self.sources.config_map(name, optional)? else { return Ok(()) };
        let missing = |key: &str| format!("configmap references non-existent config key: {key}");
        pick(&map_entries(map), items, mode, optional, missing, files)
    }

    fn secret(
        &self,
        name: &str,
        optional: bool,
        items: Option<&[KeyToPath]>,
        mode: i32,
        files: &mut Payload,
    ) -> Result<(), String> {
        let Some(secret) = self.sources.secret(name, optional)? else { return Ok(()) };
        let missing = |key: &str| format!("references non-existent secret key: {key}");
        pick(&secret_entries(secret), items, mode, optional, missing, files)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32, files: &mut Payload) -> Result<(), String> {
        let config = &self.agent.config;
        let facts = NodeFacts {
            host_ips: vec![config.host_ip.clone()],
            pod_ips: vec![],
            allocatable: self.agent.capacity.clone(),
        };
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                fields::field(self.pod, &facts, field)?
            } else if let Some(resource) = &item.resource_field_ref {
                fields::resource(self.pod, &Container::default(), &facts, resource)?
            } else {
                return Err(format!("{}: neither fieldRef nor resourceFieldRef", item.path));
            };
            insert(files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    /// Asks the API for a token bound to this pod. An API server without tokens leaves the file out, with an event.
    async fn token(
        &self,
        volume: &str,
        projection: &ServiceAccountTokenProjection,
        mode: i32,
        files: &mut Payload,
    ) -> Result<(), String> {
        let now = self.agent.now();
        if let Some(token) = self.handle.volumes.token(volume, &projection.path, now) {
            return insert(files, &projection.path, token.into_bytes(), mode);
        }
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), account);
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": projection.audience.iter().collect::<Vec<_>>(),
                "expirationSeconds": projection.expiration_seconds.unwrap_or(3600),
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid },
            },
        });
        let accounts = KindRef::of::<ServiceAccount>();
        match self.agent.rest.create_sub::<TokenRequest>(&accounts, &key, "token", &body).await {
            Ok(answer) => {
                let status = answer.status.unwrap_or_default();
                let token = status.token.unwrap_or_default();
                let expires = status.expiration_timestamp.map_or(now, |time| time.0);
                self.handle.volumes.keep_token(volume, &projection.path, token.clone(), now, expires);
                insert(files, &projection.path, token.into_bytes(), mode)
            }
            Err(e) if matches!(e.code(), Some(404 | 405 | 501)) => {
                let message = format!(
                    "volume \"{volume}\" has no {}: the API server gave no token for service account {key}: {e}",
                    projection.path
                );
                self.agent.event(self.pod, None, Warning, "FailedMount", message);
                Ok(())
            }
            Err(e) => Err(format!("{TOKEN_FAILED}: {e}")),
        }
    }
}

fn map_entries(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    text.chain(binary).collect()
}

fn secret_entries(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect()
}

/// All entries under their own names, or those that are named under the paths that are given.
fn pick(
    entries: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    missing: impl Fn(&str) -> String,
    files: &mut Payload,
) -> Result<(), String> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        for (key, bytes) in entries {
            insert(files, key, bytes.to_vec(), mode)?;
        }
        return Ok(());
    };
    for item in items {
        match entries.get(item.key.as_str()) {
            Some(bytes) => insert(files, &item.path, bytes.to_vec(), item.mode.unwrap_or(mode))?,
            None if optional => {}
            None => return Err(missing(&item.key)),
        }
    }
    Ok(())
}

/// Paths are relative and stay below the volume; the API's validation says so too.
fn insert(files: &mut Payload, path: &str, bytes: Vec<u8>, mode: i32) -> Result<(), String> {
    let bad = path.is_empty() || path.starts_with('/') || path.split('/').any(|c| c == ".." || c.is_empty());
    if bad || path.starts_with("..") {
        return Err(format!("path {path:?} must be relative, and must not contain or begin with \"..\""));
    }
    files.insert(path.to_owned(), (bytes, u32::try_from(mode).unwrap_or(0o644)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let entries = BTreeMap::from([("a", b"1".as_slice()), ("b", b"2")]);
        let missing = |key: &str| format!("no {key}");
        let mut files = Payload::new();
        pick(&entries, None, 0o600, false, missing, &mut files).expect("picked");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b"]);
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None, user: None };
        let mut files = Payload::new();
        pick(&entries, Some(&[item("b", "x/y")]), 0o400, false, missing, &mut files).expect("picked");
        assert_eq!(files, Payload::from([("x/y".to_owned(), (b"2".to_vec(), 0o400))]));
        assert_eq!(pick(&entries, Some(&[item("c", "c")]), 0, false, missing, &mut files), Err("no c".to_owned()));
        assert_eq!(pick(&entries, Some(&[item("c", "c")]), 0, true, missing, &mut files), Ok(()));
        for bad in ["/a", "../a", "a/../b", "..data", ""] {
            assert!(insert(&mut files, bad, vec![], 0).is_err(), "{bad}");
        }
    }
}
