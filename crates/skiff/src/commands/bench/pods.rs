//! From creating a pod to its phase as a watcher sees it, one pod after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use super::{
    Bench,
    report::{Report, histogram, record},
};
use crate::images::{self, Artefact};

const HELLO: &str = include_str!("../../../../../wasm-examples/wat/hello.wat");
const SLEEP: &str = include_str!("../../../../../wasm-examples/wat/sleep.wat");
/// The first pods of each kind warm caches and are not counted.
const WARM_UP: usize = 3;

/// What the pods run.
pub struct Images {
    pub ends: String,
    pub runs: String,
    pub runtime_class: Option<String>,
}

impl Images {
    /// Loads the default programs where no image is named.
    pub async fn prepare(bench: &Bench<'_>) -> Result<Self> {
        let args = bench.args;
        let ours = args.image.is_none() || args.running_image.is_none();
        let mut nodes = Vec::new();
        if ours {
            bench.progress.say("loading the programs");
            let found = images::nodes(&bench.client).await;
            nodes = found.context("the cluster takes no modules: name images with --image and --running-image")?;
        }
        let load = async |named: &Option<String>, name: &str, text: &'static str| -> Result<String> {
            if let Some(named) = named {
                return Ok(named.clone());
            }
            let reference = format!("localhost/skiff-bench-{name}:latest");
            let artefact = Artefact { bytes: Bytes::from_static(text.as_bytes()), format: "module" };
            images::load(&bench.client, &nodes, &reference, &artefact).await?;
            Ok(reference)
        };
        let ends = load(&args.image, "hello", HELLO).await?;
        let runs = load(&args.running_image, "sleep", SLEEP).await?;
        let runtime_class = args.runtime_class.clone().or_else(|| ours.then(|| "wasm".to_owned()));
        Ok(Self { ends, runs, runtime_class })
    }

    /// The spec of a pod that runs one of them.
    pub fn spec(&self, image: &str) -> Value {
        let mut spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": image, "imagePullPolicy": "IfNotPresent" }],
        });
        if let Some(class) = &self.runtime_class {
            spec["runtimeClassName"] = json!(class);
        }
        spec
    }
}

pub async fn measure(bench: &Bench<'_>, images: &Images, report: &mut Report) -> Result<()> {
    for (phase, image) in [("Running", &images.runs), ("Succeeded", &images.ends)] {
        bench.progress.say(format!("starting pods until they are {phase}"));
        let mut times = histogram();
        let mut all = Duration::ZERO;
        for n in 0..bench.args.pods + WARM_UP {
            let name = format!("{}-{n}", phase.to_lowercase());
            let took = start(bench, &name, images.spec(image), phase).await?;
            if n >= WARM_UP {
                record(&mut times, took);
                all += took;
            }
        }
        report.times(format!("pod: create sent to {phase} seen"), times, all);
    }
    Ok(())
}

/// Creates a pod, waits until a watcher sees it in the phase, and deletes it.
pub async fn start(bench: &Bench<'_>, name: &str, spec: Value, phase: &str) -> Result<Duration> {
    let pods = Api::<Pod>::namespaced(bench.client.clone(), &bench.namespace);
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
    // The watch is there before the pod: from "now", for this one name.
    let from = pods.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().disable_bookmarks().fields(&format!("metadata.name={name}"));
    let mut events = pods.watch(&params, &from).await?.boxed();
    let sent = Instant::now();
    pods.create(&PostParams::default(), &pod).await.with_context(|| format!("failed to create pod {name}"))?;
    let seen = async {
        while let Some(event) = events.try_next().await? {
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
            let status = pod.status.unwrap_or_default();
            match status.phase.as_deref() {
                Some(now) if now == phase => return Ok(sent.elapsed()),
                Some("Failed" | "Succeeded") => bail!("pod {name} ended: {}", why(&status)),
                _ => {}
            }
        }
        bail!("the watch of pod {name} ended")
    };
    let took = tokio::time::timeout(bench.args.timeout, seen)
        .await
        .with_context(|| format!("pod {name} was not {phase} in time: see `kubectl describe pod`"))??;
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    Ok(took)
}

pub fn why(status: &k8s_openapi::api::core::v1::PodStatus) -> String {
    let phase = status.phase.as_deref().unwrap_or_default();
    let reason = status.reason.as_deref().or(status.message.as_deref()).unwrap_or_default();
    let ended = status.container_statuses.iter().flatten().find_map(|c| c.state.as_ref()?.terminated.as_ref());
    let exit = ended.map_or_else(String::new, |t| {
        format!(", exit code {} {}", t.exit_code, t.message.as_deref().unwrap_or_default())
    });
    format!("{phase} {reason}{exit}")
}
