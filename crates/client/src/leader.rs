//! Leader election on Leases, as client-go's: who holds the lease renews it; who does not waits until it has not changed
//! for its duration, by the waiter's own clock, so that clocks need not agree.
//!
//! What must stay true: a leader that could not renew for [`ElectionConfig::renew_deadline`] stops before anybody else
//! can have taken over. The decision is pure; times come in as arguments.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::Client;
use serde_json::json;
use skiff_reconcile::{KindRef, ObjectKey};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{Clock, Error, Rest};

#[derive(Clone, Debug)]
pub struct ElectionConfig {
    pub lease: ObjectKey,
    /// Unique among the candidates: `HOST_UUID`.
    pub identity: String,
    pub duration: Duration,
    pub renew_deadline: Duration,
    pub retry: Duration,
}
impl ElectionConfig {
    /// With the periods of the Kubernetes components: 15 s, 10 s, 2 s.
    pub fn new(lease: ObjectKey, identity: impl Into<String>) -> Self {
        let seconds = Duration::from_secs;
        Self { lease, identity: identity.into(), duration: seconds(15), renew_deadline: seconds(10), retry: seconds(2) }
    }
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is no lease: create it.
    Create(LeaseSpec),
    /// Write it: we hold it, or it has lapsed.
    Write(LeaseSpec),
    Wait,
}

/// The memory of a candidate: the last lease it saw and when it saw it change.
#[derive(Clone, Debug, Default)]
pub struct Election {
    seen: Option<(LeaseSpec, Timestamp)>,
}

impl Election {
    /// `lease` is what the API holds now.
    pub fn decide(&mut self, lease: Option<&Lease>, config: &ElectionConfig, now: Timestamp) -> Step {
        let Some(spec) = lease.map(|l| l.spec.clone().unwrap_or_default()) else {
            return Step::Create(claim(config, now, now, 0));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let seen_at = self.seen.as_ref().map_or(now, |(_, at)| *at);
        let transitions = spec.lease_transitions.unwrap_or(0);
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder == config.identity {
            let since = spec.acquire_time.map_or(now, |t| t.0);
            return Step::Write(claim(config, since, now, transitions));
        }
        let duration_ms = i64::from(spec.lease_duration_seconds.unwrap_or(0)) * 1000;
        let valid = seen_at.as_millisecond() + duration_ms > now.as_millisecond();
        if !holder.is_empty() && valid {
            return Step::Wait;
        }
        Step::Write(claim(config, now, now, transitions.saturating_add(1)))
    }
}

fn claim(config: &ElectionConfig, since: Timestamp, now: Timestamp, transitions: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: i32::try_from(config.duration.as_secs()).ok(),
        acquire_time: Some(MicroTime(since)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// Keeps trying for the lease. `true` on the channel means: we lead.
pub struct LeaderElection {
    rest: Rest,
    config: ElectionConfig,
    clock: Clock,
    leads: Arc<watch::Sender<bool>>,
}

impl LeaderElection {
    pub fn new(client: Client, config: ElectionConfig, clock: Clock) -> (Self, watch::Receiver<bool>) {
        let (leads, receiver) = watch::channel(false);
        (Self { rest: Rest::new(client), config, clock, leads: Arc::new(leads) }, receiver)
    }

    /// Until the future is dropped; call [`Self::release`] then.
    pub async fn run(&self) {
        let mut election = Election::default();
        let mut renewed = Instant::now();
        loop {
            match timeout(self.config.renew_deadline, self.attempt(&mut election)).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    self.set(true);
                }
                Ok(Ok(false)) => self.set(false),
                Ok(Err(e)) if e.is_conflict() || e.is_already_exists() => debug!(error = %e, "another was faster"),
                Ok(Err(e)) => warn!(error = %e, lease = %self.config.lease, "cannot renew the lease"),
                Err(_) => warn!(lease = %self.config.lease, "the lease was not answered in time"),
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                self.set(false);
            }
            sleep(self.config.retry).await;
        }
    }

    /// Gives the lease up, so that the next candidate need not wait.
    pub async fn release(&self) {
        if !self.leads.send_replace(false) {
            return;
        }
        let spec = json!({ "holderIdentity": "", "leaseDurationSeconds": 1 });
        let kind = KindRef::of::<Lease>();
        if let Err(e) = self.rest.merge_patch::<Lease>(&kind, &self.config.lease, None, &json!({ "spec": spec })).await
        {
            debug!(error = %e, lease = %self.config.lease, "cannot release the lease");
        }
    }

    fn set(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|l| std::mem::replace(l, leads) != leads);
        if changed {
            info!(lease = %self.config.lease, identity = self.config.identity, leads, "leadership changed");
        }
    }

    /// Whether we hold the lease now.
    async fn attempt(&self, election: &mut Election) -> Result<bool, Error> {
        let kind = KindRef::of::<Lease>();
        let key = &self.config.lease;
        let lease = match self.rest.get::<Lease>(&kind, key).await {
            Ok(lease) => Some(lease),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        match election.decide(lease.as_ref(), &self.config, (self.clock)()) {
            Step::Wait => Ok(false),
            Step::Create(spec) => {
                let body = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": { "name": key.name, "namespace": key.namespace }, "spec": spec,
                });
                self.rest.create::<Lease>(&kind, &key.namespace, &body).await.map(|_| true)
            }
            Step::Write(spec) => {
                let mut body = json!(lease);
                body["spec"] = json!(spec);
                self.rest.update::<Lease>(&kind, key, None, &body).await.map(|_| true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000 + seconds).expect("in range")
    }
    fn config(identity: &str) -> ElectionConfig {
        ElectionConfig::new(ObjectKey::new("kube-system", "kube-scheduler"), identity)
    }
    fn write(step: Step) -> Lease {
        match step {
            Step::Create(spec) | Step::Write(spec) => Lease { spec: Some(spec), ..Lease::default() },
            Step::Wait => panic!("expected a write"),
        }
    }

    #[test]
    fn the_first_takes_it_and_the_second_waits_until_it_has_not_changed_for_its_duration() {
        let (a, b) = (config("a"), config("b"));
        let (mut ea, mut eb) = (Election::default(), Election::default());
        let mut lease = write(ea.decide(None, &a, at(0)));
        assert_eq!(eb.decide(Some(&lease), &b, at(1)), Step::Wait);
        // Renewed: b's patience starts again.
        lease = write(ea.decide(Some(&lease), &a, at(10)));
        let spec = lease.spec.clone().expect("a spec");
        assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(MicroTime(at(0))), Some(0)));
        assert_eq!(eb.decide(Some(&lease), &b, at(12)), Step::Wait);
        assert_eq!(eb.decide(Some(&lease), &b, at(26)), Step::Wait);
        let taken = write(eb.decide(Some(&lease), &b, at(27))).spec.expect("a spec");
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));
    }

    #[test]
    fn a_clock_far_ahead_does_not_steal() {
        let mut lease = write(Election::default().decide(None, &config("a"), at(0)));
        let mut eb = Election::default();
        assert_eq!(eb.decide(Some(&lease), &config("b"), at(1_000_000)), Step::Wait);
        lease.spec.get_or_insert_default().holder_identity = Some(String::new());
        assert!(matches!(eb.decide(Some(&lease), &config("b"), at(1_000_001)), Step::Write(_)), "released");
    }
}
