//! What a guest sees of files: volumes that follow the API, subPath and readOnly mounts.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};

use crate::tool::wat;

/// A pod of containers `(name, arguments, mounts)` of the files program.
fn pod(name: &str, volumes: Value, containers: &[(&str, &[&str], Value)]) -> Pod {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, args, mounts)| {
            json!({
                "name": name, "image": "localhost/files:latest", "imagePullPolicy": "Never", "args": args,
                "volumeMounts": mounts,
                "env": [{ "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
            })
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "color": "red" } },
        "spec": {
            "runtimeClassName": "wasm", "restartPolicy": "Never", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1, "volumes": volumes, "containers": containers,
        },
    }))
    .unwrap()
}

struct World {
    cluster: Cluster,
    pods: Api<Pod>,
    maps: Api<ConfigMap>,
    secrets: Api<Secret>,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start().await.unwrap();
        cluster.load("localhost/files:latest", wat("files.wat")).await.unwrap();
        let client = cluster.client();
        let pods = Api::default_namespaced(client.clone());
        let (maps, secrets) = (Api::default_namespaced(client.clone()), Api::default_namespaced(client));
        Self { cluster, pods, maps, secrets }
    }

    async fn map(&self, name: &str, value: &str) {
        let map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": value } });
        let apply = PatchParams::apply("test").force();
        self.maps.patch(name, &apply, &Patch::Apply(map)).await.unwrap();
    }

    async fn logs(&self, pod: &str, container: &str) -> String {
        let params = kube::api::LogParams { container: Some(container.to_owned()), ..Default::default() };
        self.pods.logs(pod, &params).await.unwrap_or_default()
    }

    async fn create(&self, pod: Pod) {
        self.pods.create(&PostParams::default(), &pod).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_objects_follow_the_api() {
    let world = World::start().await;
    world.map("map", "one\n").await;
    let secret = |value: &str| -> Secret {
        serde_json::from_value(json!({ "metadata": { "name": "secret" }, "stringData": { "s": value } })).unwrap()
    };
    let volumes = json!([
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "optional", "secret": { "secretName": "secret", "optional": true } },
        { "name": "all", "projected": { "sources": [
            { "configMap": { "name": "map" } },
            { "downwardAPI": { "items": [{ "path": "color", "fieldRef": { "fieldPath": "metadata.labels['color']" } }] } },
        ] } },
    ]);
    let map = || json!([{ "name": "map", "mountPath": "/map" }]);
    let pod = pod(
        "follower",
        volumes,
        &[
            ("map", &["follow", "/map/a"], map()),
            ("sub", &["follow", "/etc/a"], json!([{ "name": "map", "mountPath": "/etc/a", "subPath": "a" }])),
            ("optional", &["follow", "/secret/s"], json!([{ "name": "optional", "mountPath": "/secret" }])),
            ("both", &["follow", "/all/a"], json!([{ "name": "all", "mountPath": "/all" }])),
            ("labels", &["follow", "/all/color"], json!([{ "name": "all", "mountPath": "/all" }])),
        ],
    );
    world.create(pod).await;
    for (container, first) in
        [("map", "one\n"), ("sub", "one\n"), ("optional", "gone\n"), ("both", "one\n"), ("labels", "red\n")]
    {
        eventually!(world.logs("follower", container).await == first, "{container} begins");
    }

    let before = std::time::Instant::now();
    world.map("map", "two\n").await;
    eventually!(world.logs("follower", "map").await == "one\ntwo\n", "a ConfigMap's change arrives");
    assert!(before.elapsed().as_secs() < 5, "it took {:?}", before.elapsed());
    eventually!(world.logs("follower", "both").await == "one\ntwo\n", "in a projected volume as well");
    world.secrets.create(&PostParams::default(), &secret("here\n")).await.unwrap();
    eventually!(world.logs("follower", "optional").await == "gone\nhere\n", "an optional Secret appears");
    world.secrets.delete("secret", &DeleteParams::default()).await.unwrap();
    eventually!(world.logs("follower", "optional").await == "gone\nhere\ngone\n", "and disappears");
    let label = json!({ "metadata": { "labels": { "color": "blue" } } });
    world.pods.patch("follower", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    eventually!(world.logs("follower", "labels").await == "red\nblue\n", "the pod's own labels follow");
    // What is required stays as it was when it goes.
    world.maps.delete("map", &DeleteParams::default()).await.unwrap();
    world.map("map", "three\n").await;
    eventually!(world.logs("follower", "map").await == "one\ntwo\nthree\n", "it was never gone");
    assert_eq!(world.logs("follower", "sub").await, "one\n", "a subPath mount stays as it was");
    world.pods.delete("follower", &DeleteParams::default()).await.unwrap();
    eventually!(world.pods.get_opt("follower").await.unwrap().is_none());
    world.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_map_is_not_followed() {
    let world = World::start().await;
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "fixed" }, "immutable": true, "data": { "a": "one\n" },
    }))
    .unwrap();
    world.maps.create(&PostParams::default(), &map).await.unwrap();
    world.map("other", "one\n").await;
    for name in ["fixed", "other"] {
        let volumes = json!([{ "name": "map", "configMap": { "name": name } }]);
        let mounts = json!([{ "name": "map", "mountPath": "/map" }]);
        world.create(pod(name, volumes, &[("main", &["follow", "/map/a"], mounts)])).await;
        eventually!(world.logs(name, "main").await == "one\n", "{name} begins");
    }
    world.maps.delete("fixed", &DeleteParams::default()).await.unwrap();
    world.map("fixed", "two\n").await;
    // One watch tells both: when the later change has arrived, the earlier one has been passed over.
    world.map("other", "two\n").await;
    eventually!(world.logs("other", "main").await == "one\ntwo\n");
    assert_eq!(world.logs("fixed", "main").await, "one\n");
    world.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_paths_and_read_only_mounts() {
    let world = World::start().await;
    let volumes = json!([{ "name": "data", "emptyDir": {} }]);
    let mount = |extra: Value| {
        let mut mount = json!({ "name": "data", "mountPath": "/data" });
        mount.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([mount])
    };
    let writer: [(&str, &[&str], Value); 3] = [
        ("sub", &["write", "/data/x", "in a"], mount(json!({ "subPath": "a" }))),
        ("expr", &["write", "/data/y", "in expr"], mount(json!({ "subPathExpr": "$(POD)/deep" }))),
        ("read-only", &["write", "/data/z", "never"], mount(json!({ "readOnly": true }))),
    ];
    let mut pod = pod("paths", volumes, &writer);
    let spec = pod.spec.as_mut().unwrap();
    // Three writers first, then who reads what they wrote.
    let read = |name: &str, path: &str| {
        let mut container = spec.containers[0].clone();
        container.name = name.to_owned();
        container.args = Some(vec!["follow".to_owned(), path.to_owned()]);
        container.volume_mounts = serde_json::from_value(mount(json!({}))).unwrap();
        container
    };
    let readers = [read("a", "/data/a/x"), read("b", "/data/paths/deep/y")];
    spec.containers.extend(readers);
    world.create(pod).await;
    eventually!(world.logs("paths", "a").await.ends_with("in a\n"));
    eventually!(world.logs("paths", "b").await.ends_with("in expr\n"));
    let exit = |pod: Pod, name: &str| {
        let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
        statuses.into_iter().find(|s| s.name == name).and_then(|s| Some(s.state?.terminated?.exit_code))
    };
    eventually!(
        exit(world.pods.get("paths").await.unwrap(), "read-only") == Some(1),
        "a read-only mount takes nothing"
    );
    assert_eq!(exit(world.pods.get("paths").await.unwrap(), "sub"), Some(0));
    world.cluster.stop().await;
}
