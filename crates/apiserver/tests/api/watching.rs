//! Lists in chunks, and watches.

use serde_json::json;

use crate::support::{CONFIG_MAPS, PODS, Server, config_map, pod};

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.ok();
    let list = server.get(CONFIG_MAPS).await.ok();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.ok();
    server.merge(&format!("{CONFIG_MAPS}/a"), &json!({"data": {"x": "y"}})).await.ok();
    server.delete(&format!("{CONFIG_MAPS}/b"), &json!(null)).await.ok();
    let mut events = server.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}")).await;
    for expected in ["ADDED b", "MODIFIED a", "DELETED b"] {
        assert_eq!(events.line().await, expected);
    }
    // Without a revision it begins with what is there.
    let mut events = server.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    assert_eq!(events.line().await, "ADDED a");
}

#[tokio::test]
async fn a_selector_sees_objects_come_and_go() {
    let server = Server::start().await;
    let mut unscheduled = server.watch(&format!("{PODS}?watch=true&fieldSelector=spec.nodeName%3D")).await;
    let mut labelled = server.watch(&format!("{PODS}?watch=true&labelSelector=app%3Dweb")).await;
    server.post(PODS, &pod("p")).await.ok();
    server.merge(&format!("{PODS}/p"), &json!({"metadata": {"labels": {"app": "web"}}})).await.ok();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    server.post(&format!("{PODS}/p/binding"), &binding).await.ok();
    server.merge(&format!("{PODS}/p"), &json!({"metadata": {"labels": null}})).await.ok();
    let now = server.get(&format!("{PODS}/p")).await.ok();
    for expected in ["ADDED p", "MODIFIED p"] {
        assert_eq!(unscheduled.line().await, expected);
    }
    let (kind, gone) = loop {
        let event = unscheduled.next().await.unwrap();
        if event.0 != "BOOKMARK" {
            break event;
        }
    };
    assert_eq!((kind.as_str(), gone["spec"].get("nodeName")), ("DELETED", None));
    for expected in ["ADDED p", "MODIFIED p", "DELETED p"] {
        assert_eq!(labelled.line().await, expected);
    }
    assert!(gone["metadata"]["resourceVersion"].as_str() < now["metadata"]["resourceVersion"].as_str());
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a", json!({}))).await.ok();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = server.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(events.next().await.unwrap().0, "ADDED");
    let (kind, object) = events.next().await.unwrap();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let refused = server.get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true")).await;
    refused.fails(422, "Invalid");
}

#[tokio::test]
async fn chunks_are_of_one_revision() {
    let server = Server::start().await;
    for i in 0..5 {
        server.post(CONFIG_MAPS, &config_map(&format!("m{i}"), json!({}))).await.ok();
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete(&format!("{CONFIG_MAPS}/m3"), &json!(null)).await.ok();
    server.post(CONFIG_MAPS, &config_map("m9", json!({}))).await.ok();
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        names.extend(
            page["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);

    // Compacted: 410, with a token that goes on in the present.
    let token = first["metadata"]["continue"].as_str().unwrap();
    let now = skiff_store::Store::revision(server.store.as_ref());
    skiff_store::Store::compact(server.store.as_ref(), now).await.unwrap();
    let gone = server.get(&format!("{CONFIG_MAPS}?limit=9&continue={token}")).await.fails(410, "Expired");
    let fresh = gone["metadata"]["continue"].as_str().unwrap();
    let rest = server.get(&format!("{CONFIG_MAPS}?limit=9&continue={fresh}")).await.ok();
    let rest: Vec<_> =
        rest["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(rest, ["m2", "m4", "m9"]);
    server.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.fails(400, "BadRequest");

    // A watch from before is an error event, a list at a revision to come an error.
    let mut events = server.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=2")).await;
    let (kind, status) = events.next().await.unwrap();
    assert_eq!((kind.as_str(), status["code"].as_i64()), ("ERROR", Some(410)));
    assert!(events.next().await.is_none());
    server.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await.fails(504, "Timeout");
}

#[tokio::test]
async fn a_selector_and_chunks_find_everything_once() {
    let server = Server::start().await;
    let mut expected = Vec::new();
    for i in 0..1300 {
        let mut map = config_map(&format!("m{i:04}"), json!({}));
        if i % 7 == 0 {
            map["metadata"]["labels"] = json!({"pick": "me"});
            expected.push(format!("m{i:04}"));
        }
        server.post(CONFIG_MAPS, &map).await.ok();
    }
    for limit in [1, 10, 186, 500] {
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("{CONFIG_MAPS}?labelSelector=pick%3Dme&limit={limit}&continue={token}");
            let page = server.get(&path).await.ok();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            names.extend(items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()));
            assert!(page["metadata"].get("remainingItemCount").is_none());
            match page["metadata"]["continue"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(names, expected, "limit {limit}");
    }
    let one = server.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dm0007")).await.ok();
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
    let none = server.get(&format!("{CONFIG_MAPS}?labelSelector=pick%3Dyou")).await.ok();
    assert_eq!(
        (&none["items"], &none["metadata"]["resourceVersion"]),
        (&json!([]), &one["metadata"]["resourceVersion"])
    );
}
