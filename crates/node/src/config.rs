//! What a node is started with.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Taint;
use kube::Client;
use skiff_client::{Clock, SharedCache, system_clock};
use skiff_runtime::Runtime;

/// The most pods of a node when neither the configuration nor a runtime says: the kubelet's default.
pub const PODS_MAX_DEFAULT: usize = 110;

#[derive(Clone)]
pub struct NodeConfig {
    /// The name of the Node object; also its hostname label.
    pub name: String,
    pub client: Client,
    /// The caches that this process shares (services, runtime classes, …); made from `client` if there are none.
    pub shared: Option<SharedCache>,
    /// At least one. Which one a container goes to: [`crate::dispatch`].
    pub runtimes: Vec<Arc<dyn Runtime>>,
    /// Volumes and logs of pods. Nobody else may use it.
    pub data_dir: PathBuf,
    /// The most pods; default: the most containers of the runtimes, or [`PODS_MAX_DEFAULT`].
    pub pods_max: Option<usize>,
    /// Quantities that replace what the machine has: `cpu`, `memory`, `ephemeral-storage`, or extended resources.
    pub capacity: BTreeMap<String, String>,
    /// Set on registration and on every start; other labels of the Node are kept.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Set when the Node is first created; afterwards its taints belong to the API.
    pub taints: Vec<Taint>,
    /// The node's address for others.
    pub host_ip: String,
    /// Where the kubelet's HTTP server listens, if it has a socket of its own.
    pub kubelet_port: Option<u16>,
    pub clock: Clock,
    pub limits: Limits,
}

/// Everything of which a node has only so much.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Waiting times of pods.
    pub waits: skiff_lifecycle::Limits,
    /// Containers being created and started at once; others wait in line.
    pub starts_max: usize,
    /// Image pulls at once.
    pub pulls_max: usize,
    /// Status writes under way at once.
    pub writes_max: usize,
    /// The largest body of an image upload.
    pub image_bytes_max: usize,
    /// Seconds between heartbeats, and between status reports when nothing changes.
    pub lease_renew_s: u64,
    pub status_report_s: u64,
    pub image_gc: ImageGc,
}

/// When images that no container uses go: looked at with each heartbeat, as the kubelet's `imageGCHighThresholdPercent`,
/// `imageGCLowThresholdPercent` and `imageMinimumGCAge` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    /// Of the disk, in use: from there on images go. 100 turns it off, but for a disk that is full.
    pub high_percent: u64,
    /// Until so much is in use.
    pub low_percent: u64,
    /// Younger ones, and those that were in use in that time, stay.
    pub min_age_s: i64,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age_s: 120 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waits: skiff_lifecycle::Limits::default(),
            starts_max: 64,
            pulls_max: 8,
            writes_max: 64,
            image_bytes_max: 512 << 20,
            lease_renew_s: 10,
            status_report_s: 300,
            image_gc: ImageGc::default(),
        }
    }
}

impl NodeConfig {
    pub fn new(name: impl Into<String>, client: Client, runtime: Arc<dyn Runtime>, data_dir: PathBuf) -> Self {
        Self {
            name: name.into(),
            client,
            shared: None,
            runtimes: vec![runtime],
            data_dir,
            pods_max: None,
            capacity: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: vec![],
            host_ip: "127.0.0.1".to_owned(),
            kubelet_port: None,
            clock: system_clock(),
            limits: Limits::default(),
        }
    }

    pub(crate) fn pods_max(&self) -> usize {
        let of_runtimes = self.runtimes.iter().filter_map(|r| r.capabilities().containers_max).map(|(max, _)| max);
        self.pods_max.or_else(|| of_runtimes.max()).unwrap_or(PODS_MAX_DEFAULT)
    }
}
