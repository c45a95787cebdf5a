//! Many pods that run and do nothing: how fast they come up, what each costs, and what one more costs beside them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use super::{
    Bench,
    pods::{self, Images},
    report::{Report, histogram, record},
};

const LABEL: &str = "skiff-bench=parked";
/// Pods that are started one after the other beside the parked ones.
const MORE: usize = 20;
/// How long nothing happens before the memory is read: caches and connections settle.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn measure(bench: &Bench<'_>, images: &Images, report: &mut Report) -> Result<()> {
    let count = bench.args.parked;
    let before = bench.cluster.memory("VmRSS:");
    bench.progress.say(format!("parking {count} pods"));
    let pods = Api::<Pod>::namespaced(bench.client.clone(), &bench.namespace);
    let from = pods.list(&ListParams::default().limit(1)).await?.metadata.resource_version.unwrap_or_default();
    let begun = Instant::now();
    let running = tokio::time::timeout(bench.args.timeout, running(&pods, &from, count));
    let (running, ()) =
        tokio::try_join!(async { running.await.context("not all pods ran in time")? }, create(bench, images))?;
    let seconds = begun.elapsed().as_secs_f64();
    report.one(
        format!("{running} parked pods, created to all Running"),
        f64::from(u32::try_from(running)?) / seconds,
        "pods/s",
    );
    tokio::time::sleep(SETTLE).await;
    if let (Some(before), Some(after)) = (before, bench.cluster.memory("VmRSS:")) {
        report.one("memory of a parked pod, everything", (after - before) * 1024.0 / running as f64, "KiB");
    }
    let mut times = histogram();
    let mut all = Duration::ZERO;
    for n in 0..MORE {
        let took = pods::start(bench, &format!("one-more-{n}"), images.spec(&images.runs), "Running").await?;
        record(&mut times, took);
        all += took;
    }
    report.times("pod beside them: create sent to Running seen", times, all);
    bench.progress.say(format!("removing {count} pods"));
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default().labels(LABEL)).await?;
    let gone = async {
        while !pods.list(&ListParams::default().labels(LABEL).limit(1)).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(bench.args.timeout, gone).await.context("the parked pods did not go in time")??;
    tokio::time::sleep(SETTLE).await;
    if let Some(after) = bench.cluster.memory("VmRSS:") {
        report.one("memory of the process after they are gone", after, "MiB");
    }
    Ok(())
}

/// Creates them through all connections.
async fn create(bench: &Bench<'_>, images: &Images) -> Result<()> {
    let creators = (0..bench.args.connections).map(|first| async move {
        let client = bench.cluster.client().await?;
        let pods = Api::<Pod>::namespaced(client, &bench.namespace);
        for n in (first..bench.args.parked).step_by(bench.args.connections) {
            let pod = serde_json::from_value(json!({
                "metadata": { "name": format!("parked-{n}"), "labels": { "skiff-bench": "parked" } },
                "spec": images.spec(&images.runs),
            }))?;
            pods.create(&PostParams::default(), &pod).await.with_context(|| format!("failed to create pod {n}"))?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(creators).await.map(drop)
}

/// Returns when that many have been seen Running. A watch that ends is taken up where it ended.
async fn running(pods: &Api<Pod>, from: &str, count: usize) -> Result<usize> {
    let params = WatchParams::default().disable_bookmarks().labels(LABEL);
    let mut seen = std::collections::HashSet::with_capacity(count);
    let mut from = from.to_owned();
    while seen.len() < count {
        let mut events = pods.watch(&params, &from).await?.boxed();
        while let Some(event) = events.try_next().await? {
            let pod = match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod,
                WatchEvent::Error(error) => bail!("the watch of the parked pods failed: {}", error.message),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => continue,
            };
            from = pod.metadata.resource_version.unwrap_or(from);
            let status = pod.status.unwrap_or_default();
            match status.phase.as_deref() {
                Some("Running") => seen.insert(pod.metadata.name.unwrap_or_default()),
                Some("Failed" | "Succeeded") => bail!("a parked pod ended: {}", pods::why(&status)),
                _ => continue,
            };
            if seen.len() == count {
                break;
            }
        }
    }
    Ok(count)
}
