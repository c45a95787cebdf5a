//! Pods and the network of a rootless cluster: addresses, ports, and probes that go by them.

use std::net::IpAddr;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tool::wasm;

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/sockets:latest", wasm("sockets.wasm")).await.unwrap();
    cluster
}

fn pod(name: &str, args: &[&str], annotations: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "runtimeClassName": "wasm", "restartPolicy": "Never", "containers": [{
            "name": "main", "image": "localhost/sockets:latest", "imagePullPolicy": "Never", "args": args,
            "env": [{ "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
        }] },
    }))
    .unwrap()
}

fn ip(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Runs a client pod to its end; what it printed.
async fn client(cluster: &Cluster, name: &str, args: &[&str], annotations: Value) -> String {
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod(name, args, annotations)).await.unwrap();
    eventually!(["Succeeded", "Failed"].contains(&phase(&pods.get(name).await.unwrap())), "{name} ends");
    pods.logs(name, &Default::default()).await.unwrap()
}

async fn listening(pods: &Api<Pod>, name: &str) -> String {
    eventually!(
        pods.logs(name, &Default::default()).await.is_ok_and(|log| log.contains("listening")),
        "{name} listens"
    );
    // What it prints may be seen before its status is.
    eventually!(ip(&pods.get(name).await.unwrap()).is_some(), "{name} has an address");
    ip(&pods.get(name).await.unwrap()).unwrap()
}

