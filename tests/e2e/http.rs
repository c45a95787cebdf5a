//! HTTP servers as their users have them: pods of a Deployment behind their addresses, asked by processes of the host and by
//! other pods.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use skiff_testing::{Cluster, eventually};
use tokio::net::TcpStream;

use crate::tool::{wasm, wat};

const PORT: u16 = 8080;

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await.unwrap();
    cluster.load("localhost/lab:latest", wasm("http-lab.wasm")).await.unwrap();
    cluster
}

fn template(image: &str, annotations: &Value) -> Value {
    json!({
        "metadata": { "labels": { "app": "web" }, "annotations": annotations },
        "spec": { "runtimeClassName": "wasm", "containers": [{
            "name": "main", "image": image, "imagePullPolicy": "Never", "ports": [{ "containerPort": PORT }],
            "readinessProbe": { "httpGet": { "path": "/", "port": PORT }, "periodSeconds": 1 },
        }] },
    })
}

fn pod(name: &str, annotations: &Value) -> Pod {
    let mut pod = template("localhost/lab:latest", annotations);
    pod["metadata"]["name"] = json!(name);
    serde_json::from_value(pod).unwrap()
}

/// Its address, once it is ready.
fn ready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    status.pod_ip.clone().filter(|_| ready)
}

async fn run(cluster: &Cluster, name: &str, annotations: Value) -> String {
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod(name, &annotations)).await.unwrap();
    eventually!(ready(&pods.get(name).await.unwrap()).is_some(), "{name} is ready");
    ready(&pods.get(name).await.unwrap()).unwrap()
}

/// As a process of the host, over HTTP/1.1.
async fn get(ip: &str, path: &str) -> (StatusCode, String) {
    let stream = TcpStream::connect((ip, PORT)).await.unwrap();
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", ip).body(Full::<Bytes>::default()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_servers_of_a_deployment_listen_on_one_port_and_finish_their_requests_when_they_are_deleted() {
    let cluster = cluster().await;
    let deployments = Api::<Deployment>::default_namespaced(cluster.client());
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 10, "selector": { "matchLabels": { "app": "web" } },
            "template": template("localhost/lab:latest", &json!({})),
        },
    }))
    .unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let available = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas);
    eventually!(available(&deployments.get("web").await.unwrap()) == Some(10), "all are ready, as their probes say");
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    let ips: Vec<_> = all.iter().filter_map(ready).collect();
    assert_eq!(ips.len(), 10);
    for ip in &ips {
        assert_eq!(get(ip, "/").await, (StatusCode::OK, "hello\n".to_owned()));
    }
    // A request that is under way when its pod is deleted is answered.
    let ip = ips[0].clone();
    let under_way = tokio::spawn(async move { get(&ip, "/wait?2").await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    assert_eq!(under_way.await.unwrap(), (StatusCode::OK, "waited\n".to_owned()));
    eventually!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(TcpStream::connect((ips[0].as_str(), PORT)).await.is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_trailers_go_through_the_pods_address() {
    let cluster = cluster().await;
    let ip = run(&cluster, "web", json!({})).await;
    let stream = TcpStream::connect((ip.as_str(), PORT)).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "3".parse().unwrap())].into_iter().collect();
    let body = Full::new(Bytes::from_static(b"one two three"));
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    let request = Request::post(format!("http://{ip}/echo")).body(body).unwrap();
    let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "3");
    assert_eq!(answer.to_bytes(), "one two three");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_answered_with_500_and_told_in_the_log() {
    let cluster = cluster().await;
    let ip = run(&cluster, "web", json!({})).await;
    assert_eq!(get(&ip, "/trap").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(get(&ip, "/log?seen").await.0, StatusCode::OK);
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let log = pods.logs("web", &Default::default()).await.unwrap();
    assert!(log.contains("request GET /trap failed") && log.contains("unreachable"), "{log}");
    assert!(log.contains("told: seen"), "{log}");
    let status = pods.get("web").await.unwrap().status.unwrap().container_statuses.unwrap();
    assert_eq!(status[0].restart_count, 0, "the server stayed");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sends_requests_to_other_pods_and_not_to_the_node() {
    let cluster = cluster().await;
    cluster.load("localhost/text:latest", wat("http-handler.wat")).await.unwrap();
    let server = run(&cluster, "server", json!({})).await;
    let client = run(&cluster, "client", json!({ "skiff.dev/network": "cluster" })).await;
    let fetch = async |url: &str| get(&client, &format!("/fetch?{url}")).await;
    assert_eq!(fetch(&format!("http://{server}:{PORT}/count")).await, (StatusCode::OK, "1\n".to_owned()));
    // By name, and what the other answers with comes through.
    assert_eq!(fetch(&format!("http://localhost:{PORT}/")).await, (StatusCode::OK, "hello\n".to_owned()));
    assert_eq!(fetch(&format!("http://{server}:{PORT}/trap")).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(fetch(&format!("http://{server}:81/")).await.1, "ErrorCode::ConnectionRefused\n");
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for denied in [format!("http://127.0.0.2:{port}/"), "http://169.254.169.254/".into(), "http://192.0.2.1/".into()] {
        assert_eq!(fetch(&denied).await.1, "ErrorCode::DestinationIpProhibited\n", "{denied}");
    }
    let events = Api::<Event>::default_namespaced(cluster.client());
    let of_pod = ListParams::default().fields("involvedObject.name=client,reason=NetworkDenied");
    eventually!(!events.list(&of_pod).await.unwrap().items.is_empty(), "the user is told of what was denied");
    cluster.stop().await;
}
