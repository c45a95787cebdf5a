//! The verbs for machines without kubectl, against a cluster whose pods run; beside kubectl where there is one.

use std::process::Stdio;

use skiff_testing::Cluster;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::tool::{Done, Kubectl, finish, root, wat};

/// The `skiff` command with the kubeconfig of a cluster.
pub fn skiff(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", cluster.dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(cluster: &Cluster, args: &[&str], stdin: &str) -> Done {
    finish(skiff(cluster, args), stdin).await
}

async fn ok(cluster: &Cluster, args: &[&str]) -> String {
    let done = run(cluster, args, "").await;
    assert!(done.ok, "skiff {args:?} failed:\n{}{}", done.stdout, done.stderr);
    done.stdout
}

async fn fails(cluster: &Cluster, args: &[&str], stdin: &str) -> String {
    let done = run(cluster, args, stdin).await;
    assert!(!done.ok, "skiff {args:?} did not fail:\n{}{}", done.stdout, done.stderr);
    done.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_applied_waited_for_read_and_deleted() {
    let cluster = Cluster::start().await.unwrap();
    let c = &cluster;
    let manifest = root().join("manifests/hello.yaml");
    let manifest = manifest.to_str().unwrap();
    assert_eq!(
        ok(c, &["apply", "-f", manifest]).await,
        "job.batch/hello serverside-applied\ndeployment.apps/ticker serverside-applied\n"
    );
    let met = ok(c, &["wait", "job/hello", "deploy/ticker", "--for=create", "--timeout=60s"]).await;
    assert_eq!(met.lines().count(), 2, "{met}");
    assert_eq!(
        ok(c, &["wait", "job/hello", "--for=condition=complete", "--timeout=120s"]).await,
        "job.batch/hello condition met\n"
    );
    ok(c, &["wait", "deploy", "ticker", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=120s"]).await;

    let jobs = ok(c, &["get", "jobs"]).await;
    assert!(jobs.starts_with("NAME    STATUS     COMPLETIONS   DURATION   AGE\nhello   Complete   20/20"), "{jobs}");
    let succeeded =
        ok(c, &["get", "pods", "-l", "job-name=hello", "--field-selector", "status.phase=Succeeded", "-o", "name"])
            .await;
    assert_eq!(succeeded.lines().count(), 20);
    let path = "jsonpath={range .items[*]}{.status.containerStatuses[0].state.terminated.exitCode}{end}";
    assert_eq!(ok(c, &["get", "pods", "-l", "job-name=hello", "-o", path, "--chunk-size=7"]).await, "0".repeat(20));
    let logs = ok(c, &["logs", "-l", "job-name=hello", "--tail=-1", "--prefix"]).await;
    assert_eq!(logs.lines().filter(|l| l.starts_with("[pod/hello-") && l.contains("from a Job")).count(), 20, "{logs}");

    let page = ok(c, &["describe", "job", "hello"]).await;
    assert!(page.contains("0 Active (0 Ready) / 20 Succeeded / 0 Failed"), "{page}");
    assert!(page.contains("SuccessfulCreate") && page.contains("Completed"), "{page}");
    let page = ok(c, &["describe", "pods", "ticker-"]).await;
    assert_eq!(page.matches("Controlled By:    ReplicaSet/ticker-").count(), 3, "{page}");
    assert!(ok(c, &["describe", "node"]).await.contains("Allocated resources:"));

    let gone = ok(c, &["delete", "-f", manifest, "--cascade=foreground"]).await;
    assert!(gone.starts_with("job.batch \"hello\" deleted from default namespace\n"), "{gone}");
    let left = run(c, &["get", "jobs,deploy"], "").await;
    assert_eq!((left.stdout.as_str(), left.stderr.as_str()), ("", "No resources found in default namespace.\n"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_changes() {
    let cluster = Cluster::start().await.unwrap();
    let mut watch = skiff(&cluster, &["get", "cm", "-w", "-l", "app=x"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, labels: {app: x}}\ndata: {a: b}\n";
    // The watch may begin before or after: it shows the object in either case.
    assert!(run(&cluster, &["create", "-f", "-"], manifest).await.ok);
    let next = tokio::time::timeout(skiff_testing::patience(), async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the watch ended");
            if line.starts_with("seen") {
                return line;
            }
        }
    });
    assert!(next.await.unwrap().starts_with("seen"));
    watch.kill().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_as_kubectl_tells_them() {
    let cluster = Cluster::start().await.unwrap();
    let c = &cluster;
    assert_eq!(fails(c, &["get", "pod", "nope"], "").await, "Error from server (NotFound): pods \"nope\" not found\n");
    assert_eq!(
        fails(c, &["get", "nothings"], "").await,
        "error: the server doesn't have a resource type \"nothings\"\n"
    );
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n";
    assert_eq!(
        fails(c, &["create", "-f", "-"], bad).await,
        "The Pod \"p\" is invalid: spec.containers[0].image: Required value\n"
    );
    // A manifest's own namespace counts, and its object has to have a name.
    let elsewhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: far, namespace: kube-public}\n";
    assert!(run(c, &["create", "-f", "-"], elsewhere).await.ok);
    assert_eq!(run(c, &["get", "-f", "-", "-o", "name"], elsewhere).await.stdout, "configmap/far\n");
    let page = run(c, &["describe", "-f", "-"], elsewhere).await.stdout;
    assert!(page.contains("kube-public"), "{page}");
    let nameless = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x-}\n";
    assert!(fails(c, &["get", "-f", "-"], nameless).await.contains("metadata.name is missing"));
    let unknown = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndatas: {}\n";
    assert!(fails(c, &["apply", "-f", "-"], unknown).await.contains("datas"));
    assert!(fails(c, &["delete", "cm"], "").await.contains("no name was specified"));
    let late = fails(c, &["wait", "ns/default", "--for=condition=Ready", "--timeout=50ms"], "").await;
    assert_eq!(late, "error: timed out waiting for the condition on namespaces/default\n");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_kubectls_to_the_letter() {
    let cluster = Cluster::start().await.unwrap();
    let Some(kubectl) = Kubectl::of(&cluster) else { return };
    cluster.load("localhost/sleep:latest", wat("sleep.wat")).await.unwrap();
    let c = &cluster;
    ok(c, &["create", "deployment", "web", "--image=localhost/sleep:latest", "--replicas=2"]).await;
    ok(c, &["create", "cm", "map", "--from-literal=a=b"]).await;
    for args in [
        &["get", "cm,sa"][..],
        &["get", "ns", "-o", "name"],
        &[
            "get",
            "deploy,rs",
            "-o",
            "custom-columns=NAME:.metadata.name,IMAGES:.spec.template.spec.containers[*].image",
        ],
        &["get", "cm", "map", "-o", "jsonpath={.data.a} {.metadata.name}"],
        &["get", "cm", "map", "-o", "json"],
        &["get", "clusterroles,leases", "-A", "--show-labels", "--no-headers"],
        &["get", "nodes", "--show-kind"],
    ] {
        // Ages move: a second look is fair.
        let mut pair = (String::new(), String::from("-"));
        for _ in 0..5 {
            pair = (ok(c, args).await, kubectl.ok(args).await);
            if pair.0 == pair.1 {
                break;
            }
        }
        assert_eq!(pair.0, pair.1, "{args:?}");
    }
    cluster.stop().await;
}
