//! Manifests as the documentation of other systems has them, with images as their tools make them, through a registry: runwasi,
//! SpinKube, crun and Docker. Nothing in them is ours but the registry's name.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::json;
use skiff_testing::{Cluster, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    registry::{Blobs, Registry, digest},
    tool::{Kubectl, wasm},
};

const IMAGE: &str = "application/vnd.oci.image.config.v1+json";
const HELLO: &str = "hello.wasm";

/// A layer of ordinary images.
fn tar(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, path, bytes).unwrap();
    tar.into_inner().unwrap()
}

/// Images by tag.
#[derive(Default)]
struct Published {
    blobs: Blobs,
    tags: HashMap<String, String>,
}

impl Published {
    fn add(&mut self, tag: &str, config: (&str, &str), layers: &[(&str, Vec<u8>)]) {
        let manifest = self.blobs.manifest(config, layers);
        self.tags.insert(tag.to_owned(), manifest["digest"].as_str().unwrap().to_owned());
    }

    /// As `spin registry push` does, of two components.
    fn spin(&mut self, tag: &str, lab: Vec<u8>, hello: Vec<u8>) {
        let component = |id: &str, module: &[u8]| {
            let source = json!({ "content_type": "application/wasm", "digest": digest(module) });
            json!({ "id": id, "source": source, "env": { "WHO": id } })
        };
        let trigger = |id: &str, route: &str| {
            let config = json!({ "component": id, "executor": { "type": "http" }, "route": route });
            json!({ "id": format!("trigger--{id}"), "trigger_type": "http", "trigger_config": config })
        };
        let locked = json!({
            "spin_lock_version": 0,
            "metadata": { "name": "hello", "trigger": { "base": "/", "type": "http" } },
            "triggers": [trigger("lab", "/..."), trigger("hello", "/hello")],
            "components": [component("lab", &lab), component("hello", &hello)],
        });
        let module = "application/vnd.wasm.content.layer.v1+wasm";
        let layers = [
            (module, lab),
            (module, hello),
            ("application/vnd.fermyon.spin.application.v1+config", locked.to_string().into()),
        ];
        self.add(tag, (IMAGE, r#"{"architecture":"wasm","os":"Wasip1","config":{}}"#), &layers);
    }
}

fn manifests(host: &str) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: wasi-demo}}
spec:
  template:
    metadata: {{labels: {{app: wasi-demo}}}}
    spec:
      runtimeClassName: wasm
      restartPolicy: Never
      containers: [{{name: demo, image: "{host}/systems:runwasi", command: ["/wasi-demo-app.wasm", "one", "two"]}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: crun
  annotations: {{module.wasm.image/variant: compat}}
spec:
  restartPolicy: Never
  containers: [{{name: main, image: "{host}/systems:crun", command: ["/hello.wasm", "compat"]}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: smart
  annotations: {{module.wasm.image/variant: compat-smart}}
spec:
  restartPolicy: Never
  containers: [{{name: main, image: "{host}/systems:crun"}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: docker}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers: [{{name: main, image: "{host}/systems:docker"}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: wasm-spin}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: wasm-spin}}}}
  template:
    metadata: {{labels: {{app: wasm-spin}}}}
    spec:
      runtimeClassName: wasmtime-spin-v2
      containers:
      - name: spin-hello
        image: {host}/systems:spin
        command: ["/"]
        resources: {{limits: {{cpu: 500m, memory: 128Mi}}, requests: {{cpu: 100m, memory: 32Mi}}}}
"#
    )
}

async fn get(ip: &str, path: &str) -> String {
    let mut stream = TcpStream::connect((ip, 80)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_other_systems_run_as_they_are() {
    let read = |name: &str| std::fs::read(wasm(name)).unwrap();
    let mut published = Published::default();
    let component = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    let wasi = r#"{"architecture":"wasm","os":"wasip1","config":{"Entrypoint":["/hello.wasm"]}}"#;
    let linux = r#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/hello.wasm"],"Cmd":["smart"]}}"#;
    published.add("runwasi", (IMAGE, wasi), &[(component, read(HELLO))]);
    let layer = ("application/vnd.oci.image.layer.v1.tar", tar(HELLO, &read(HELLO)));
    published.add("crun", (IMAGE, linux), std::slice::from_ref(&layer));
    let docker = ("application/vnd.docker.image.rootfs.diff.tar", layer.1);
    let config = "application/vnd.docker.container.image.v1+json";
    published.add("docker", (config, &wasi.replace("wasm\",", "wasm32\",")), &[docker]);
    published.spin("spin", read("http-lab.wasm"), read("http-hello.wasm"));
    let registry = Registry::serve(published.blobs, published.tags, None).await;

    let cluster = Cluster::start().await.unwrap();
    let Some(k) = Kubectl::of(&cluster) else { return };
    k.ok_with(&["apply", "-f", "-"], &manifests(&registry.host)).await;
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let log = async |selector: &str| {
        let listed = pods.list(&ListParams::default().labels(selector)).await.unwrap().items;
        let name = listed[0].metadata.name.clone().unwrap();
        pods.logs(&name, &Default::default()).await.unwrap()
    };
    k.ok(&["wait", "--for=condition=complete", "job/wasi-demo", "--timeout=60s"]).await;
    assert!(log("app=wasi-demo").await.ends_with(": one two\n"), "{}", log("app=wasi-demo").await);
    for (name, expected) in [("crun", ": compat\n"), ("smart", ": smart\n"), ("docker", "hello from ")] {
        let phase = async || pods.get(name).await.unwrap().status.and_then(|status| status.phase);
        eventually!(phase().await.as_deref() == Some("Succeeded"), "{name} succeeds");
        let log = pods.logs(name, &Default::default()).await.unwrap();
        assert!(log.contains(expected), "{name}: {log}");
    }
    k.ok(&["rollout", "status", "deployment/wasm-spin", "--timeout=60s"]).await;
    let spin = pods.list(&ListParams::default().labels("app=wasm-spin")).await.unwrap().items;
    let ip = spin[0].status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap();
    assert!(get(&ip, "/env").await.contains("WHO=lab\n"), "{}", get(&ip, "/env").await);
    assert!(get(&ip, "/hello").await.starts_with("HTTP/1.0 200"), "the other component");
    cluster.stop().await;
}
