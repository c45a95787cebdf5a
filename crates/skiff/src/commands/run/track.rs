//! Watches the applied workloads and their pods until every one is done.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream::SelectAll};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::watcher::{self, Event},
};
use serde_json::Value;
use skiff_api::selector::LabelSelector;

use super::{
    logs::Logs,
    workload::{self, Count, Verdict},
};
use crate::{apply::Resources, progress::Progress};

/// A workload that is waited for. Times are since it was applied.
pub struct Target {
    pub kind: String,
    pub api_version: String,
    pub namespace: String,
    pub name: String,
    pub verdict: Verdict,
    pub count: Count,
    pub scheduled: Option<Duration>,
    pub started: Option<Duration>,
    pub finished: Option<Duration>,
    selector: Option<LabelSelector>,
    applied: Instant,
}

impl Target {
    /// `job/hello`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    fn of(object: &DynamicObject) -> Option<Self> {
        let types = object.types.clone()?;
        if !workload::KINDS.contains(&(types.api_version.as_str(), types.kind.as_str())) {
            return None;
        }
        Some(Self {
            kind: types.kind,
            api_version: types.api_version,
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            verdict: Verdict::Waiting,
            count: Count::default(),
            scheduled: None,
            started: None,
            finished: None,
            selector: selector_of(&object.data),
            applied: Instant::now(),
        })
    }

    fn owns(&self, pod: &Pod) -> bool {
        if pod.metadata.namespace.as_deref() != Some(&self.namespace) {
            return false;
        }
        match &self.selector {
            _ if self.kind == "Pod" => pod.metadata.name.as_deref() == Some(&self.name),
            Some(selector) => selector.matches_map(pod.metadata.labels.as_ref()),
            None => false,
        }
    }

    fn saw_pod(&mut self, pod: &Pod) {
        let since = self.applied.elapsed();
        if pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()) {
            self.scheduled.get_or_insert(since);
        }
        let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        let started = |c: &k8s_openapi::api::core::v1::ContainerStatus| {
            c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        };
        if statuses.into_iter().any(started) {
            self.started.get_or_insert(since);
        }
    }

    fn saw(&mut self, object: &Value) {
        if self.selector.is_none() {
            self.selector = selector_of(object);
        }
        (self.verdict, self.count) = workload::judge(&self.kind, object);
        if self.verdict != Verdict::Waiting {
            self.finished.get_or_insert(self.applied.elapsed());
        }
    }
}

/// The pod selector of a workload: a label selector, or the plain map of a ReplicationController.
fn selector_of(object: &Value) -> Option<LabelSelector> {
    let selector = object.pointer("/spec/selector")?;
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        return Some(LabelSelector::from_object(selector));
    }
    Some(LabelSelector::from_object(&serde_json::json!({ "matchLabels": selector })))
}

enum Seen {
    Workload(Box<DynamicObject>),
    Pod(Box<Pod>),
    Gone(Box<DynamicObject>),
}

type Stream = futures::stream::BoxStream<'static, watcher::Result<Option<Seen>>>;

pub struct Tracker {
    client: Client,
    progress: Progress,
    targets: Vec<Target>,
    logs: Option<Logs>,
}

impl Tracker {
    pub fn new(client: Client, progress: Progress, applied: &[DynamicObject], with_logs: bool) -> Self {
        let targets = applied.iter().filter_map(Target::of).collect();
        let logs = with_logs.then(|| Logs::new(client.clone(), progress.clone()));
        Self { client, progress, targets, logs }
    }

    /// Returns when no target is waited for any more.
    ///
    /// # Errors
    /// When the cluster can no longer be watched.
    pub async fn until_done(&mut self, resources: &mut Resources) -> Result<()> {
        let mut streams = self.streams(resources).await?;
        while self.targets.iter().any(|t| t.verdict == Verdict::Waiting) {
            self.progress.say(self.state());
            let Some(item) = streams.next().await else { break };
            match item {
                Ok(Some(seen)) => self.saw(seen),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a watch broke and is taken up again"),
            }
        }
        Ok(())
    }

