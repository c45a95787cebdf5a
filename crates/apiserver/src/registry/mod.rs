//! The resources that are served: the table of kinds with what serving them needs, worked out once.
//!
//! Generic over kinds: built-in kinds and, later, custom resources are entries of the same form.

pub(crate) mod filter;
pub(crate) mod list;
pub(crate) mod memo;
pub(crate) mod paging;
pub(crate) mod watch;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;
use skiff_api::{Kind, Status, kinds};
use skiff_store::Key;

use crate::encode;

/// One kind in one served version.
#[derive(Debug)]
pub(crate) struct Resource {
    pub kind: Kind,
    /// The kind in its storage version: its hooks prepare and validate what is stored.
    pub stored: Kind,
    /// `core/pods/`.
    prefix: String,
    served_envelope: String,
    pub stored_envelope: String,
    pub api_version: String,
    pub stored_api_version: String,
    /// Served bytes are the stored bytes.
    pub same: bool,
}

impl Resource {
    fn new(kind: &Kind, stored: &Kind) -> Self {
        let group = if kind.storage.0.is_empty() { "core" } else { &kind.storage.0 };
        let same = kind.group == stored.group && kind.version == stored.version;
        Self {
            prefix: format!("{group}/{}/", kind.storage.1),
            served_envelope: encode::envelope(kind),
            stored_envelope: encode::envelope(stored),
            api_version: kind.api_version(),
            stored_api_version: stored.api_version(),
            same,
            kind: kind.clone(),
            stored: stored.clone(),
        }
    }

    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> Key {
        match namespace {
            Some(ns) if self.kind.namespaced => Key::new(format!("{}{ns}/{name}", self.prefix)),
            _ => Key::new(format!("{}{name}", self.prefix)),
        }
    }

    /// Every object, or those of one namespace.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> Key {
        match namespace {
            Some(ns) if self.kind.namespaced => Key::new(format!("{}{ns}/", self.prefix)),
            _ => Key::new(self.prefix.as_str()),
        }
    }

    /// Namespace and name, as the key has them.
    pub(crate) fn split_key<'k>(&self, key: &'k Key) -> (Option<&'k str>, &'k str) {
        let path = key.as_str().strip_prefix(self.prefix.as_str()).unwrap_or(key.as_str());
        match path.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, path),
        }
    }

    /// Stored bytes as the client of this version wants them: the same bytes wherever possible.
    pub(crate) fn serve(&self, bytes: &Bytes) -> Result<Bytes, Status> {
        if self.same {
            return Ok(bytes.clone());
        }
        let Some(convert) = self.kind.hooks.convert else {
            return Ok(encode::swap_envelope(bytes, &self.stored_envelope, &self.served_envelope));
        };
        let mut value = parse(bytes)?;
        convert(&mut value, &self.kind.api_version())?;
        Ok(encode::json(&value))
    }

    /// The same as a list item, which carries neither version nor kind.
    pub(crate) fn serve_item<'b>(&self, bytes: &'b Bytes) -> Result<(&'static [u8], Cow<'b, [u8]>), Status> {
        if let Some(rest) = bytes.strip_prefix(self.stored_envelope.as_bytes())
            && (self.same || self.kind.hooks.convert.is_none())
        {
            return Ok((b"{", Cow::Borrowed(rest)));
        }
        let served = self.serve(bytes)?;
        Ok((b"", Cow::Owned(served.to_vec())))
    }

    /// An object of this version becomes one of the storage version.
    pub(crate) fn store(&self, object: &mut Value) -> Result<(), Status> {
        if self.same {
            return Ok(());
        }
        match self.kind.hooks.convert {
            Some(convert) => convert(object, &self.stored.api_version()),
            None => {
                object["apiVersion"] = self.stored.api_version().into();
                Ok(())
            }
        }
    }

    /// An object of the storage version becomes one of this version.
    pub(crate) fn unstore(&self, object: &mut Value) -> Result<(), Status> {
        if self.same {
            return Ok(());
        }
        match self.kind.hooks.convert {
            Some(convert) => convert(object, &self.kind.api_version()),
            None => {
                object["apiVersion"] = self.kind.api_version().into();
                Ok(())
            }
        }
    }

    /// `pods`, `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        match self.kind.group.as_ref() {
            "" => self.kind.plural.to_string(),
            group => format!("{}.{group}", self.kind.plural),
        }
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural
    }
}

/// Stored bytes as a value.
///
/// # Errors
/// 500 when they are not JSON: the API server wrote them, so the store is damaged.
pub(crate) fn parse(bytes: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|e| Status::internal(format_args!("a stored object is not JSON: {e}")))
}

#[derive(Debug)]
pub(crate) struct Registry {
    by_path: HashMap<String, Arc<Resource>>,
    /// In discovery order.
    ordered: Vec<Arc<Resource>>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

impl Registry {
    pub(crate) fn new<'k>(table: impl IntoIterator<Item = &'k Kind>) -> Self {
        let ordered: Vec<_> = table.into_iter().map(|k| Arc::new(Resource::new(k, kinds::stored_as(k)))).collect();
        let by_path = ordered.iter().map(|r| (path(&r.kind.group, &r.kind.version, &r.kind.plural), r.clone()));
        Self { by_path: by_path.collect(), ordered }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_path.get(&path(group, version, plural)).cloned()
    }

    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.ordered
    }
}
