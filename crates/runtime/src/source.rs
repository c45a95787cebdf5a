//! Data that containers read by key while it may be replaced.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

/// The data of a ConfigMap or Secret.
pub type Source = BTreeMap<String, Vec<u8>>;

/// A source that whoever made the container may replace while the container runs. Who reads sees one state of it, whole.
#[derive(Debug, Default)]
pub struct LiveSource(RwLock<Arc<Source>>);

impl LiveSource {
    pub fn new(data: Source) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(data))))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Source> {
        self.0.read().clone()
    }

    pub fn set(&self, data: Source) {
        *self.0.write() = Arc::new(data);
    }
}