    fn state(&self) -> String {
        let one = |t: &Target| format!("{} {}/{}", t.label(), t.count.done, t.count.wanted);
        self.targets.iter().filter(|t| t.verdict == Verdict::Waiting).map(one).collect::<Vec<_>>().join(", ")
    }

    fn saw(&mut self, seen: Seen) {
        match seen {
            Seen::Pod(pod) => {
                let mut ours = false;
                for target in self.targets.iter_mut().filter(|t| t.owns(&pod)) {
                    target.saw_pod(&pod);
                    ours = true;
                }
                if let Some(logs) = self.logs.as_mut().filter(|_| ours) {
                    logs.look_at(&pod);
                }
            }
            Seen::Workload(object) => {
                let value = serde_json::to_value(&*object).unwrap_or_default();
                self.targets.iter_mut().filter(|t| is(t, &object)).for_each(|t| t.saw(&value));
            }
            Seen::Gone(object) => {
                for target in self.targets.iter_mut().filter(|t| t.verdict == Verdict::Waiting && is(t, &object)) {
                    target.verdict = Verdict::Bad("deleted while it ran".into());
                }
            }
        }
    }

    async fn streams(&self, resources: &mut Resources) -> Result<SelectAll<Stream>> {
        let mut all: SelectAll<Stream> = SelectAll::new();
        let kinds: BTreeSet<_> = self.targets.iter().map(|t| (&t.api_version, &t.kind, &t.namespace)).collect();
        for (api_version, kind, namespace) in kinds {
            let (resource, _) = resources.of(api_version, kind).await?;
            let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
            let seen = |event| match event {
                Event::Apply(o) | Event::InitApply(o) => Some(Seen::Workload(Box::new(o))),
                Event::Delete(o) => Some(Seen::Gone(Box::new(o))),
                Event::Init | Event::InitDone => None,
            };
            all.push(watcher::watcher(api, watcher::Config::default()).map(move |r| r.map(seen)).boxed());
        }
        let namespaces: BTreeSet<_> = self.targets.iter().map(|t| &t.namespace).collect();
        for namespace in namespaces {
            let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
            let seen = |event| match event {
                Event::Apply(p) | Event::InitApply(p) => Some(Seen::Pod(Box::new(p))),
                _ => None,
            };
            all.push(watcher::watcher(api, watcher::Config::default()).map(move |r| r.map(seen)).boxed());
        }
        Ok(all)
    }

    /// Prints what the logs still hold, also of pods whose last event has not been seen, and gives the targets.
    pub async fn finish(mut self) -> Vec<Target> {
        if let Some(mut logs) = self.logs.take() {
            if let Err(error) = self.look_at_all(&mut logs).await {
                self.progress.warn(&format!("warning: some logs may be missing: {error:#}"));
            }
            logs.finish().await;
        }
        self.targets
    }

    async fn look_at_all(&mut self, logs: &mut Logs) -> Result<()> {
        let namespaces: BTreeSet<_> = self.targets.iter().map(|t| t.namespace.clone()).collect();
        for namespace in namespaces {
            let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
            for pod in api.list(&Default::default()).await.context("failed to list the pods")? {
                for target in self.targets.iter_mut().filter(|t| t.owns(&pod)) {
                    target.saw_pod(&pod);
                    logs.look_at(&pod);
                }
            }
        }
        Ok(())
    }
}

fn is(target: &Target, object: &DynamicObject) -> bool {
    let types = object.types.as_ref();
    // Items of a list carry no types of their own when the server leaves them out.
    types.is_none_or(|t| t.kind == target.kind)
        && object.metadata.name.as_deref() == Some(&target.name)
        && object.metadata.namespace.as_deref().unwrap_or("") == target.namespace
}
