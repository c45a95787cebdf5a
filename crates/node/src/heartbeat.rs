//! The node's signs of life, in tasks of their own: a Lease every few seconds, the status when it changes and every few
//! minutes.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::NodeStatus};
use serde_json::{Value, json};
use skiff_client::{Error, rest::Written};
use skiff_reconcile::{KindRef, ObjectKey};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use crate::{agent::Agent, image_gc, register};

const NAMESPACE: &str = "kube-node-lease";
/// A node is lost when its lease is older: the kubelet's default.
const LEASE_DURATION_S: i32 = 40;

/// Renews the lease until the node stops.
pub async fn lease(agent: Arc<Agent>, node_uid: String) {
    let mut ticks = ticks(agent.config.limits.lease_renew_s);
    loop {
        tokio::select! {
            () = agent.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = renew(&agent, &node_uid).await {
            warn!(%error, node = agent.config.name, "lease not renewed");
        }
    }
}

fn ticks(seconds: u64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(seconds.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn renew(agent: &Agent, node_uid: &str) -> Result<(), Error> {
    let (leases, name) = (KindRef::of::<Lease>(), agent.config.name.as_str());
    let now = agent.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": LEASE_DURATION_S, "renewTime": now });
    let patch: Value = json!({ "spec": spec });
    let renewed = agent.rest.merge_patch::<Written>(&leases, &ObjectKey::new(NAMESPACE, name), None, &patch).await;
    match renewed {
        Err(e) if e.is_not_found() => {
            let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid });
            let body = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": name, "namespace": NAMESPACE, "ownerReferences": [owner] },
                "spec": spec,
            });
            agent.rest.create::<Written>(&leases, NAMESPACE, &body).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Reports the status until the node stops.
pub async fn status(agent: Arc<Agent>, mut told: NodeStatus) {
    let limits = &agent.config.limits;
    let mut ticks = ticks(limits.lease_renew_s);
    // The first tick is now, and the status has just been told.
    ticks.tick().await;
    let mut reported = Instant::now();
    let seen: Vec<_> = agent.config.runtimes.iter().map(|_| image_gc::Seen::default()).collect();
    let mut disk_full = false;
    loop {
        tokio::select! {
            () = agent.stop.cancelled() => return,
            _ = ticks.tick() => image_gc::look(&agent, &seen, &mut disk_full).await,
            () = agent.status_changed.notified() => {}
        }
        let now = register::status(&agent, Some(&told)).await;
        let due = reported.elapsed() >= Duration::from_secs(limits.status_report_s);
        if !due && !register::differs(&told, &now) {
            continue;
        }
        match register::report(&agent, Some(&told), &now).await {
            Ok(()) => {
                told = now;
                reported = Instant::now();
            }
            Err(error) => warn!(%error, node = agent.config.name, "status of the node not reported"),
        }
    }
}
