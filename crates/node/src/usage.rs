//! How fast containers use the CPU: the difference of two readings of what they have used.
//!
//! Every container is read each [`SAMPLE_EVERY`], and the last two readings are kept: a rate is over the time since a reading that
//! is at least that old, or since the container's start. Nobody waits for a second reading.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use skiff_runtime::{ContainerStats, Runtime};

use crate::{agent::Agent, machine};

/// As long as the kubelet's own, and a fraction of what autoscalers look at.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// A rate over less says little.
const WINDOW_MIN: SignedDuration = SignedDuration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Timestamp,
    cpu_nanos: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    older: Sample,
    newer: Sample,
}

/// CPU time per time, over a window that ended now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub nano_cores: u64,
    pub window: SignedDuration,
}

/// What a container uses; `rate` is there once there is something to compare with.
pub struct Measured {
    pub stats: ContainerStats,
    pub started: Option<Timestamp>,
    pub rate: Option<Rate>,
}

#[derive(Debug, Default)]
pub struct Usage {
    containers: Mutex<HashMap<Arc<str>, Pair>>,
    machine: Mutex<Option<Pair>>,
}

impl Usage {
    /// Reads a container, and compares with what it had used before.
    pub async fn measure(&self, runtime: &dyn Runtime, id: &Arc<str>, now: Timestamp) -> Option<Measured> {
        let stats = runtime.container_stats(id).await.ok()?;
        let started = runtime.container_status(id).await.ok().and_then(|status| status.started);
        let known = self.containers.lock().get(id).copied();
        let base = known.map(|pair| pair.base(now)).or_else(|| started.map(|at| Sample { at, cpu_nanos: 0 }));
        let rate = base.and_then(|base| rate(base, Sample { at: now, cpu_nanos: stats.cpu_nanos_total }));
        Some(Measured { stats, started, rate })
    }

    /// What the whole machine uses.
    pub fn machine(&self, now: Timestamp) -> Option<(u64, Option<Rate>)> {
        let cpu_nanos = machine::cpu_nanos()?;
        let base = self.machine.lock().map(|pair| pair.base(now));
        Some((cpu_nanos, base.and_then(|base| rate(base, Sample { at: now, cpu_nanos }))))
    }

    fn record(&self, seen: Vec<(Arc<str>, Option<Timestamp>, u64)>, machine: Option<u64>, at: Timestamp) {
        let mut containers = self.containers.lock();
        let mut next = HashMap::with_capacity(seen.len());
        for (id, started, cpu_nanos) in seen {
            let newer = Sample { at, cpu_nanos };
            let before = containers.get(&id).map(|pair| pair.newer);
            let older = before.or_else(|| started.map(|at| Sample { at, cpu_nanos: 0 })).unwrap_or(newer);
            next.insert(id, Pair { older, newer });
        }
        // Those that have ended are forgotten.
        *containers = next;
        if let Some(cpu_nanos) = machine {
            let newer = Sample { at, cpu_nanos };
            let mut machine = self.machine.lock();
            *machine = Some(Pair { older: machine.map_or(newer, |pair| pair.newer), newer });
        }
    }
}

impl Pair {
    fn base(self, now: Timestamp) -> Sample {
        let age = now.duration_since(self.newer.at);
        if age.unsigned_abs() >= SAMPLE_EVERY { self.newer } else { self.older }
    }
}

/// `None` when the window is too short, or the counter went back.
fn rate(from: Sample, to: Sample) -> Option<Rate> {
    let window = to.at.duration_since(from.at);
    if window < WINDOW_MIN {
        return None;
    }
    let used = u128::from(to.cpu_nanos.checked_sub(from.cpu_nanos)?);
    let nano_cores = used * 1_000_000_000 / window.as_nanos().unsigned_abs();
    Some(Rate { nano_cores: u64::try_from(nano_cores).ok()?, window })
}

/// Until the node stops.
pub async fn sample(agent: Arc<Agent>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = agent.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let running: Vec<_> = agent.pods.read().values().flat_map(|p| p.snapshot.borrow().running.clone()).collect();
        let now = agent.now();
        let mut seen = Vec::with_capacity(running.len());
        for (_, runtime, id) in running {
            let runtime = agent.runtime(runtime);
            if let Ok(stats) = runtime.container_stats(&id).await {
                let started = runtime.container_status(&id).await.ok().and_then(|status| status.started);
                seen.push((id, started, stats.cpu_nanos_total));
            }
        }
        agent.usage.record(seen, machine::cpu_nanos(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("a time")
    }

    fn sample(second: i64, cpu_nanos: u64) -> Sample {
        Sample { at: at(second), cpu_nanos }
    }

    #[test]
    fn a_rate_is_what_was_used_over_the_time_it_took() {
        let half = Rate { nano_cores: 500_000_000, window: SignedDuration::from_secs(10) };
        assert_eq!(rate(sample(0, 1), sample(10, 5_000_000_001)), Some(half));
        assert_eq!(rate(sample(0, 1), sample(0, 2)), None, "no time");
        assert_eq!(rate(sample(0, 2), sample(10, 1)), None, "the counter went back");
    }

    #[test]
    fn a_rate_begins_at_a_reading_that_is_old_enough() {
        let usage = Usage::default();
        let id: Arc<str> = "a".into();
        usage.record(vec![(id.clone(), Some(at(0)), 5)], None, at(3));
        let base = |second| usage.containers.lock()[&id].base(at(second));
        assert_eq!(base(4), sample(0, 0), "since its start");
        usage.record(vec![(id.clone(), Some(at(0)), 7)], None, at(13));
        assert_eq!(base(14), sample(3, 5));
        assert_eq!(base(40), sample(13, 7));
        usage.record(vec![], None, at(50));
        assert!(usage.containers.lock().is_empty());
    }
}
