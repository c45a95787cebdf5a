//! What `/metrics` says, in the OpenMetrics text format and under upstream's names where there are such.

use std::sync::{Arc, atomic::AtomicU64};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use skiff_store::Store;

use crate::registry::Resource;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    group: String,
    resource: String,
    subresource: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
    resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResource {
    resource: String,
}

type Histograms = Family<Verb, Histogram, fn() -> Histogram>;

pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Request, Counter>,
    latency: Histograms,
    watches: Gauge,
    revision: Gauge<u64, AtomicU64>,
    objects: Family<OfResource, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Request, Counter>::default();
        // From 0.1 ms to 13 s.
        let latency = Histograms::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 18)));
        let (watches, revision) = (Gauge::default(), Gauge::<u64, AtomicU64>::default());
        let objects = Family::<OfResource, Gauge>::default();
        registry.register("apiserver_request", "Requests by verb, resource and answer", requests.clone());
        let name = "apiserver_request_duration";
        registry.register_with_unit(name, "Time to answer, streams aside", Unit::Seconds, latency.clone());
        registry.register("apiserver_registered_watchers", "Watches that are open", watches.clone());
        registry.register("skiff_store_revision", "The revision of the store", revision.clone());
        registry.register("apiserver_storage_objects", "Objects stored, by resource", objects.clone());
        Self { registry: Mutex::new(registry), requests, latency, watches, revision, objects }
    }

    /// One request that was answered. `seconds` is absent for streams, which last as long as the client likes.
    pub(crate) fn answered(
        &self,
        verb: &'static str,
        resource: &Resource,
        subresource: &'static str,
        code: u16,
        seconds: Option<f64>,
    ) {
        let plural = resource.kind.plural.to_string();
        if let Some(seconds) = seconds {
            self.latency.get_or_create(&Verb { verb, resource: plural.clone() }).observe(seconds);
        }
        let group = resource.kind.group.to_string();
        self.requests.get_or_create(&Request { verb, group, resource: plural, subresource, code }).inc();
    }

    /// The text of `/metrics`; the state of the store is read now.
    pub(crate) fn render(&self, store: &dyn Store, resources: &[Arc<Resource>]) -> Result<String, std::fmt::Error> {
        self.watches.set(i64::try_from(store.watch_count()).unwrap_or(i64::MAX));
        self.revision.set(store.revision());
        for resource in resources.iter().filter(|r| r.same) {
            let count = i64::try_from(store.count(&resource.prefix(None))).unwrap_or(i64::MAX);
            self.objects.get_or_create(&OfResource { resource: resource.qualified() }).set(count);
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock())?;
        Ok(out)
    }
}
