//! The caches against an API that follows a script: resumes, gaps, broken frames, refusals. Time is paused, so back-off
//! costs nothing.
#![allow(clippy::unwrap_used)] // A test that cannot lock or read its own script has failed.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use skiff_client::{Scope, SharedCache, in_process};
use skiff_reconcile::{Codec, KindRef, Object, ObjectKey, View};
use tower::service_fn;

/// What the API answers to the next request, whatever it is.
enum Answer {
    /// A status code and a whole body.
    Body(u16, Value),
    /// A watch that sends these frames and ends.
    Frames(Vec<String>),
    /// A watch that sends these frames and stays open.
    Open(Vec<String>),
}

type Frames = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

#[derive(Clone, Default)]
struct Api {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    accept: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn client(&self) -> kube::Client {
        let api = self.clone();
        in_process(service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(&request)) }
        }))
    }

    fn answer(&self, request: &Request<kube::client::Body>) -> Response<Frames> {
        // The time limit of a watch is an implementation detail.
        let uri = request.uri().to_string();
        let uri = uri.split('&').filter(|p| !p.starts_with("timeoutSeconds")).collect::<Vec<_>>().join("&");
        self.asked.lock().unwrap().push(uri);
        let accept = request.headers()[header::ACCEPT].to_str().unwrap().to_owned();
        self.accept.lock().unwrap().push(accept);
        let (code, frames, open) = match self.answers.lock().unwrap().pop_front() {
            None => (200, Vec::new(), true),
            Some(Answer::Body(code, body)) => (code, vec![body.to_string()], false),
            Some(Answer::Frames(frames)) => (200, frames, false),
            Some(Answer::Open(frames)) => (200, frames, true),
        };
        let frames = stream::iter(frames.into_iter().map(|f| Ok(Frame::data(Bytes::from(f)))));
        let body = if open { frames.chain(stream::pending()).boxed() } else { frames.boxed() };
        let mut response = Response::new(StreamBody::new(body));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        response
    }

    fn asked(&self) -> Vec<String> {
        let path = "/api/v1/configmaps?";
        let short = |u: &String| u.strip_prefix(path).map_or(u.clone(), str::to_owned);
        self.asked.lock().unwrap().iter().map(short).collect()
    }
}

fn object(name: &str, revision: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "default", "resourceVersion": revision.to_string() },
    })
}
fn list(revision: u64, token: &str, items: &[Value]) -> Answer {
    let metadata = json!({ "resourceVersion": revision.to_string(), "continue": token });
    Answer::Body(200, json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items }))
}
fn line(event_type: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": event_type, "object": object }))
}
fn refusal(code: u16) -> Value {
    json!({ "kind": "Status", "code": code, "reason": "Some", "message": "no" })
}
fn names(cache: &SharedCache) -> Vec<String> {
    let keys = cache.list_metadata(&KindRef::of::<ConfigMap>(), None);
    keys.into_iter().map(|m| format!("{}@{}", m.name.unwrap(), m.resource_version.unwrap())).collect()
}
const WATCH: &str = "watch=true&allowWatchBookmarks=true&resourceVersion=";

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_where_it_stopped_and_lists_again_when_it_cannot() {
    let broken = line("ADDED", &object("b", 6));
    let (head, tail) = broken.split_at(25);
    let bookmark = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "resourceVersion": "9" } });
    let api = Api::new([
        list(5, "", &[object("a", 3)]),
        Answer::Frames(vec![head.into(), format!("{tail}{}", line("BOOKMARK", &bookmark))]),
        Answer::Frames(vec![line("DELETED", &object("a", 11)), line("ERROR", &refusal(410))]),
        list(20, "", &[object("b", 6), object("c", 15)]),
        Answer::Open(vec![line("MODIFIED", &object("c", 21))]),
    ]);
    let caches = SharedCache::new(api.client());
    caches.declare_kind::<ConfigMap>().reached(21).await;
    assert_eq!(names(&caches), ["b@6", "c@21"]);
    let (five, nine, twenty) = (format!("{WATCH}5"), format!("{WATCH}9"), format!("{WATCH}20"));
    assert_eq!(api.asked(), ["limit=1000", &five, &nine, "limit=1000", &twenty]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_decode_leads_to_a_list_and_is_not_skipped() {
    let api = Api::new([
        list(5, "", &[]),
        Answer::Open(vec![line("ADDED", &object("a", 6)), line("ADDED", &json!({ "metadata": { "name": 7 } }))]),
        list(8, "", &[object("a", 6), object("seven", 7)]),
    ]);
    let caches = SharedCache::new(api.client());
    caches.declare_kind::<ConfigMap>().reached(8).await;
    assert_eq!(names(&caches), ["a@6", "seven@7"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_tried_again_and_pages_are_put_together() {
    let api = Api::new([
        Answer::Body(403, refusal(403)),
        Answer::Body(500, refusal(500)),
        list(7, "next page", &[object("a", 1)]),
        Answer::Body(410, refusal(410)),
        list(8, "more", &[object("a", 1)]),
        list(8, "", &[object("b", 2)]),
    ]);
    let caches = SharedCache::new(api.client());
    caches.declare_kind::<ConfigMap>();
    caches.synced().await;
    assert_eq!(names(&caches), ["a@1", "b@2"]);
    let page = "limit=1000&continue=next%20page";
    let all = ["limit=1000", "limit=1000", "limit=1000", page, "limit=1000", "limit=1000&continue=more"];
    assert_eq!(api.asked()[..6], all);
}

#[tokio::test(start_paused = true)]
async fn scopes_and_metadata_are_asked_for() {
    let api = Api::new([list(5, "", &[object("a", 3)])]);
    let caches = SharedCache::new(api.client());
    let kind = KindRef::of::<ConfigMap>();
    let scope = Scope { namespace: "shop".into(), fields: "spec.nodeName=n1".into(), labels: String::new() };
    caches.declare_scoped(Codec::metadata(kind), scope);
    caches.synced().await;
    assert_eq!(api.asked()[0], "/api/v1/namespaces/shop/configmaps?limit=1000&fieldSelector=spec.nodeName%3Dn1");
    let accept = api.accept.lock().unwrap()[0].clone();
    assert!(accept.starts_with("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,"), "{accept}");
    assert_eq!(names(&caches), ["a@3"]);
    assert!(caches.get_any(&kind, &ObjectKey::new("default", "a")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_coalesces_and_loses_nothing() {
    let frames = vec![
        line("MODIFIED", &object("a", 6)) + &line("MODIFIED", &object("a", 7)) + &line("ADDED", &object("b", 8)),
        line("DELETED", &object("b", 9)),
    ];
    let api = Api::new([list(5, "", &[object("a", 3)]), Answer::Open(frames)]);
    let caches = SharedCache::new(api.client());
    let cache = caches.declare_kind::<ConfigMap>();
    let mut changes = caches.subscribe(&[KindRef::of::<ConfigMap>()]);
    cache.reached(9).await;
    let seen: Vec<String> = changes.changed().await.into_iter().map(|(_, key)| key.name).collect();
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(ConfigMap::NAMESPACED, cache.codec().kind.namespaced);
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(3600), changes.changed()).await;
    assert!(quiet.is_err(), "each change is delivered once");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_after_the_last_clone_is_gone() {
    let api = Api::new([list(5, "", &[]), Answer::Frames(vec![])]);
    let caches = SharedCache::new(api.client());
    caches.declare_kind::<ConfigMap>();
    caches.synced().await;
    drop(caches);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let asked = api.asked().len();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(api.asked().len(), asked);
}
