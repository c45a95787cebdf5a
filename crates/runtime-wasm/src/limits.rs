//! What one container may take of the host's memory, and what all may take together.
//!
//! Linear memories and tables count when they grow, touched or not; so does what the host holds for a guest (see
//! [`crate::charge`]). A container at its limit is ended (`OOMKilled`), as a Linux container would be; so is one that grows
//! when the node's memory is used up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use wasmtime::ResourceLimiter;

use crate::charge::Account;

/// Core instances, memories and tables of one container. Components hold a handful; this bounds the bookkeeping.
const INSTANCES_MAX: usize = 64;
const MEMORIES_MAX: usize = 32;
const TABLES_MAX: usize = 64;

/// What a container uses, or one process of it, read by statistics while it runs.
#[derive(Default)]
pub struct Usage {
    pub memory_bytes: AtomicU64,
    pub memory_bytes_peak: AtomicU64,
    pub cpu_nanos: AtomicU64,
    /// Of a process: its container's, which counts all of them together.
    container: Option<Arc<Usage>>,
}

impl Usage {
    /// Of one more process of that container.
    pub fn of(container: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { container: Some(container.clone()), ..Self::default() })
    }

    fn levels(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.container.as_deref())
    }

    pub fn computed(&self, nanos: u64) {
        for usage in self.levels() {
            usage.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Counts them if the container then has at most `max`; otherwise says how many it has.
    pub fn take(&self, bytes: u64, max: u64) -> Result<(), u64> {
        let whole = self.container.as_deref().unwrap_or(self);
        let before = whole.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > max {
            whole.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(before);
        }
        if self.container.is_some() {
            self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        for usage in self.levels() {
            usage.memory_bytes_peak.fetch_max(usage.memory_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    pub fn give_back(&self, bytes: u64) {
        for usage in self.levels() {
            usage.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// The memory of all containers together.
pub struct Budget {
    used: AtomicU64,
    max: u64,
}

impl Budget {
    /// With no maximum given: the machine's memory.
    pub fn new(max: Option<u64>) -> Arc<Self> {
        let max = max.or_else(machine_memory_bytes).unwrap_or(u64::MAX);
        Arc::new(Self { used: AtomicU64::new(0), max })
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// Whether there was room for them.
    pub fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.max {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn machine_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Ends the guest that asked for more than it may have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutOfMemory {
    #[error("out of memory: the limit of {limit} bytes is reached; {used} bytes were in use and {more} more asked for")]
    Container { limit: u64, used: u64, more: u64 },
    #[error(
        "out of memory: the limit of {limit} bytes per instance is reached; {used} bytes were in use and {more} more asked for"
    )]
    Instance { limit: u64, used: u64, more: u64 },
    #[error("out of memory: all containers of the node together use its {limit} bytes; this one used {used}")]
    Node { limit: u64, used: u64 },
}

/// The limiter of one process's store. The limit is that of its container, whose processes share it.
pub struct Limits {
    account: Account,
    /// Of this store alone, if it has one of its own.
    instance_max: Option<u64>,
    /// What the host holds for the store from its beginning on, until it is counted with the store's first memory.
    host_bytes: u64,
    /// By this process, and by the host for it.
    used: u64,
    used_by_host: u64,
    /// Said to the guest's end, too: an allocation of garbage-collected memory hides why it failed.
    pub refused: Option<OutOfMemory>,
    /// The host holds more for it than it may have: it ends at its next turn.
    pub over: bool,
}

impl Limits {
    pub fn new(account: Account) -> Self {
        Self { account, instance_max: None, host_bytes: 0, used: 0, used_by_host: 0, refused: None, over: false }
    }

    /// Bounds this store alone, too.
    pub fn set_instance_max(&mut self, max: Option<u64>) {
        self.instance_max = max;
    }

    /// Counts buffers of a fixed size together with the store's first memory, at no cost of their own.
    pub fn set_host_bytes(&mut self, bytes: u64) {
        self.host_bytes = bytes;
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    pub fn refuse(&mut self, reason: OutOfMemory) -> wasmtime::Error {
        self.refused = Some(reason.clone());
        reason.into()
    }

    /// Why the guest must end now, if it must.
    pub fn overdrawn(&self) -> Option<wasmtime::Error> {
        self.refused.clone().filter(|_| self.over).map(wasmtime::Error::from)
    }

    fn grow(&mut self, bytes: u64) -> wasmtime::Result<()> {
        if let Some(limit) = self.instance_max
            && self.used.saturating_add(bytes) > limit
        {
            return Err(self.refuse(OutOfMemory::Instance { limit, used: self.used, more: bytes }));
        }
        let host_bytes = std::mem::take(&mut self.host_bytes);
        self.account.take(bytes.saturating_add(host_bytes)).map_err(|reason| self.refuse(reason))?;
        self.used += bytes;
        self.used_by_host += host_bytes;
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.account.give_back(self.used + self.used_by_host);
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own limit: memory.grow answers -1, as the specification says.
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64)?;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = desired.saturating_sub(current) as u64;
        self.grow(elements.saturating_mul(size_of::<usize>() as u64))?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }
}
