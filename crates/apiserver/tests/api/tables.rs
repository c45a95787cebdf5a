//! The forms in which lists and watches can be asked for.

use futures::StreamExt;
use http::{Method, Request};
use serde_json::json;
use skiff_apiserver::UserInfo;

use crate::support::{CONFIG_MAPS, PODS, Server, config_map, pod};

const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
const METADATA: (&str, &str) = ("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");

#[tokio::test]
async fn a_table_has_the_rows_of_the_list() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.post(PODS, &pod(name)).await.ok();
    }
    let table = server.request(Method::GET, &format!("{PODS}?limit=2"), &[TABLE], "").await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    let names: Vec<_> = table["rows"].as_array().unwrap().iter().map(|r| r["cells"][0].clone()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["continue"].is_string());
    let with = |include: &str| format!("{PODS}?includeObject={include}");
    let bare = server.request(Method::GET, &with("None"), &[TABLE], "").await.ok();
    assert!(bare["rows"][0].get("object").is_none());
    let whole = server.request(Method::GET, &with("Object"), &[TABLE], "").await.ok();
    assert_eq!(whole["rows"][0]["object"]["spec"]["containers"][0]["name"], "c");
    server.request(Method::GET, &with("Some"), &[TABLE], "").await.fails(400, "BadRequest");
}

#[tokio::test]
async fn metadata_alone() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({"secret": "text"}))).await.ok();
    let list = server.request(Method::GET, CONFIG_MAPS, &[METADATA], "").await;
    assert!(!list.text.contains("secret\":\"text"));
    let list = list.ok();
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("PartialObjectMetadataList"), &json!("a"))
    );
}

#[tokio::test]
async fn a_watch_of_tables_is_one_row_per_event() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.ok();
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true")).header(TABLE.0, TABLE.1);
    let response = server.send(UserInfo::admin(), request.body(axum::body::Body::empty()).unwrap()).await;
    let mut events = crate::support::Events::of(response);
    let (kind, table) = events.next().await.unwrap();
    assert_eq!((kind.as_str(), &table["kind"], &table["rows"][0]["cells"][1]), ("ADDED", &json!("Table"), &json!(1)));
}

/// What was written is what is read, in every form and after every way of writing it.
#[tokio::test]
async fn a_watch_and_a_list_agree() {
    let server = Server::start().await;
    let mut events = server.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    for i in 0..20 {
        server.post(CONFIG_MAPS, &config_map(&format!("m{i:02}"), json!({"i": i.to_string()}))).await.ok();
        if i % 3 == 0 {
            server.merge(&format!("{CONFIG_MAPS}/m{i:02}"), &json!({"data": {"i": null, "j": "x"}})).await.ok();
        }
        if i % 4 == 0 {
            server.delete(&format!("{CONFIG_MAPS}/m{i:02}"), &json!(null)).await.ok();
        }
    }
    let list = server.get(CONFIG_MAPS).await.ok();
    let last = list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let mut before = 0;
    while before < last {
        let (kind, mut object) = events.next().await.unwrap();
        let revision: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(revision >= before, "{revision} after {before}");
        before = revision;
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        object.as_object_mut().unwrap().retain(|k, _| k != "kind" && k != "apiVersion");
        match kind.as_str() {
            "DELETED" => drop(seen.remove(&name)),
            "BOOKMARK" => {}
            _ => drop(seen.insert(name, object)),
        }
    }
    assert_eq!(json!(seen.into_values().collect::<Vec<_>>()), list["items"]);
}

#[tokio::test]
async fn protobuf_says_the_same_as_json() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.post(PODS, &pod(name)).await.ok();
    }
    let accept = ("accept", "application/vnd.kubernetes.protobuf");
    let request = |path: &str| Request::get(path).header(accept.0, accept.1).body(axum::body::Body::empty()).unwrap();
    let bytes = |response: http::Response<axum::body::Body>| async {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    };
    let one = format!("{PODS}/a");
    let object = bytes(server.send(UserInfo::admin(), request(&one)).await).await;
    let object = skiff_api::protobuf::decode(&object).unwrap();
    assert_eq!(object["metadata"]["uid"], server.get(&one).await.ok()["metadata"]["uid"]);
    let list = bytes(server.send(UserInfo::admin(), request(PODS)).await).await;
    let list = skiff_api::protobuf::decode(&list).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("PodList"), Some(2)));
    let missing = bytes(server.send(UserInfo::admin(), request(&format!("{PODS}/none"))).await).await;
    assert_eq!(skiff_api::protobuf::decode(&missing).unwrap()["reason"], "NotFound");

    // A watch is frames: four bytes of length, then the event.
    let watch = server.send(UserInfo::admin(), request(&format!("{PODS}?watch=true"))).await;
    assert_eq!(watch.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut stream = watch.into_body().into_data_stream();
    let mut got = Vec::new();
    while got.len() < 4 || got.len() < 4 + u32::from_be_bytes([got[0], got[1], got[2], got[3]]) as usize {
        got.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    assert!(got[4..].windows(5).any(|w| w == b"ADDED"));
}
