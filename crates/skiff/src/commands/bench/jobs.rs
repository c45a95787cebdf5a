//! How many pods per second a Job gets through.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use super::{Bench, pods::Images, report::Report};

const NAME: &str = "throughput";

pub async fn measure(bench: &Bench<'_>, images: &Images, report: &mut Report) -> Result<()> {
    let (completions, parallelism) = (bench.args.completions, bench.args.parallelism);
    bench.progress.say(format!("running a Job of {completions} pods, {parallelism} at a time"));
    let jobs = Api::<Job>::namespaced(bench.client.clone(), &bench.namespace);
    let job: Job = serde_json::from_value(json!({
        "metadata": { "name": NAME },
        "spec": {
            "completions": completions, "parallelism": parallelism, "backoffLimit": 0,
            "template": { "spec": images.spec(&images.ends) },
        },
    }))?;
    let from = jobs.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = jobs.watch(&WatchParams::default().disable_bookmarks(), &from).await?.boxed();
    let begun = Instant::now();
    jobs.create(&PostParams::default(), &job).await.context("failed to create the Job")?;
    let ended = async {
        while let Some(event) = events.try_next().await? {
            let (WatchEvent::Added(job) | WatchEvent::Modified(job)) = event else { continue };
            let status = job.status.unwrap_or_default();
            bench.progress.say(format!("{} of {completions} pods have succeeded", status.succeeded.unwrap_or(0)));
            let ended = status
                .conditions
                .unwrap_or_default()
                .into_iter()
                .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
            match ended {
                Some(c) if c.type_ == "Complete" => return Ok(()),
                Some(c) => bail!("the Job failed: {}", c.message.unwrap_or_default()),
                None => {}
            }
        }
        bail!("the watch of the Job ended")
    };
    tokio::time::timeout(bench.args.timeout, ended).await.context("the Job was not complete in time")??;
    let seconds = begun.elapsed().as_secs_f64();
    let rate = f64::from(completions) / seconds;
    report.one(format!("Job of {completions} pods, {parallelism} at a time"), rate, "pods/s");
    if let Some(mib) = bench.cluster.memory("VmHWM:") {
        report.one("memory of the process at most so far", mib, "MiB");
    }
    jobs.delete(NAME, &DeleteParams::background()).await?;
    Ok(())
}
