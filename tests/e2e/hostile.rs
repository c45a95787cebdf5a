//! One guest for each limit that tries to break it (`wasm-examples/hostile`): it ends, or is held, as its README says, and its
//! neighbours go on. What they notice is measured and printed.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use tokio::io::AsyncWriteExt as _;

use crate::tool::{Kubectl, root, wasm, wat};

/// Neighbours that are started beside each hostile guest.
const NEIGHBOURS: usize = 12;
/// None of them may take longer; machines that run tests are noisy, so this is far above what is measured.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(15);

enum End {
    /// The container ends with this code and reason, and says this.
    Exits(i32, &'static str, &'static str),
    /// The pod is evicted, and says this.
    Evicted(&'static str),
    /// It is still there when its neighbours are done, and goes when it is deleted.
    Runs,
}

struct Row {
    program: &'static str,
    name: &'static str,
    /// Of the container, and of the pod's volumes.
    container: Value,
    volumes: Value,
    annotations: Value,
    end: End,
}

fn row(program: &'static str, name: &'static str, container: Value, end: End) -> Row {
    Row { program, name, container, volumes: json!([]), annotations: json!({}), end }
}

fn limits(name: &str, value: &str) -> Value {
    json!({ "resources": { "limits": { name: value } } })
}

fn rows() -> Vec<Row> {
    let in_volume = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let mut volume = row(
        "disk-bomb",
        "volume-bomb",
        in_volume,
        End::Evicted(r#"Usage of EmptyDir volume "v" exceeds the limit "2Mi". "#),
    );
    volume.volumes = json!([{ "name": "v", "emptyDir": { "sizeLimit": "2Mi" } }]);
    let mut late = row("infinite-loop", "wall-time", json!({}), End::Exits(137, "DeadlineExceeded", "wall time of 1s"));
    late.annotations = json!({ "skiff.dev/wall-time": "1s" });
    vec![
        late,
        row("memory-bomb", "memory-bomb", limits("memory", "64Mi"), End::Exits(137, "OOMKilled", "67108864")),
        row("table-bomb", "table-bomb", limits("memory", "1Mi"), End::Exits(137, "OOMKilled", "1048576")),
        row("infinite-loop", "infinite-loop", json!({}), End::Runs),
        row("infinite-recursion", "infinite-recursion", json!({}), End::Exits(139, "Error", "stack overflow")),
        row("fill-storm", "fill-storm", json!({}), End::Runs),
        row("host-call-storm", "host-call-storm", json!({}), End::Runs),
        row("random-flood", "random-flood", json!({}), End::Runs),
        row("poll-bomb", "poll-bomb", json!({}), End::Exits(134, "Error", "2048 handles")),
        row("fd-exhaustion", "fd-exhaustion", json!({}), End::Exits(33, "Error", "")),
        row("log-flood", "log-flood", json!({}), End::Runs),
        row(
            "log-flood",
            "log-bomb",
            limits("ephemeral-storage", "4Mi"),
            End::Evicted(r#"Container main exceeded its local ephemeral storage limit "4Mi". "#),
        ),
        row(
            "disk-bomb",
            "disk-bomb",
            limits("ephemeral-storage", "2Mi"),
            End::Evicted(r#"Container main exceeded its local ephemeral storage limit "2Mi". "#),
        ),
        volume,
        row("sockets", "socket-storm", json!({ "args": ["storm"] }), End::Runs),
        row("sockets", "socket-hoard", json!({ "args": ["hoard"] }), End::Exits(0, "Completed", "")),
        row(
            "sockets",
            "port-scan",
            json!({ "args": ["scan", "127.0.0.2", "169.254.169.254"] }),
            End::Exits(0, "Completed", ""),
        ),
        {
            let container = json!({ "args": ["fields"], "resources": { "limits": { "memory": "16Mi" } } });
            row("host-memory", "host-memory", container, End::Exits(137, "OOMKilled", "16777216"))
        },
        row("path-escape", "path-escape", json!({}), End::Exits(0, "Completed", "")),
    ]
}

fn pod(name: &str, image: &str, container: &Value, volumes: &Value) -> Pod {
    let mut main = json!({ "name": "main", "image": image, "imagePullPolicy": "Never" });
    main.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "runtimeClassName": "wasm", "restartPolicy": "Never", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0, "volumes": volumes, "containers": [main],
        },
    }))
    .unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// From the request that makes a pod to the news that it has succeeded.
async fn neighbour(pods: &Api<Pod>, name: &str) -> Duration {
    let before = Instant::now();
    let pod = pod(name, "localhost/hello:latest", &json!({}), &json!([]));
    let made = pods.create(&PostParams::default(), &pod).await.unwrap();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let watch = pods.watch(&params, &made.resource_version().unwrap()).await.unwrap();
    let mut events = std::pin::pin!(watch);
    while let Some(event) = events.try_next().await.unwrap() {
        if matches!(&event, WatchEvent::Modified(pod) if phase(pod) == "Succeeded") {
            break;
        }
    }
    let took = before.elapsed();
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    took
}

/// Prints a line, and gives the slowest.
async fn neighbours(pods: &Api<Pod>, beside: &str) -> Duration {
    let mut times = Vec::new();
    for index in 0..NEIGHBOURS {
        times.push(neighbour(pods, &format!("beside-{beside}-{index}")).await);
    }
    times.sort_unstable();
    let (median, slowest) = (times[NEIGHBOURS / 2], times[NEIGHBOURS - 1]);
    eprintln!("beside {beside:<20} neighbour's create → Succeeded: p50 {median:>9.1?}  p99 {slowest:>9.1?}");
    slowest
}

async fn check(pods: &Api<Pod>, row: &Row) {
    let name = row.name;
    let get = || async { pods.get(name).await.unwrap() };
    match row.end {
        End::Runs => {
            let pod = get().await;
            assert_eq!(phase(&pod), "Running", "{name}: {:?}", pod.status);
            pods.delete(name, &DeleteParams::default()).await.unwrap();
            eventually!(pods.get_opt(name).await.unwrap().is_none(), "{name} goes");
        }
        End::Exits(code, reason, says) => {
            eventually!(matches!(phase(&get().await), "Succeeded" | "Failed"), "{name} ends");
            let status = get().await.status.unwrap().container_statuses.unwrap().remove(0);
            let end = status.state.unwrap().terminated.unwrap();
            assert_eq!((end.exit_code, end.reason.as_deref()), (code, Some(reason)), "{name}: {end:?}");
            assert!(end.message.clone().unwrap_or_default().contains(says), "{name}: {end:?}");
        }
        End::Evicted(says) => {
            eventually!(phase(&get().await) == "Failed", "{name} ends");
            let status = get().await.status.unwrap();
            assert_eq!(status.reason.as_deref(), Some("Evicted"), "{name}: {status:?}");
            assert_eq!(status.message.as_deref(), Some(says), "{name}");
        }
    }
}

async fn world(names: &[&str]) -> (Cluster, Api<Pod>) {
    fill(Cluster::start().await.unwrap(), names).await
}

async fn fill(cluster: Cluster, names: &[&str]) -> (Cluster, Api<Pod>) {
    cluster.load("localhost/hello:latest", wat("hello.wat")).await.unwrap();
    for name in names {
        let path = match *name {
            "sockets" | "wasi3-net" => wasm(&format!("{name}.wasm")),
            "host-memory" => root().join("wasm-examples/hostile/host-memory.wasm"),
            name => root().join(format!("wasm-examples/hostile/{name}.wat")),
        };
        cluster.load(&format!("localhost/{name}:latest"), path).await.unwrap();
    }
    let pods = Api::default_namespaced(cluster.client());
    (cluster, pods)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_holds_and_neighbours_go_on() {
    let rows = rows();
    let (cluster, pods) = world(&rows.iter().map(|row| row.program).collect::<Vec<_>>()).await;
    neighbours(&pods, "nothing").await;
    all(&pods, &rows).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_wasi_0_3_meet_the_same_limits() {
    let cluster = Cluster::with(|options| options.wasi_0_3 = true).await.unwrap();
    let (cluster, pods) = fill(cluster, &["wasi3-net"]).await;
    let mut bomb = limits("ephemeral-storage", "2Mi");
    bomb["args"] = json!(["fill"]);
    let rows = [
        row("wasi3-net", "scan-0.3", json!({ "args": ["scan", "127.0.0.2"] }), End::Exits(0, "Completed", "")),
        row(
            "wasi3-net",
            "disk-bomb-0.3",
            bomb,
            End::Evicted(r#"Container main exceeded its local ephemeral storage limit "2Mi". "#),
        ),
    ];
    all(&pods, &rows).await;
    cluster.stop().await;
}

async fn all(pods: &Api<Pod>, rows: &[Row]) {
    for row in rows {
        let image = format!("localhost/{}:latest", row.program);
        let mut hostile = pod(row.name, &image, &row.container, &row.volumes);
        hostile.metadata.annotations = serde_json::from_value(row.annotations.clone()).unwrap();
        pods.create(&PostParams::default(), &hostile).await.unwrap();
        eventually!(phase(&pods.get(row.name).await.unwrap()) != "Pending", "{} starts", row.name);
        let slowest = neighbours(pods, row.name).await;
        assert!(slowest < NEIGHBOUR_PATIENCE, "beside {}: {slowest:?}", row.name);
        check(pods, row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_evicted_for_what_its_containers_take_together() {
    let (cluster, pods) = world(&["disk-bomb"]).await;
    let mut two = pod(
        "together",
        "localhost/disk-bomb:latest",
        &limits("ephemeral-storage", "1Mi"),
        &json!([
            { "name": "v", "emptyDir": {} },
        ]),
    );
    let containers = &mut two.spec.as_mut().unwrap().containers;
    // It writes to a volume without a limit of its own: no container is over its own.
    containers[0].volume_mounts = serde_json::from_value(json!([{ "name": "v", "mountPath": "/v" }])).unwrap();
    pods.create(&PostParams::default(), &two).await.unwrap();
    eventually!(phase(&pods.get("together").await.unwrap()) == "Failed");
    let status = pods.get("together").await.unwrap().status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Evicted"), "{status:?}");
    let says = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    assert_eq!(status.message.as_deref(), Some(says));
    cluster.stop().await;
}

/// A function that is small to write and dear to compile.
fn compile_bomb(loops: usize, locals: usize) -> String {
    let mut text = format!("(module (func (export \"_start\") (local {})\n", "i32 ".repeat(locals));
    text.push_str(&"(loop ".repeat(loops));
    for local in 0..locals {
        text.push_str(&format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))\n"));
    }
    for depth in 0..loops {
        text.push_str(&format!("(br_if 0 (local.get {})))\n", depth % locals));
    }
    text + "))"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_is_refused_or_compiled_beside_everything_else() {
    let (cluster, pods) = world(&[]).await;
    let write = |name: &str, text: String| {
        let path = cluster.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let huge = write("huge.wat", compile_bomb(2_000, 20_000));
    let refused = cluster.load("localhost/huge:latest", &huge).await.unwrap_err();
    assert!(format!("{refused:#}").contains("locals"), "{refused:#}");
    let dear = write("dear.wat", compile_bomb(50, 1_000));
    let (loaded, slowest) =
        tokio::join!(cluster.load("localhost/dear:latest", &dear), neighbours(&pods, "compile-bomb"));
    loaded.unwrap();
    assert!(slowest < NEIGHBOUR_PATIENCE, "{slowest:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_without_end_is_read_as_it_comes() {
    let (cluster, pods) = world(&["stdin-endless"]).await;
    let Some(kubectl) = Kubectl::of(&cluster) else { return cluster.stop().await };
    let stdin = json!({ "stdin": true, "resources": { "limits": { "memory": "4Mi" } } });
    pods.create(&PostParams::default(), &pod("stdin", "localhost/stdin-endless:latest", &stdin, &json!([])))
        .await
        .unwrap();
    eventually!(phase(&pods.get("stdin").await.unwrap()) == "Running");
    let mut child = kubectl.command(&["attach", "-i", "stdin"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeder = tokio::spawn(async move {
        let (chunk, mut fed) = (vec![b'x'; 64 << 10], 0_u64);
        while input.write_all(&chunk).await.is_ok() {
            fed += 64 << 10;
        }
        fed
    });
    let slowest = neighbours(&pods, "stdin-endless").await;
    assert!(slowest < NEIGHBOUR_PATIENCE, "{slowest:?}");
    assert_eq!(phase(&pods.get("stdin").await.unwrap()), "Running");
    pods.delete("stdin", &DeleteParams::default()).await.unwrap();
    eventually!(pods.get_opt("stdin").await.unwrap().is_none());
    child.kill().await.unwrap();
    let fed = feeder.await.unwrap();
    println!("the guest was offered {} MiB", fed >> 20);
    assert!(fed > 1 << 20, "it read more than buffers hold: {fed}");
    cluster.stop().await;
}
