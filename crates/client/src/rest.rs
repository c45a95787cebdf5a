//! Plain requests by kind and key, for those who write objects as JSON: the executor of plans, the event recorder.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use kube::{Client, client::Body};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use skiff_reconcile::{KindRef, ObjectKey, Preconditions};

use crate::Error;

/// No answer that is not a stream may be larger; pages of lists are far below it.
pub const BODY_BYTES_MAX: usize = 256 << 20;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// What a write leaves behind, as far as its author needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Written {
    #[serde(default)]
    pub metadata: WrittenMeta,
}
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenMeta {
    pub name: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub deletion_timestamp: Option<String>,
}
impl WrittenMeta {
    /// 0 when the answer names none.
    pub fn revision(&self) -> u64 {
        self.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

/// `/api/v1/namespaces/NS/pods`, `/apis/apps/v1/deployments`; of all namespaces with an empty one.
pub fn collection_path(kind: &KindRef, namespace: &str) -> String {
    let mut path = String::with_capacity(96);
    path.push_str(if kind.group.is_empty() { "/api/" } else { "/apis/" });
    if !kind.group.is_empty() {
        path.push_str(kind.group);
        path.push('/');
    }
    path.push_str(kind.version);
    if kind.namespaced && !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    path.push('/');
    path.push_str(kind.plural);
    path
}

/// The path of one object or of a subresource of it.
pub fn object_path(kind: &KindRef, key: &ObjectKey, subresource: Option<&str>) -> String {
    let mut path = collection_path(kind, &key.namespace);
    path.push('/');
    path.push_str(&key.name);
    if let Some(subresource) = subresource {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

#[derive(Clone)]
pub struct Rest {
    client: Client,
}

impl Rest {
    pub fn new(client: Client) -> Self {
        Self { client }
    }
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn get<T: DeserializeOwned>(&self, kind: &KindRef, key: &ObjectKey) -> Result<T, Error> {
        self.send(Method::GET, object_path(kind, key, None), "", &Value::Null).await
    }
    /// The metadata alone.
    pub async fn get_metadata(&self, kind: &KindRef, key: &ObjectKey) -> Result<Written, Error> {
        self.get(kind, key).await
    }
    pub async fn create<T: DeserializeOwned>(&self, kind: &KindRef, namespace: &str, body: &Value) -> Result<T, Error> {
        self.send(Method::POST, collection_path(kind, namespace), JSON, body).await
    }
    /// Creates a subresource: `binding`, `eviction`.
    pub async fn create_sub<T: DeserializeOwned>(
        &self,
        kind: &KindRef,
        key: &ObjectKey,
        subresource: &str,
        body: &Value,
    ) -> Result<T, Error> {
        self.send(Method::POST, object_path(kind, key, Some(subresource)), JSON, body).await
    }
    pub async fn merge_patch<T: DeserializeOwned>(
        &self,
        kind: &KindRef,
        key: &ObjectKey,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<T, Error> {
        self.send(Method::PATCH, object_path(kind, key, subresource), MERGE_PATCH, patch).await
    }
    /// Lists merge by their keys: one condition can be written without knowing the others.
    pub async fn strategic_patch<T: DeserializeOwned>(
        &self,
        kind: &KindRef,
        key: &ObjectKey,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<T, Error> {
        self.send(Method::PATCH, object_path(kind, key, subresource), STRATEGIC_PATCH, patch).await
    }
    pub async fn update<T: DeserializeOwned>(
        &self,
        kind: &KindRef,
        key: &ObjectKey,
        subresource: Option<&str>,
        body: &Value,
    ) -> Result<T, Error> {
        self.send(Method::PUT, object_path(kind, key, subresource), JSON, body).await
    }
    pub async fn delete<T: DeserializeOwned>(
        &self,
        kind: &KindRef,
        key: &ObjectKey,
        options: &Value,
    ) -> Result<T, Error> {
        self.send(Method::DELETE, object_path(kind, key, None), JSON, options).await
    }
    /// Deletes everything of a kind in a namespace.
    pub async fn delete_collection(&self, kind: &KindRef, namespace: &str, options: &Value) -> Result<(), Error> {
        let path = collection_path(kind, namespace);
        self.send::<serde::de::IgnoredAny>(Method::DELETE, path, JSON, options).await.map(drop)
    }
    /// Whether the API holds any object of a kind in a namespace; not from a cache.
    pub async fn any(&self, kind: &KindRef, namespace: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct List {
            items: Option<Vec<serde::de::IgnoredAny>>,
        }
        let path = format!("{}?limit=1", collection_path(kind, namespace));
        let list: List = self.send(Method::GET, path, "", &Value::Null).await?;
        Ok(list.items.is_some_and(|items| !items.is_empty()))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: &Value,
    ) -> Result<T, Error> {
        let mut request = Request::builder().method(method).uri(&path).header(header::ACCEPT, JSON);
        let mut bytes = Vec::new();
        if !body.is_null() {
            request = request.header(header::CONTENT_TYPE, content_type);
            bytes = body.to_string().into_bytes();
        }
        let request =
            request.body(Body::from(bytes)).map_err(|source| Error::Request { what: path.clone(), source })?;
        let bytes = collect(open(&self.client, request).await?, &path).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode { what: path, source })
    }
}

/// `DeleteOptions` as JSON.
pub fn delete_options(propagation: Option<&str>, grace_seconds: Option<i64>, preconditions: &Preconditions) -> Value {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
    if let Some(propagation) = propagation {
        options["propagationPolicy"] = json!(propagation);
    }
    if let Some(seconds) = grace_seconds {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(uid) = &preconditions.uid {
        options["preconditions"]["uid"] = json!(uid);
    }
    if let Some(version) = &preconditions.resource_version {
        options["preconditions"]["resourceVersion"] = json!(version);
    }
    options
}

/// Sends a request; a refusal becomes [`Error::Api`], anything else is the body to read.
pub(crate) async fn open(client: &Client, request: Request<Body>) -> Result<Body, Error> {
    let path = request.uri().path().to_owned();
    let response = client.send(request).await.map_err(|e| Error::Transport(Box::new(e)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Status {
        reason: String,
        message: String,
    }
    let bytes = collect(response.into_body(), &path).await?;
    let said: Status = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = if said.message.is_empty() { format!("{path}: {status}") } else { said.message };
    Err(Error::Api { code: status.as_u16(), reason: said.reason, message })
}

pub(crate) async fn collect(body: Body, what: &str) -> Result<Bytes, Error> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) => Err(match e.downcast::<kube::Error>() {
            Ok(e) => Error::Body(*e),
            Err(_) => Error::TooLarge { what: what.to_owned(), limit_bytes: BODY_BYTES_MAX },
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};

    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let (deployment, node) = (KindRef::of::<Deployment>(), KindRef::of::<Node>());
        let web = ObjectKey::new("default", "web");
        for (want, got) in [
            ("/apis/apps/v1/deployments", collection_path(&deployment, "")),
            ("/apis/apps/v1/namespaces/default/deployments", collection_path(&deployment, "default")),
            ("/apis/apps/v1/namespaces/default/deployments/web/status", object_path(&deployment, &web, Some("status"))),
            ("/api/v1/nodes/n1", object_path(&node, &ObjectKey::new("", "n1"), None)),
        ] {
            assert_eq!(got, want);
        }
    }
}
