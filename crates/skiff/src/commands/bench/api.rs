//! The API by itself: creates and reads of ConfigMaps, a long list of pods, the delay of a watch.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client,
    api::{PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use super::{
    Bench,
    report::{Report, histogram, record},
};

/// Whole lists that are read.
const LISTS: usize = 10;
/// Writes whose arrival at a watcher is measured.
const WATCHED: usize = 200;

pub async fn measure(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let args = bench.args;
    bench.progress.say("creating ConfigMaps, one after the other");
    let begun = Instant::now();
    let times = create_maps(&bench.client, &bench.namespace, "sequential", args.creates).await?;
    report.times("create a ConfigMap, 1 connection", times, begun.elapsed());

    bench.progress.say("reading ConfigMaps");
    let maps = Api::<ConfigMap>::namespaced(bench.client.clone(), &bench.namespace);
    let (mut times, begun) = (histogram(), Instant::now());
    for n in 0..args.creates {
        let one = Instant::now();
        maps.get(&format!("sequential-{n}")).await?;
        record(&mut times, one.elapsed());
    }
    report.times("get a ConfigMap, 1 connection", times, begun.elapsed());

    watch_delay(bench, report).await?;

    bench.progress.say(format!("creating ConfigMaps through {} connections", args.connections));
    let clients = clients(bench).await?;
    let begun = Instant::now();
    let creators = clients.iter().enumerate().map(|(n, client)| {
        let (client, namespace, creates) = (client.clone(), bench.namespace.clone(), args.creates);
        tokio::spawn(async move { create_maps(&client, &namespace, &format!("parallel-{n}"), creates).await })
    });
    let times = collect(futures::future::try_join_all(creators).await?)?;
    report.times(format!("create a ConfigMap, {} connections", args.connections), times, begun.elapsed());

    list_pods(bench, &clients, report).await
}

/// One client per connection: they share nothing.
async fn clients(bench: &Bench<'_>) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(bench.args.connections);
    for _ in 0..bench.args.connections {
        let client = bench.cluster.client().await?;
        // The handshake is not part of what is measured.
        client.apiserver_version().await?;
        clients.push(client);
    }
    Ok(clients)
}

async fn create_maps(client: &Client, namespace: &str, prefix: &str, count: usize) -> Result<Histogram<u64>> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let mut times = histogram();
    for n in 0..count {
        let map: ConfigMap = serde_json::from_value(json!({
            "metadata": { "name": format!("{prefix}-{n}") },
            "data": { "key": "a value of ordinary length, as configuration has it" },
        }))?;
        let one = Instant::now();
        maps.create(&PostParams::default(), &map).await.context("failed to create a ConfigMap")?;
        record(&mut times, one.elapsed());
    }
    Ok(times)
}

fn collect(parts: Vec<Result<Histogram<u64>>>) -> Result<Histogram<u64>> {
    let mut all = histogram();
    for part in parts {
        all.add(part?)?;
    }
    Ok(all)
}

/// From sending a write until a watcher on another connection has the event.
async fn watch_delay(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    bench.progress.say("watching");
    let watcher = Api::<ConfigMap>::namespaced(bench.cluster.client().await?, &bench.namespace);
    let from = watcher.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().disable_bookmarks();
    let mut events = watcher.watch(&params, &from).await?.boxed();
    let maps = Api::<ConfigMap>::namespaced(bench.client.clone(), &bench.namespace);
    let (mut times, begun) = (histogram(), Instant::now());
    for n in 0..WATCHED {
        let name = format!("watched-{n}");
        let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        let sent = Instant::now();
        let write = async { maps.create(&PostParams::default(), &map).await.map_err(anyhow::Error::from) };
        let seen = async {
            loop {
                match tokio::time::timeout(bench.args.timeout, events.try_next()).await?? {
                    Some(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some(&name) => {
                        return Ok(sent.elapsed());
                    }
                    Some(_) => {}
                    None => anyhow::bail!("the watch ended"),
                }
            }
        };
        let (_, delay) = tokio::try_join!(write, seen)?;
        record(&mut times, delay);
    }
    report.times("watch: write sent to event seen", times, begun.elapsed());
    Ok(())
}

/// Pods for a scheduler that nobody runs: objects like any other, but of the size that pods have.
async fn list_pods(bench: &Bench<'_>, clients: &[Client], report: &mut Report) -> Result<()> {
    let count = bench.args.listed_pods;
    bench.progress.say(format!("creating {count} pods that nobody schedules"));
    let begun = Instant::now();
    let creators = clients.iter().enumerate().map(|(n, client)| {
        let pods = Api::<Pod>::namespaced(client.clone(), &bench.namespace);
        let own = (n..count).step_by(clients.len());
        tokio::spawn(async move {
            let mut times = histogram();
            for n in own {
                let pod = idle_pod(&format!("listed-{n}"))?;
                let one = Instant::now();
                pods.create(&PostParams::default(), &pod).await.context("failed to create a pod")?;
                record(&mut times, one.elapsed());
            }
            Ok(times)
        })
    });
    let times = collect(futures::future::try_join_all(creators).await?)?;
    report.times(format!("create a pod, {} connections", clients.len()), times, begun.elapsed());

    bench.progress.say("listing pods");
    let uri = format!("/api/v1/namespaces/{}/pods?labelSelector=bench%3Dlisted", bench.namespace);
    let (mut times, mut bytes, mut all) = (histogram(), 0, Duration::ZERO);
    for _ in 0..LISTS {
        let one = Instant::now();
        let body = bench.client.request_text(Request::get(&uri).body(Vec::new())?).await?;
        let took = one.elapsed();
        record(&mut times, took);
        all += took;
        bytes = body.len();
        let list: Value = serde_json::from_str(&body)?;
        let found = list["items"].as_array().map_or(0, Vec::len);
        ensure!(found == count, "the list has {found} pods instead of {count}");
    }
    report.times(format!("list {count} pods ({:.1} MB)", bytes as f64 / 1e6), times, all);
    Ok(())
}

fn idle_pod(name: &str) -> Result<Pod> {
    let labels: HashMap<&str, &str> = [("bench", "listed"), ("app", "web"), ("tier", "front")].into();
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "schedulerName": "nobody",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "web", "image": "localhost/web:latest",
                "env": [{ "name": "MODE", "value": "bench" }],
                "ports": [{ "containerPort": 8080 }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            }],
        },
    }))?)
}