/// As a process of the host.
async fn ask(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_pods_of_one_node_listen_on_port_80_and_are_reached_by_their_addresses() {
    let cluster = cluster().await;
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let name = |n: usize| format!("server-{n}");
    for n in 0..10 {
        pods.create(&PostParams::default(), &pod(&name(n), &["serve", "0.0.0.0:80"], json!({}))).await.unwrap();
    }
    let mut ips = Vec::new();
    for n in 0..10 {
        ips.push(listening(&pods, &name(n)).await);
        let status = pods.get(&name(n)).await.unwrap().status.unwrap();
        let all = status.pod_ips.unwrap_or_default();
        assert_eq!(all.iter().map(|ip| &ip.ip).collect::<Vec<_>>(), [&ips[n]]);
        assert!(ips[n].parse::<IpAddr>().unwrap().is_loopback());
    }
    let mut distinct = ips.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 10);
    // From another guest, each by its address.
    for (n, address) in ips.iter().enumerate() {
        let answer = client(&cluster, &format!("client-{n}"), &["get", &format!("{address}:80"), "/"], json!({})).await;
        let from = ip(&pods.get(&format!("client-{n}")).await.unwrap()).unwrap();
        let expected = format!("{} at {}:80 was asked by {from}:", name(n), address);
        assert!(answer.starts_with(&expected), "{answer:?}, not {expected:?}");
    }
    // From the host, where the host has the port as well.
    pods.create(&PostParams::default(), &pod("high", &["serve", "0.0.0.0:8080"], json!({}))).await.unwrap();
    let high = listening(&pods, "high").await;
    assert!(ask(&format!("{high}:8080")).await.contains(&format!("high at {high}:8080 was asked by 127.0.0.1:")));
    // Addresses are free again when their pods are gone.
    pods.delete(&name(3), &Default::default()).await.unwrap();
    eventually!(pods.get_opt(&name(3)).await.unwrap().is_none());
    let gone = client(&cluster, "late", &["connect", &format!("{}:80", ips[3])], json!({})).await;
    let own = ip(&pods.get("late").await.unwrap()).unwrap();
    assert_eq!(gone, format!("{}:80: connection refused\n", ips[3]), "it has {own}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_connection_is_told_by_an_event_and_the_api_server_is_reached_by_its_service() {
    let cluster = cluster().await;
    let annotations = json!({ "skiff.dev/network": "cluster" });
    let api = cluster.url().rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap();
    let node = format!("127.0.0.1:{api}");
    let targets = ["connect", &node, "127.0.0.2:80", "169.254.169.254:80", "192.0.2.1:80", "10.96.0.1:443"];
    let said = client(&cluster, "curious", &targets, annotations).await;
    let expected = format!(
        "{node}: connection refused\n127.0.0.2:80: permission denied\n169.254.169.254:80: permission denied\n\
         192.0.2.1:80: permission denied\n10.96.0.1:443: connected\n"
    );
    assert_eq!(said, expected);
    let events = Api::<Event>::default_namespaced(cluster.client());
    let of_pod = ListParams::default().fields("involvedObject.name=curious,reason=NetworkDenied");
    eventually!(!events.list(&of_pod).await.unwrap().items.is_empty());
    let told = events.list(&of_pod).await.unwrap().items;
    let [event] = &told[..] else { panic!("{told:?}") };
    assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.containers{main}"));
    assert!(event.message.as_deref().unwrap_or_default().contains("127.0.0.2:80"), "{event:?}");
    cluster.stop().await;
}

fn deployment(name: &str, port: u16, probes: &Value) -> Deployment {
    let mut container = json!({
        "name": "main", "image": "localhost/sockets:latest", "imagePullPolicy": "Never",
        "args": ["serve", format!("0.0.0.0:{port}")],
        "ports": [{ "name": "web", "containerPort": port }],
    });
    for (key, value) in probes.as_object().unwrap() {
        container[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "runtimeClassName": "wasm", "terminationGracePeriodSeconds": 0, "containers": [container] },
            },
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_go_by_the_pods_address_and_decide_what_is_available_and_what_restarts() {
    let cluster = cluster().await;
    let deployments = Api::<Deployment>::default_namespaced(cluster.client());
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let http = json!({ "httpGet": { "path": "/healthz", "port": "web" }, "periodSeconds": 1, "failureThreshold": 1 });
    let good =
        json!({ "startupProbe": { "tcpSocket": { "port": 80 } }, "readinessProbe": http, "livenessProbe": http });
    let nobody = json!({ "readinessProbe": { "tcpSocket": { "port": 81 }, "periodSeconds": 1 } });
    deployments.create(&PostParams::default(), &deployment("good", 80, &good)).await.unwrap();
    deployments.create(&PostParams::default(), &deployment("unready", 80, &nobody)).await.unwrap();
    let available = |d: &Deployment| d.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default();
    eventually!(available(&deployments.get("good").await.unwrap()) == 2);
    let events = Api::<Event>::default_namespaced(cluster.client());
    let unhealthy = ListParams::default().fields("reason=Unhealthy");
    let refused = |e: &Event| {
        let message = e.message.as_deref().unwrap_or_default();
        message.starts_with("Readiness probe failed: dial tcp 127.")
            && message.ends_with(":81: connect: connection refused")
    };
    eventually!(events.list(&unhealthy).await.unwrap().items.iter().any(refused));
    assert_eq!(available(&deployments.get("unready").await.unwrap()), 0);
    // One of them fails from now on: it is restarted, and well again.
    let selected = ListParams::default().labels("app=good");
    let first = pods.list(&selected).await.unwrap().items.remove(0);
    let name = first.metadata.name.clone().unwrap();
    client(&cluster, "saboteur", &["get", &format!("{}:80", ip(&first).unwrap()), "/fail"], json!({})).await;
    let restarts =
        |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?.first().map(|s| (s.restart_count, s.ready));
    eventually!(restarts(&pods.get(&name).await.unwrap()) == Some((1, true)), "{name} is restarted and ready");
    // HTTPS, to a host that is named: nobody signed its certificate for this. The API server is one.
    let port: u16 = cluster.url().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap();
    let https = json!({ "scheme": "HTTPS", "host": "127.0.0.1", "port": port, "path": "/livez" });
    let secure = json!({ "readinessProbe": { "httpGet": https, "periodSeconds": 1 } });
    deployments.create(&PostParams::default(), &deployment("secure", 80, &secure)).await.unwrap();
    eventually!(available(&deployments.get("secure").await.unwrap()) == 2);
    let failed =
        |e: &Event| e.message.as_deref() == Some("Liveness probe failed: HTTP probe failed with statuscode: 500");
    eventually!(events.list(&unhealthy).await.unwrap().items.iter().any(failed));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_1_server_serves_on_its_containers_port() {
    let cluster = cluster().await;
    cluster.load("localhost/listener:latest", wasm("listener.wasm")).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let mut server = pod("server", &[], json!({}));
    let main = &mut server.spec.as_mut().unwrap().containers[0];
    main.image = Some("localhost/listener:latest".to_owned());
    main.ports = serde_json::from_value(json!([{ "containerPort": 80 }])).unwrap();
    main.readiness_probe = serde_json::from_value(json!({ "httpGet": { "port": 80 }, "periodSeconds": 1 })).unwrap();
    pods.create(&PostParams::default(), &server).await.unwrap();
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    eventually!(ready(&pods.get("server").await.unwrap()));
    let at = format!("{}:80", ip(&pods.get("server").await.unwrap()).unwrap());
    assert_eq!(client(&cluster, "client", &["get", &at, "/x"], json!({})).await, "you asked: GET /x HTTP/1.1\n");
    cluster.stop().await;
}
