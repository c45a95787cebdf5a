//! ConfigMaps and Secrets that the containers of a pod read by key (`skiff.dev/config`, `skiff.dev/keyvalue`). They follow the
//! API as mounted ones do: the runtime has a place to read from, and this puts what is new there.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use skiff_reconcile::ObjectKey;
use skiff_runtime::{LiveSource, Source as Data, annotations};

use super::live::{Source, SourceKind};
use crate::{agent::Agent, mailbox::PodHandle, sources::Sources};

/// What the containers of one pod were given, by `configmap/NAME` and `secret/NAME`.
#[derive(Debug, Default)]
pub struct Keyed(Mutex<BTreeMap<String, Arc<LiveSource>>>);

/// The ConfigMaps, then the Secrets, that the pod's annotations name.
pub fn named(pod: &Pod) -> (Vec<String>, Vec<String>) {
    annotations::sources(pod.metadata.annotations.as_ref())
}

/// The places from which a new container reads what was found. It is followed from now on.
pub fn share(agent: &Agent, handle: &PodHandle, found: BTreeMap<String, Data>) -> BTreeMap<String, Arc<LiveSource>> {
    let mut places = handle.volumes.keyed.0.lock();
    let mut fresh = vec![];
    let mut place = |(name, data): (String, Data)| {
        // One that is there is kept up to date.
        let place = places.entry(name.clone()).or_insert_with(|| {
            fresh.extend(source(handle, &name));
            LiveSource::new(data)
        });
        (name, place.clone())
    };
    let shared = found.into_iter().map(&mut place).collect();
    drop(places);
    if !fresh.is_empty() {
        agent.follow(handle, fresh);
        // It may have changed between when it was read and now.
        handle.mailbox.put(|news| news.volumes_stale = true);
    }
    shared
}

fn source(handle: &PodHandle, name: &str) -> Option<Source> {
    let (kind, name) = split(name)?;
    Some((kind, ObjectKey::new(handle.key.namespace.clone(), name)))
}

fn split(name: &str) -> Option<(SourceKind, &str)> {
    let map = name.strip_prefix("configmap/").map(|name| (SourceKind::ConfigMap, name));
    map.or_else(|| name.strip_prefix("secret/").map(|name| (SourceKind::Secret, name)))
}

impl Keyed {
    /// Puts what was read where containers read it. What is gone stays there as it was.
    ///
    /// # Errors
    /// A message that names what is gone or could not be read.
    pub fn refresh(&self, sources: &Sources) -> Result<(), String> {
        let mut failed = Ok(());
        for (key, place) in &*self.0.lock() {
            let Some((kind, name)) = split(key) else { continue };
            let found = match kind {
                SourceKind::ConfigMap if sources.config_maps.contains_key(name) => {
                    sources.by_name(&[name.to_owned()], &[])
                }
                SourceKind::Secret if sources.secrets.contains_key(name) => sources.by_name(&[], &[name.to_owned()]),
                // No annotation names it any more.
                _ => continue,
            };
            match found {
                Ok(found) => found.into_values().filter(|data| *data != *place.get()).for_each(|data| place.set(data)),
                Err(message) => failed = Err(format!("what the pod's annotations name is not read again: {message}")),
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn sources(value: Option<&str>) -> Sources {
        let map = value
            .map(|value| ConfigMap { data: Some([("a".to_owned(), value.to_owned())].into()), ..ConfigMap::default() });
        Sources { config_maps: [("m".to_owned(), Ok(map))].into(), ..Sources::default() }
    }

    #[test]
    fn a_place_has_what_was_read_last_and_keeps_what_is_gone() {
        let place = LiveSource::new(Data::new());
        let keyed = Keyed(Mutex::new([("configmap/m".to_owned(), place.clone())].into()));
        let a = || place.get().get("a").cloned();
        assert_eq!(keyed.refresh(&sources(Some("1"))), Ok(()));
        assert_eq!(a(), Some(b"1".to_vec()));
        let message = keyed.refresh(&sources(None)).expect_err("it is gone");
        assert!(message.contains("configmap \"m\" not found"), "{message}");
        assert_eq!((keyed.refresh(&Sources::default()), a()), (Ok(()), Some(b"1".to_vec())));
    }
}
