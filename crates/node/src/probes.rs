//! Startup, readiness and liveness probes: a task per probe of a running container, ended with it.
//!
//! tcpSocket, httpGet and grpc connect to the pod through its runtime, exec goes to it. A probe that this node cannot make fails and
//! says why: no container is called healthy by a probe that did not happen.

mod check;
mod dial;
mod grpc;
mod hook;
mod http;
#[cfg(test)]
mod tests_servers;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use skiff_lifecycle::{PodObserved, ProbeKind, SandboxState};
use skiff_reconcile::EventType::Warning;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use hook::hook;

use crate::execute::{PodContext, container_of};

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Healthy,
    Unhealthy(String),
}

/// Runs the probes of one pod.
pub struct Prober {
    ctx: Arc<PodContext>,
    running: HashMap<(String, ProbeKind), (u32, DropGuard)>,
}

/// All that one probe needs to know.
#[derive(Clone)]
struct Subject {
    ctx: Arc<PodContext>,
    pod: Arc<Pod>,
    container: Container,
    attempt: u32,
    id: Arc<str>,
    ip: Option<String>,
    kind: ProbeKind,
    probe: Probe,
}

impl Prober {
    pub fn new(ctx: Arc<PodContext>) -> Self {
        Self { ctx, running: HashMap::new() }
    }

    /// Starts the probes that should run now, and ends the others.
    pub fn follow(&mut self, pod: &Arc<Pod>, observed: &PodObserved) {
        self.running.retain(|(name, _), (attempt, _)| {
            observed.newest(name).is_some_and(|r| r.attempt == *attempt && r.running())
        });
        for record in observed.containers.iter().filter(|r| r.running()) {
            let Some(container) = container_of(pod, &record.name) else { continue };
            let started = container.startup_probe.is_none() || observed.probe(record).startup == Some(true);
            for (kind, probe, due) in [
                (ProbeKind::Startup, &container.startup_probe, !started),
                (ProbeKind::Readiness, &container.readiness_probe, started),
                (ProbeKind::Liveness, &container.liveness_probe, started),
            ] {
                let key = (record.name.clone(), kind);
                let Some(probe) = probe.as_ref().filter(|_| due) else {
                    self.running.remove(&key);
                    continue;
                };
                if self.running.contains_key(&key) {
                    continue;
                }
                let subject = Subject {
                    ctx: self.ctx.clone(),
                    pod: pod.clone(),
                    container: container.clone(),
                    attempt: record.attempt,
                    id: record.id.as_str().into(),
                    ip: address(observed),
                    kind,
                    probe: probe.clone(),
                };
                let stop = CancellationToken::new();
                self.ctx.agent.tasks.spawn(run(subject, stop.clone(), self.ctx.agent.stop.clone()));
                self.running.insert(key, (record.attempt, stop.drop_guard()));
            }
        }
    }
}

fn address(observed: &PodObserved) -> Option<String> {
    match &observed.sandbox {
        SandboxState::Ready { ips, .. } => ips.first().cloned(),
        _ => None,
    }
}

async fn run(subject: Subject, stop: CancellationToken, node_stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = node_stop.cancelled() => {}
        () = probe(&subject) => {}
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

/// Probes until it is told to stop. Results go to the worker when they pass their thresholds.
async fn probe(subject: &Subject) {
    let probe = &subject.probe;
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut ticks = tokio::time::interval(seconds(probe.period_seconds, 10).max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = Count::default();
    loop {
        ticks.tick().await;
        let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let checked = check::check(subject, timeout).await;
        if let Checked::Unhealthy(why) = &checked {
            let message = format!("{:?} probe failed: {why}", subject.kind);
            subject.ctx.agent.event(&subject.pod, Some(&subject.container.name), Warning, "Unhealthy", message);
        }
        if let Some(ok) = count.add(checked == Checked::Healthy, probe) {
            let result = (subject.container.name.clone(), subject.attempt, subject.kind, ok);
            subject.ctx.handle.mailbox.put(|news| news.probes.push(result));
        }
    }
}

/// Results in a row.
#[derive(Debug, Default)]
struct Count {
    ok: bool,
    in_a_row: i32,
    told: Option<bool>,
}

impl Count {
    /// The result, when it reaches its threshold and was not told yet.
    fn add(&mut self, ok: bool, probe: &Probe) -> Option<bool> {
        self.in_a_row = if ok == self.ok { self.in_a_row.saturating_add(1) } else { 1 };
        self.ok = ok;
        let threshold = if ok { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        let news = self.in_a_row >= threshold && self.told != Some(ok);
        if news {
            self.told = Some(ok);
        }
        news.then_some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_counts_when_it_came_often_enough_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut count = Count::default();
        let told: Vec<Option<bool>> =
            [true, true, true, false, false, true, false, false, false, false].map(|ok| count.add(ok, &probe)).into();
        let expected = [None, Some(true), None, None, None, None, None, None, Some(false), None];
        assert_eq!(told, expected);
    }
}
