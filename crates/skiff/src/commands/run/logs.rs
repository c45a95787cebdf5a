//! The logs of many containers at once, each line with the pod and container that printed it.

use std::{collections::HashMap, sync::Arc};

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::progress::Progress;

/// At most this many logs are followed at once; the others wait for a place (nothing is lost: a log is read from its
/// beginning).
const FOLLOWED_MAX: usize = 64;

/// One run of one container.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Run {
    pod_uid: String,
    container: String,
    restart: i32,
}

pub struct Logs {
    client: Client,
    progress: Progress,
    places: Arc<Semaphore>,
    followed: HashMap<Run, JoinHandle<()>>,
    /// Turns true when the work is over: who still follows a running container prints what is there, and ends.
    over: watch::Sender<bool>,
}

impl Logs {
    pub fn new(client: Client, progress: Progress) -> Self {
        let over = watch::Sender::new(false);
        Self { client, progress, places: Arc::new(Semaphore::new(FOLLOWED_MAX)), followed: HashMap::new(), over }
    }

    /// Follows what of this pod has started and is not followed yet.
    pub fn look_at(&mut self, pod: &Pod) {
        let (Some(status), Some(uid)) = (&pod.status, &pod.metadata.uid) else { return };
        let statuses =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        for container in statuses {
            let state = container.state.clone().unwrap_or_default();
            if state.running.is_none() && state.terminated.is_none() {
                continue;
            }
            let run = Run { pod_uid: uid.clone(), container: container.name.clone(), restart: container.restart_count };
            if !self.followed.contains_key(&run) {
                let task = self.follow(pod, &container.name);
                self.followed.insert(run, task);
            }
        }
    }

    fn follow(&self, pod: &Pod, container: &str) -> JoinHandle<()> {
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"));
        let one = One {
            api,
            pod: pod.metadata.name.clone().unwrap_or_default(),
            container: container.to_owned(),
            progress: self.progress.clone(),
        };
        let places = self.places.clone();
        let over = self.over.subscribe();
        tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            one.print(over).await;
        })
    }

    /// Prints what is left and returns when every log is printed.
    pub async fn finish(self) {
        self.over.send_replace(true);
        for (_, task) in self.followed {
            // A task that panicked has nothing more to print.
            let _ = task.await;
        }
    }
}

struct One {
    api: Api<Pod>,
    pod: String,
    container: String,
    progress: Progress,
}

impl One {
    async fn print(&self, mut over: watch::Receiver<bool>) {
        let mut printed = 0;
        let followed = tokio::select! {
            result = self.stream(true, 0, &mut printed) => Some(result),
            _ = over.wait_for(|over| *over) => None,
        };
        match followed {
            Some(Ok(())) => return,
            Some(Err(error)) => tracing::debug!(pod = self.pod, %error, "following a log ended early"),
            None => {}
        }
        let skip = printed;
        if let Err(error) = self.stream(false, skip, &mut printed).await {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &dyn std::fmt::Display) {
        self.progress.warn(&format!("warning: failed to read the log of {} {}: {error}", self.pod, self.container));
    }

    /// Prints the lines after the first `skip`, counting them in `printed`.
    async fn stream(
        &self,
        follow: bool,
        skip: usize,
        printed: &mut usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let params = LogParams { follow, container: Some(self.container.clone()), ..Default::default() };
        let mut lines = self.api.log_stream(&self.pod, &params).await?.lines();
        let mut seen = 0;
        while let Some(line) = lines.try_next().await? {
            seen += 1;
            if seen > skip {
                self.progress.print(&format!("{} {} | {line}", self.pod, self.container));
                *printed += 1;
            }
        }
        Ok(())
    }
}
