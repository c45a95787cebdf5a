//! What selectors look at, read from a stored entry once and kept with it: every watcher and every later list shares
//! it.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;
use skiff_store::Entry;

use super::Resource;

#[derive(Debug, Default)]
pub(crate) struct Memo {
    pub labels: BTreeMap<String, String>,
    /// The fields of the kind in its storage version; read only when a field selector asks.
    fields: OnceLock<Vec<(&'static str, String)>>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Deserialize, Default)]
struct HeadMetadata {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

pub(crate) fn memo(entry: &Entry) -> &Memo {
    entry.memo(|bytes| {
        let head = serde_json::from_slice::<Head>(bytes);
        Memo { labels: head.ok().and_then(|h| h.metadata.labels).unwrap_or_default(), fields: OnceLock::new() }
    })
}

impl Memo {
    /// The value of a field beyond name and namespace, as the storage version of the kind has it.
    pub(crate) fn fields<'m>(&'m self, resource: &Resource, entry: &Entry) -> &'m [(&'static str, String)] {
        self.fields.get_or_init(|| {
            let value = serde_json::from_slice(&entry.value).unwrap_or_default();
            (resource.stored.hooks.fields)(&value)
        })
    }
}

impl Resource {
    /// Hands the selectable fields of an entry to `then`: kept with the entry for the storage version, worked out for
    /// another version that names its fields differently.
    pub(crate) fn with_fields<T>(
        &self,
        memo: &Memo,
        entry: &Entry,
        then: impl FnOnce(&[(&'static str, String)]) -> T,
    ) -> T {
        if self.same || self.kind.hooks.convert.is_none() {
            return then(memo.fields(self, entry));
        }
        let served = self.serve(&entry.value).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        then(&(self.kind.hooks.fields)(&served))
    }
}
