//! What programs read and keep by key: `wasi:config/store` and `wasi:keyvalue`.
//!
//! Configuration comes from the ConfigMaps and Secrets that the pod's annotation names, as they are at each call. Buckets are those sources (read-only) and directories of the node, which pods of one namespace share:
//! durable on this node, in order per key, and on no other node. Everything is bounded (see [`bucket`]).

mod bucket;
mod host;
mod spin;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use skiff_runtime::{
    ContainerConfig, LiveSource, SandboxConfig,
    annotations::{CONFIG, KEYVALUE},
};

use crate::spin::Part;
pub use bucket::Failure;
use bucket::{Bucket, Kept};
pub use host::add_to_linker;

/// Buckets of one namespace on this node.
pub const BUCKETS_MAX: usize = 16;
/// The bucket that every pod of a namespace may open, also by an empty name.
const BUCKET_DEFAULT: &str = "default";

/// The node's buckets, open while somebody uses them.
pub struct Stores {
    directory: PathBuf,
    open: Mutex<HashMap<PathBuf, Weak<Kept>>>,
}

impl Stores {
    pub fn new(directory: PathBuf) -> Arc<Self> {
        Arc::new(Self { directory, open: Mutex::default() })
    }

    /// Blocks.
    fn kept(&self, namespace: &str, name: &str) -> Result<Arc<Kept>, Failure> {
        let within = self.directory.join(namespace);
        let directory = within.join(name);
        let mut open = self.open.lock();
        if let Some(bucket) = open.get(&directory).and_then(Weak::upgrade) {
            return Ok(bucket);
        }
        if !directory.exists() {
            let count = std::fs::read_dir(&within).map_or(0, Iterator::count);
            if count >= BUCKETS_MAX {
                return Err(Failure::Other(format!(
                    "namespace {namespace:?} has {count} buckets, as many as it may have"
                )));
            }
        }
        let bucket = Arc::new(Kept::open(directory.clone())?);
        open.retain(|_, bucket| bucket.strong_count() > 0);
        open.insert(directory, Arc::downgrade(&bucket));
        Ok(bucket)
    }
}

/// What one container may read and keep.
#[derive(Clone, Default)]
pub struct View {
    /// The later wins.
    config: Arc<[Arc<LiveSource>]>,
    buckets: Option<Arc<Buckets>>,
}

struct Buckets {
    stores: Arc<Stores>,
    namespace: String,
    /// What the pod's annotation names, with the data of those that are sources.
    named: BTreeMap<String, Option<Arc<LiveSource>>>,
}

impl View {
    /// # Errors
    /// Which annotation is wrong.
    pub fn of(stores: &Arc<Stores>, config: &ContainerConfig, pod: &SandboxConfig) -> Result<Self, String> {
        let list = |name: &str| -> Vec<String> {
            let value = config.annotations.get(name).map(String::as_str).unwrap_or_default();
            value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let source = |annotation: &str, name: &str| {
            let found = config.sources.get(name).cloned();
            found.ok_or_else(|| {
                format!("annotation {annotation}: {name:?} is not \"configmap/NAME\" or \"secret/NAME\"")
            })
        };
        let texts: Result<_, _> = list(CONFIG).iter().map(|name| source(CONFIG, name)).collect();
        let mut named = BTreeMap::from([(BUCKET_DEFAULT.to_owned(), None)]);
        for name in list(KEYVALUE) {
            let data = if name.contains('/') { Some(source(KEYVALUE, &name)?) } else { None };
            if data.is_none() && !bucket::name_valid(&name) {
                return Err(format!(
                    "annotation {KEYVALUE}: {name:?} is not a name of lower-case letters, digits and \"-\""
                ));
            }
            named.insert(name, data);
        }
        let buckets = Buckets { stores: stores.clone(), namespace: pod.namespace.clone(), named };
        Ok(Self { config: texts?, buckets: Some(Arc::new(buckets)) })
    }

    /// The text of a key now.
    fn value(&self, key: &str) -> Option<String> {
        let text = |source: &Arc<LiveSource>| String::from_utf8(source.get().get(key)?.clone()).ok();
        self.config.iter().rev().find_map(text)
    }

    /// All that is text now.
    fn values(&self) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for source in self.config.iter() {
            let source = source.get();
            let texts = source.iter().filter_map(|(key, value)| Some((key, std::str::from_utf8(value).ok()?)));
            values.extend(texts.map(|(key, value)| (key.clone(), value.to_owned())));
        }
        values
    }

    /// What a component of a Spin application sees: its own variables, and the stores that its manifest names.
    pub fn of_part(&self, part: &Part) -> Self {
        let buckets = self.buckets.as_ref().map(|all| {
            let named = part.stores.iter().map(|name| (name.clone(), all.named.get(name).cloned().flatten()));
            let (stores, namespace) = (all.stores.clone(), all.namespace.clone());
            Arc::new(Buckets { stores, namespace, named: named.collect() })
        });
        Self { config: part.config.clone(), buckets }
    }

    /// Blocks.
    fn open(&self, name: &str) -> Result<Bucket, Failure> {
        let name = if name.is_empty() { BUCKET_DEFAULT } else { name };
        let buckets = self.buckets.as_ref().ok_or(Failure::NoSuchStore)?;
        match buckets.named.get(name).ok_or(Failure::NoSuchStore)? {
            Some(source) => Ok(Bucket::Source(source.clone())),
            None if !bucket::name_valid(name) => Err(Failure::NoSuchStore),
            None => buckets.stores.kept(&buckets.namespace, name).map(Bucket::Kept),
        }
    }
}
