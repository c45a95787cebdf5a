//! A server in this process and short ways to talk to it.

use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use skiff_apiserver::{ApiServer, ApiServerConfig, NoNodes, UserInfo};
use skiff_store::memory::MemoryStore;
use tower::ServiceExt;

pub struct Server {
    pub api: Arc<ApiServer>,
    pub store: Arc<MemoryStore>,
}

#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The answer if it is a success, else a panic that shows it.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code.is_success(), "{} {}", self.code, self.text);
        self.body
    }

    #[track_caller]
    pub fn fails(self, code: u16, reason: &str) -> Value {
        assert_eq!((self.code.as_u16(), self.body["reason"].as_str().unwrap_or("")), (code, reason), "{}", self.text);
        assert_eq!(self.body["kind"], "Status", "{}", self.text);
        self.body
    }

    pub fn warnings(&self) -> Vec<String> {
        self.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect()
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ApiServerConfig)) -> Self {
        let store = Arc::new(MemoryStore::default());
        let mut config = ApiServerConfig::new(store.clone(), Arc::new(NoNodes));
        change(&mut config);
        let api = ApiServer::new(config);
        api.bootstrap().await.unwrap();
        Self { api, store }
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.api.service(UserInfo::admin()), "default")
    }

    pub async fn send(&self, user: UserInfo, request: Request<Body>) -> http::Response<Body> {
        self.api.service(user).oneshot(request).await.unwrap()
    }

    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(UserInfo::admin(), request.body(body.into()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            code: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.request(Method::POST, path, JSON, object.to_string()).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Answer {
        self.request(Method::PUT, path, JSON, object.to_string()).await
    }

    pub async fn patch(&self, path: &str, media: &str, patch: &Value) -> Answer {
        self.request(Method::PATCH, path, &[("content-type", media)], patch.to_string()).await
    }

    pub async fn merge(&self, path: &str, patch: &Value) -> Answer {
        self.patch(path, "application/merge-patch+json", patch).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.request(Method::DELETE, path, JSON, body).await
    }

    /// Begins a watch; events come as `(type, object)`.
    pub async fn watch(&self, path: &str) -> Events {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.send(UserInfo::admin(), request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events::of(response)
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

pub struct Events {
    body: axum::body::BodyDataStream,
    buffer: Vec<u8>,
}

impl Events {
    pub fn of(response: http::Response<Body>) -> Self {
        Self { body: response.into_body().into_data_stream(), buffer: Vec::new() }
    }

    /// The next event, `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].take()));
            }
            let patience = std::time::Duration::from_secs(10);
            let chunk = tokio::time::timeout(patience, self.body.next()).await.expect("an event in time");
            self.buffer.extend_from_slice(&chunk?.unwrap());
        }
    }

    /// The next event as `TYPE name`, bookmarks aside.
    pub async fn line(&mut self) -> String {
        loop {
            let (kind, object) = self.next().await.expect("one more event");
            if kind != "BOOKMARK" {
                return format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or("-"));
            }
        }
    }
}

pub fn config_map(name: &str, data: Value) -> Value {
    serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

pub fn pod(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "localhost/hello:latest" }] },
    })
}
