//! Everything that can happen to the pods of a node, in one enum, and to whom it goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use futures::{StreamExt, stream::select_all};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret};
use parking_lot::Mutex;
use skiff_client::{Change, Scope, SharedCache};
use skiff_lifecycle::{PodObserved, SandboxState, adopt};
use skiff_reconcile::{Codec, EventType, KindRef};
use skiff_runtime::RuntimeEvent;
use tokio::sync::Notify;
use tracing::{Instrument, info_span, warn};

use crate::{
    agent::{Agent, pods},
    cleanup::{self, Leftovers},
    execute::PodContext,
    mailbox::{PodHandle, uid},
    volumes::SourceKind,
    worker::Worker,
};

#[derive(Debug)]
enum Event {
    /// Pods that came, changed or went, the newest state of each.
    Pods(Vec<PodNews>),
    Runtime(RuntimeEvent),
    /// ConfigMaps or Secrets changed in these namespaces.
    Sources(BTreeSet<String>),
    Stop,
}

/// The newest state of a pod, and whether it is gone.
type PodNews = (Arc<Pod>, bool);

/// Pod changes on their way to the loop, by uid: bounded by the number of pods.
#[derive(Default)]
struct Feed {
    pods: Mutex<BTreeMap<Arc<str>, PodNews>>,
    namespaces: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Feed {
    fn pods_changed(&self, changes: &[Change]) {
        let mut pods = self.pods.lock();
        for change in changes {
            let old = change.old.clone().and_then(|o| o.downcast::<Pod>().ok());
            let new = change.new.clone().and_then(|o| o.downcast::<Pod>().ok());
            // A pod that was replaced by another of its name has gone.
            if let Some(old) = old
                && new.as_ref().is_none_or(|new| uid(new) != uid(&old))
            {
                pods.insert(uid(&old), (old, true));
            }
            if let Some(new) = new {
                pods.insert(uid(&new), (new, false));
            }
        }
        drop(pods);
        self.wake.notify_one();
    }

    fn sources_changed(&self, changes: &[Change]) {
        self.namespaces.lock().extend(changes.iter().map(|c| c.key.namespace.clone()));
        self.wake.notify_one();
    }

    /// Safe to cancel.
    async fn next(&self) -> Event {
        loop {
            let pods = std::mem::take(&mut *self.pods.lock());
            if !pods.is_empty() {
                return Event::Pods(pods.into_values().collect());
            }
            let namespaces = std::mem::take(&mut *self.namespaces.lock());
            if !namespaces.is_empty() {
                return Event::Sources(namespaces);
            }
            self.wake.notified().await;
        }
    }
}

/// Watches the pods of this node and runs a worker for each, until the node stops. `up` is called once it listens.
pub async fn run(agent: Arc<Agent>, up: impl FnOnce()) {
    let own = SharedCache::new(agent.rest.client().clone());
    let scope = Scope { fields: format!("spec.nodeName={}", agent.config.name), ..Scope::default() };
    own.declare_scoped(Codec::of::<Pod>(), scope);
    let mut runtime_events = select_all(agent.config.runtimes.iter().map(|r| r.events()));
    let found = cleanup::leftovers(&agent).await;
    tokio::select! {
        () = agent.stop.cancelled() => return,
        () = async { own.synced().await; agent.shared.synced().await } => {}
    }
    let feed = Arc::new(Feed::default());
    let for_pods = feed.clone();
    own.on_change(&pods(), move |changes| for_pods.pods_changed(changes));
    let shared = &agent.shared;
    let kinds = [(KindRef::of::<ConfigMap>(), SourceKind::ConfigMap), (KindRef::of::<Secret>(), SourceKind::Secret)];
    for (kind, source) in kinds {
        // The caches may outlive the node.
        let (feed, agent) = (feed.clone(), Arc::downgrade(&agent));
        shared.on_change(&kind, move |changes| {
            feed.sources_changed(changes);
            if let Some(agent) = agent.upgrade() {
                agent.live.changed(&agent, source, changes);
            }
        });
    }
    let mut found = Some(found);
    up();
    if feed.pods.lock().is_empty() {
        feed_orphans(&agent, &mut found, &[]).await;
    }
    loop {
        let event = tokio::select! {
            biased;
            () = agent.stop.cancelled() => Event::Stop,
            Some(event) = runtime_events.next() => Event::Runtime(event),
            event = feed.next() => event,
        };
        match event {
            Event::Pods(changed) => {
                let left = feed_orphans(&agent, &mut found, &changed).await;
                for (pod, gone) in changed {
                    pod_changed(&agent, pod, gone, &left);
                }
            }
            Event::Runtime(event) => runtime_event(&agent, event),
            Event::Sources(namespaces) => retry(&agent, |p| namespaces.contains(&p.key.namespace)),
            Event::Stop => break,
        }
    }
    own.shutdown().await;
}

/// Before the first pods are looked at: what is left of others goes. Gives what the pods can take over.
async fn feed_orphans(agent: &Agent, found: &mut Option<Leftovers>, pods: &[PodNews]) -> Leftovers {
    let Some(found) = found.take() else { return Leftovers::new() };
    let uids: HashSet<String> = pods.iter().map(|(p, _)| uid(p).to_string()).collect();
    let (kept, gone): (Leftovers, Leftovers) = found.into_iter().partition(|(uid, _)| uids.contains(uid));
    cleanup::orphans(agent, gone, &uids).await;
    kept
}

fn pod_changed(agent: &Arc<Agent>, pod: Arc<Pod>, gone: bool, left: &Leftovers) {
    let id = uid(&pod);
    let there = agent.pods.read().get(&id).cloned();
    match there {
        Some(handle) => handle.mailbox.put(|news| {
            news.pod = Some(pod);
            news.gone |= gone;
        }),
        None if gone => {}
        None => start(agent, pod, left),
    }
}

fn start(agent: &Arc<Agent>, pod: Arc<Pod>, left: &Leftovers) {
    let handle = Arc::new(PodHandle::new(pod.clone()));
    let ctx = Arc::new(PodContext::new(agent.clone(), handle.clone()));
    let mut records = vec![];
    let mut sandbox = None;
    for (runtime, of, containers) in left.get(&*handle.uid).into_iter().flatten() {
        records.extend(cleanup::records(agent, *runtime, of, containers));
        ctx.adopt(*runtime, of.clone(), containers);
        sandbox = Some(of);
    }
    let mut observed = adopt(&pod, records, agent.now());
    observed.limits = agent.config.limits.waits.clone();
    observed.host_ips = vec![agent.config.host_ip.clone()];
    if let Some(of) = sandbox {
        let (attempt, id) = (of.attempt, of.id.to_string());
        observed.sandbox_next = attempt + 1;
        observed.sandbox = if of.ready {
            SandboxState::Ready { attempt, id, ips: of.ips.iter().map(ToString::to_string).collect() }
        } else {
            SandboxState::NotReady { attempt, id }
        };
    }
    refuse_if_full(agent, &pod, &mut observed);
    agent.pods.write().insert(handle.uid.clone(), handle.clone());
    let span = info_span!("sync", pod = %handle.key);
    let (agent2, worker) = (agent.clone(), Worker::new(ctx, pod, observed));
    agent.tasks.spawn(
        async move {
            worker.run().await;
            agent2.pods.write().remove(&handle.uid);
        }
        .instrument(span),
    );
}

/// A new pod beyond the node's capacity fails, as with the kubelet.
fn refuse_if_full(agent: &Agent, pod: &Pod, observed: &mut PodObserved) {
    let status = pod.status.as_ref();
    let known = status.is_some_and(|s| s.start_time.is_some());
    if known || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let max = agent.config.pods_max();
    let pods = agent.pods.read();
    if pods.len() < max {
        return;
    }
    let terminal =
        |p: &Arc<PodHandle>| matches!(p.snapshot.borrow().status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let used = pods.values().filter(|p| !terminal(p)).count();
    if used < max {
        return;
    }
    warn!(pod = %format!("{:?}", pod.metadata.name), used, max, "pod refused: the node is full");
    let message = format!(
        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {max}"
    );
    observed.status = Some(Arc::new(PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("OutOfpods".to_owned()),
        message: Some(message),
        ..status.cloned().unwrap_or_default()
    }));
}

fn runtime_event(agent: &Agent, event: RuntimeEvent) {
    match event {
        // The worker that started it knows already.
        RuntimeEvent::Started { .. } => {}
        RuntimeEvent::Exited { pod_uid, container, .. } => {
            let handle = agent.pods.read().get(&pod_uid).cloned();
            if let Some(handle) = handle {
                handle.mailbox.put(|news| {
                    news.touched.insert(container);
                });
            }
        }
        RuntimeEvent::Warning { pod_uid, container, reason, message } => {
            let handle = agent.pods.read().get(&pod_uid).cloned();
            if let Some(handle) = handle {
                let pod = handle.snapshot.borrow().pod.clone();
                agent.event(&pod, Some(&container), EventType::Warning, reason, message);
            }
        }
        RuntimeEvent::Resync => {
            let handles: Vec<_> = agent.pods.read().values().cloned().collect();
            for handle in handles {
                handle.mailbox.put(|news| news.resync = true);
            }
        }
    }
}

/// Lets pods that wait for something try again.
pub fn retry(agent: &Agent, of: impl Fn(&PodHandle) -> bool) {
    let waits = |p: &PodHandle| p.waiting.load(std::sync::atomic::Ordering::Relaxed);
    let handles: Vec<_> = agent.pods.read().values().filter(|p| waits(p) && of(p)).cloned().collect();
    for handle in handles {
        handle.mailbox.put(|news| news.retry = true);
    }
}
