//! One of several candidates leads; another takes over when it lets go.

mod common;

use std::{sync::Arc, time::Duration};

use common::Cluster;
use skiff_client::{ElectionConfig, LeaderElection, system_clock};
use skiff_reconcile::ObjectKey;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

struct Candidate {
    election: Arc<LeaderElection>,
    leads: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Candidate {
    fn new(cluster: &Cluster, identity: &str) -> Self {
        let lease = ObjectKey::new("kube-system", "test");
        let config = ElectionConfig { retry: Duration::from_millis(20), ..ElectionConfig::new(lease, identity) };
        let (election, leads) = LeaderElection::new(cluster.rest.client().clone(), config, system_clock());
        let election = Arc::new(election);
        let running = election.clone();
        let task = tokio::spawn(async move { running.run().await });
        Self { election, leads, task }
    }
    async fn led(&mut self) {
        timeout(PATIENCE, self.leads.wait_for(|l| *l)).await.expect("leads in time").expect("still running");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder_and_the_next_need_not_wait_when_it_is_given_up() {
    let cluster = Cluster::start().await;
    let mut first = Candidate::new(&cluster, "first");
    first.led().await;
    let mut second = Candidate::new(&cluster, "second");
    // It has been refused at least a few times by then.
    let early = timeout(Duration::from_millis(300), second.leads.wait_for(|l| *l)).await.is_err();
    assert!(early, "two leaders");
    first.task.abort();
    first.election.release().await;
    assert!(!*first.leads.borrow());
    second.led().await;
    second.task.abort();
    cluster.stop().await;
}
