//! The ConfigMaps and Secrets that a pod refers to, fetched when they are needed: never older than the pod.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;
use skiff_client::Rest;
use skiff_reconcile::{KindRef, Object, ObjectKey};
use skiff_runtime::Source;

/// By name, in one namespace. `Ok(None)`: it is not there; `Err`: it could not be read.
#[derive(Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Result<Option<ConfigMap>, String>>,
    pub secrets: BTreeMap<String, Result<Option<Secret>, String>>,
}

impl Sources {
    pub async fn fetch(rest: &Rest, namespace: &str, maps: Vec<String>, secrets: Vec<String>) -> Self {
        if maps.is_empty() && secrets.is_empty() {
            return Self::default();
        }
        let (config_maps, secrets) = tokio::join!(all(rest, namespace, maps), all(rest, namespace, secrets));
        Self { config_maps, secrets }
    }

    /// Some of them could not be read: asking again may help.
    pub fn unreadable(&self) -> bool {
        self.config_maps.values().any(Result::is_err) || self.secrets.values().any(Result::is_err)
    }

    /// The data of these, by `configmap/NAME` and `secret/NAME`.
    ///
    /// # Errors
    /// A message that names what is not there.
    pub fn by_name(&self, maps: &[String], secrets: &[String]) -> Result<BTreeMap<String, Source>, String> {
        let mut found = BTreeMap::new();
        for name in maps {
            let Some(map) = self.config_map(name, false)? else { continue };
            let texts = map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
            let bytes = map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
            found.insert(format!("configmap/{name}"), texts.chain(bytes).collect());
        }
        for name in secrets {
            let Some(secret) = self.secret(name, false)? else { continue };
            let data = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
            found.insert(format!("secret/{name}"), data.collect());
        }
        Ok(found)
    }

    /// # Errors
    /// A message that names it, unless it may be missing.
    pub fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, String> {
        found(self.config_maps.get(name), "configmap", name, optional)
    }

    /// # Errors
    /// As [`Self::config_map`].
    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, String> {
        found(self.secrets.get(name), "secret", name, optional)
    }

    /// The entries that are text.
    ///
    /// # Errors
    /// As [`Self::config_map`].
    pub fn config_map_text(&self, name: &str, optional: bool) -> Result<Option<BTreeMap<String, String>>, String> {
        Ok(self.config_map(name, optional)?.map(|m| m.data.clone().unwrap_or_default()))
    }

    /// # Errors
    /// As [`Self::config_map`].
    pub fn secret_text(&self, name: &str, optional: bool) -> Result<Option<BTreeMap<String, String>>, String> {
        let text = |s: &Secret| {
            let entries = s.data.iter().flatten();
            entries.map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned())).collect()
        };
        Ok(self.secret(name, optional)?.map(text))
    }
}

fn found<'a, K>(
    entry: Option<&'a Result<Option<K>, String>>,
    kind: &str,
    name: &str,
    optional: bool,
) -> Result<Option<&'a K>, String> {
    match entry {
        Some(Ok(Some(object))) => Ok(Some(object)),
        Some(Err(message)) => Err(message.clone()),
        _ if optional => Ok(None),
        _ => Err(format!("{kind} {name:?} not found")),
    }
}

async fn all<K: Object + DeserializeOwned>(
    rest: &Rest,
    namespace: &str,
    names: Vec<String>,
) -> BTreeMap<String, Result<Option<K>, String>> {
    let names: BTreeSet<String> = names.into_iter().collect();
    let kind = KindRef::of::<K>();
    let gets = names.into_iter().map(|name| async move {
        let got = match rest.get::<K>(&kind, &ObjectKey::new(namespace, name.as_str())).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(format!("failed to read {} {namespace}/{name}: {e}", kind.kind.to_lowercase())),
        };
        (name, got)
    });
    join_all(gets).await.into_iter().collect()
}
