//! Amounts of resources, and what a pod asks of a node.
//!
//! CPU is in millicores, memory and storage in bytes, extended resources in units. Arithmetic saturates: a hostile
//! quantity makes a pod unschedulable, never a node free.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use skiff_api::quantity;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";

/// What a container without requests counts for when nodes are scored, so that such pods spread (0.1 core, 200 MiB).
const SCORED_MILLI_CPU_DEFAULT: i64 = 100;
const SCORED_MEMORY_DEFAULT: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Huge pages, devices and everything else by name.
    pub extended: BTreeMap<String, i64>,
}

impl Resources {
    /// Without `pods`, which is a count of its own. Unreadable quantities count as zero (the API refuses them).
    pub fn from_list(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut out = Self::default();
        for (name, amount) in list.into_iter().flatten().filter(|(name, _)| *name != PODS) {
            *out.slot(name) = if name == CPU { milli(amount) } else { whole(amount) };
        }
        out
    }

    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.extended.values().all(|v| *v == 0)
    }

    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }
    pub fn sub(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }
    pub fn max(&mut self, other: &Self) {
        self.merge(other, Ord::max);
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            CPU => &mut self.milli_cpu,
            MEMORY => &mut self.memory,
            EPHEMERAL_STORAGE => &mut self.ephemeral_storage,
            _ => {
                if !self.extended.contains_key(name) {
                    self.extended.insert(name.into(), 0);
                }
                self.extended.entry(name.into()).or_default()
            }
        }
    }

    fn merge(&mut self, other: &Self, op: fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let slot = self.slot(name);
            *slot = op(*slot, *amount);
        }
    }
}

/// The count in a resource list's `pods`; zero when absent.
pub fn pod_count(list: Option<&BTreeMap<String, Quantity>>) -> i64 {
    list.and_then(|l| l.get(PODS)).map_or(0, whole)
}

/// What the pod needs at any moment of its life: the larger of its containers with all sidecars, and of each init
/// container with the sidecars started before it; then pod-level requests in place of the sum; then the overhead.
pub fn pod_request(spec: &PodSpec) -> Resources {
    aggregate(spec, |container| Resources::from_list(requests(container)))
}

/// As [`pod_request`], with defaults for containers that ask for no CPU or no memory: for scoring only.
pub fn pod_scored_request(spec: &PodSpec) -> Resources {
    aggregate(spec, |container| {
        let list = requests(container);
        let mut out = Resources::from_list(list);
        if !list.is_some_and(|l| l.contains_key(CPU)) {
            out.milli_cpu = SCORED_MILLI_CPU_DEFAULT;
        }
        if !list.is_some_and(|l| l.contains_key(MEMORY)) {
            out.memory = SCORED_MEMORY_DEFAULT;
        }
        out
    })
}

fn requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|r| r.requests.as_ref())
}

fn aggregate(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&needed);
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        starting.max(&needed);
    }
    running.max(&starting);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        for (name, amount) in pod_level {
            *running.slot(name) = if name == CPU { milli(amount) } else { whole(amount) };
        }
    }
    running.add(&Resources::from_list(spec.overhead.as_ref()));
    running
}

fn milli(amount: &Quantity) -> i64 {
    quantity::Quantity::parse(&amount.0).map_or(0, |q| q.milli_value())
}
fn whole(amount: &Quantity) -> i64 {
    quantity::Quantity::parse(&amount.0).map_or(0, |q| q.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn cpu_of(pod: crate::testing::PodBuilder) -> i64 {
        pod_request(pod.build().spec.as_ref().unwrap()).milli_cpu
    }

    #[test]
    fn the_largest_moment_counts() {
        // Containers run together.
        assert_eq!(cpu_of(pod("a").cpu("500m").container_cpu("1")), 1500);
        // Init containers run alone, before them.
        assert_eq!(cpu_of(pod("a").cpu("500m").init_cpu("2").init_cpu("1")), 2000);
        assert_eq!(cpu_of(pod("a").cpu("500m").init_cpu("300m")), 500);
        // A sidecar runs beside the init containers after it and beside the containers.
        assert_eq!(cpu_of(pod("a").cpu("500m").sidecar_cpu("1")), 1500);
        assert_eq!(cpu_of(pod("a").cpu("500m").sidecar_cpu("1").init_cpu("2")), 3000);
        assert_eq!(cpu_of(pod("a").cpu("500m").init_cpu("2").sidecar_cpu("1")), 2000);
        // Pod-level requests replace the sum, overhead comes on top.
        assert_eq!(cpu_of(pod("a").cpu("500m").pod_level("cpu", "4").overhead("cpu", "250m")), 4250);
    }

    #[test]
    fn containers_without_requests_weigh_something_when_scored() {
        let built = pod("a").container_cpu("1").build();
        let scored = pod_scored_request(built.spec.as_ref().unwrap());
        // The builder's first container asks for nothing.
        assert_eq!((scored.milli_cpu, scored.memory), (1100, 2 * SCORED_MEMORY_DEFAULT));
    }

    #[test]
    fn enormous_amounts_saturate() {
        assert_eq!(cpu_of(pod("a").cpu("9223372036854775807").container_cpu("9223372036854775807")), i64::MAX);
    }
}
