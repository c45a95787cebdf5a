//! Scale, eviction, logs, tokens, reviews: what hangs off an object.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, Response};
use serde_json::json;
use skiff_apiserver::{NodeConnector, NodeError, UserInfo};

use crate::support::{PODS, Server, pod};

/// A node that answers with the request's own path.
struct Echo;

#[async_trait]
impl NodeConnector for Echo {
    async fn call(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, NodeError> {
        match node {
            "n1" => Ok(Response::new(Body::from(format!("{} {}\n", request.method(), request.uri())))),
            "n2" => Ok(Response::builder().status(400).body(Body::from("no such log")).unwrap()),
            _ => Err(NodeError::Unknown { node: node.to_owned() }),
        }
    }
}

async fn bind(server: &Server, name: &str, node: &str) {
    server.post(PODS, &pod(name)).await.ok();
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    server.post(&format!("{PODS}/{name}/binding"), &binding).await.ok();
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let server = Server::with(|config| config.nodes = Arc::new(Echo)).await;
    server.post(PODS, &pod("waits")).await.ok();
    assert_eq!(server.get(&format!("{PODS}/waits/log")).await.text, "");
    for (name, node) in [("p", "n1"), ("q", "n2"), ("r", "n3")] {
        bind(&server, name, node).await;
    }
    let log = server.get(&format!("{PODS}/p/log?follow=true&tailLines=3&timestamps=false")).await;
    assert_eq!(log.text, "GET /containerLogs/default/p/c?tailLines=3&follow=true\n");
    server.get(&format!("{PODS}/p/log?container=x")).await.fails(400, "BadRequest");
    server.get(&format!("{PODS}/p/log?tailLines=-1")).await.fails(422, "Invalid");
    assert_eq!(server.get(&format!("{PODS}/q/log")).await.fails(400, "BadRequest")["message"], "no such log");
    server.get(&format!("{PODS}/r/log")).await.fails(503, "ServiceUnavailable");
    server.get(&format!("{PODS}/none/log")).await.fails(404, "NotFound");

    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    server.post("/api/v1/nodes", &node).await.ok();
    let proxied = server.request(Method::POST, "/api/v1/nodes/n1/proxy/stats/summary?a=b", &[], "x").await;
    assert_eq!(proxied.text, "POST /stats/summary?a=b\n");
    server.request(Method::POST, &format!("{PODS}/p/exec?command=ls"), &[], "").await.fails(400, "BadRequest");
}

#[tokio::test]
async fn a_scale_is_a_view_of_its_object() {
    let server = Server::start().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "s"},
        "spec": { "replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    server.post(sets, &set).await.ok();
    let path = format!("{sets}/s/scale");
    let mut scale = server.get(&path).await.ok();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(1), &json!("a=b"))
    );
    let patched = server.merge(&path, &json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(patched["spec"]["replicas"], 4);
    let object = server.get(&format!("{sets}/s")).await.ok();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(4), &json!(2)));
    // The scale that was read first is stale.
    scale["spec"]["replicas"] = json!(9);
    server.put(&path, &scale).await.fails(409, "Conflict");
    server.merge(&path, &json!({"spec": {"replicas": -1}})).await.fails(422, "Invalid");
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let server = Server::start().await;
    let mut labelled = pod("p");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    server.post(PODS, &labelled).await.ok();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server.post(&format!("{PODS}/p/binding"), &binding).await.ok();
    server.merge(&format!("{PODS}/p/status"), &json!({"status": {"phase": "Running"}})).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    });
    server.post(budgets, &budget).await.ok();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    server.post(&path, &eviction).await.fails(429, "TooManyRequests");
    let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1}});
    server.merge(&format!("{budgets}/b/status"), &allowed).await.ok();
    assert_eq!(server.post(&path, &eviction).await.code, 201);
    let marked = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let spent = server.get(&format!("{budgets}/b")).await.ok();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);

    // A second deletion can only shorten the grace; zero ends it.
    let path = format!("{PODS}/p");
    server.delete(&path, &json!({"gracePeriodSeconds": 60})).await.ok();
    assert_eq!(server.get(&path).await.ok()["metadata"]["deletionGracePeriodSeconds"], 30);
    server.delete(&path, &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(server.get(&path).await.ok()["metadata"]["deletionGracePeriodSeconds"], 5);
    server.delete(&path, &json!({"gracePeriodSeconds": 0})).await.ok();
    server.get(&path).await.fails(404, "NotFound");
}

#[tokio::test]
async fn questions_are_answered_by_the_rule_in_force() {
    let server = Server::start().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me =
        server.post(who, &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})).await.ok();
    assert_eq!(me["status"]["userInfo"]["username"], "kubernetes-admin");
    let may = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (user, groups, allowed) in [("bob", json!(["devs"]), false), ("system:node:a", json!([]), true)] {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": {"verb": "get", "resource": "pods"}},
        });
        assert_eq!(server.post(may, &review).await.ok()["status"]["allowed"], allowed, "{user}");
    }
    let bob = UserInfo::new("bob", &[]);
    let answer = server.send(bob, Request::get(PODS).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    let bytes = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains(
        "pods is forbidden: User \\\"bob\\\" cannot list resource \\\"pods\\\" in API group \\\"\\\" in the namespace \\\"default\\\""
    ));
}

#[tokio::test]
async fn an_event_is_one_object_in_two_groups_and_ends() {
    tokio::time::pause();
    let server = Server::with(|config| config.event_ttl = std::time::Duration::from_secs(60)).await;
    let core = "/api/v1/namespaces/default/events";
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Seen", "message": "hello",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "count": 2,
    });
    server.post(core, &event).await.ok();
    let other = server.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.ok();
    assert_eq!((&other["note"], &other["regarding"]["name"]), (&json!("hello"), &json!("p")));
    let found = server.get(&format!("{core}?fieldSelector=involvedObject.name%3Dp")).await.ok();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    let mut watch = server
        .watch(&format!("{core}?watch=true&resourceVersion={}", found["metadata"]["resourceVersion"].as_str().unwrap()))
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    let (kind, gone) = loop {
        let event = watch.next().await.unwrap();
        if event.0 != "BOOKMARK" {
            break event;
        }
    };
    assert_eq!((kind.as_str(), &gone["metadata"]["name"]), ("DELETED", &json!("e")));
    assert_ne!(gone["metadata"]["resourceVersion"], found["items"][0]["metadata"]["resourceVersion"]);
    server.get(&format!("{core}/e")).await.fails(404, "NotFound");
}
