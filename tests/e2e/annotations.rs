//! What a pod's annotations ask for, seen in its status: features of its module, a prepared start, an end in time.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

/// Needs a feature that is off, and ends with 5.
const WIDE: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 0)
  (func (export "_start") (local $high i64)
    (local.set $high (i64.mul_wide_u (i64.const -1) (i64.const 6)))
    (drop) (call $exit (i32.wrap_i64 (local.get $high)))))"#;
/// Ends with what was prepared.
const PREPARED: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
  (func (export "prepare") (i32.store (i32.const 0) (i32.const 7)))
  (func (export "_start") (call $exit (i32.load (i32.const 0)))))"#;
const ENDLESS: &str = r#"(module (memory (export "memory") 0) (func (export "_start") (loop (br 0))))"#;

struct Stories {
    cluster: Cluster,
    pods: Api<Pod>,
}

impl Stories {
    async fn create(&self, name: &str, text: &str, annotations: Value) {
        let (file, image) = (self.cluster.dir().join("module.wat"), format!("localhost/{name}:latest"));
        std::fs::write(&file, text).unwrap();
        self.cluster.load(&image, &file).await.unwrap();
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": annotations },
            "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never",
                      "containers": [{ "name": "main", "image": image, "imagePullPolicy": "Never" }] },
        }));
        self.pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    }

    async fn ended(&self, name: &str) -> Option<ContainerStateTerminated> {
        let status = self.pods.get(name).await.unwrap().status?.container_statuses?;
        status.first()?.state.clone()?.terminated
    }

    async fn waits(&self, name: &str) -> String {
        let status = self.pods.get(name).await.unwrap().status.and_then(|status| status.container_statuses);
        let waiting = status.and_then(|all| all.first()?.state.clone()?.waiting);
        waiting.and_then(|waiting| waiting.message).unwrap_or_default()
    }

    async fn code(&self, name: &str) -> (i32, String) {
        eventually!(self.ended(name).await.is_some(), "{name} ends; it waits for {:?}", self.waits(name).await);
        let ended = self.ended(name).await.unwrap();
        (ended.exit_code, ended.reason.unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_change_how_a_pods_programs_run() {
    let cluster = Cluster::start().await.unwrap();
    let stories = Stories { pods: Api::default_namespaced(cluster.client()), cluster };
    stories.create("narrow", WIDE, json!({})).await;
    stories.create("wide", WIDE, json!({ "skiff.dev/wasm-features": "wide-arithmetic" })).await;
    stories.create("unprepared", PREPARED, json!({})).await;
    stories.create("prepared", PREPARED, json!({ "skiff.dev/snapshot": "prepare" })).await;
    stories.create("endless", ENDLESS, json!({ "skiff.dev/wall-time": "500ms" })).await;
    let error = |code| (code, "Error".to_owned());
    assert_eq!(stories.code("wide").await, error(5));
    assert_eq!(stories.code("unprepared").await, (0, "Completed".to_owned()));
    assert_eq!(stories.code("prepared").await, error(7));
    assert_eq!(stories.code("endless").await, (137, "DeadlineExceeded".to_owned()));
    let advice = "set the pod's annotation skiff.dev/wasm-features to \"wide-arithmetic\"";
    eventually!(stories.waits("narrow").await.contains(advice), "what to do is said");
    stories.cluster.stop().await;
}
