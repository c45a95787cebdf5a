//! Requests of the verbs: one door, so that errors and warnings of the server look the same everywhere, and as
//! kubectl's.

use std::process::ExitCode;

use anyhow::{Context, Result};
use futures::{AsyncBufReadExt, Stream, TryStreamExt};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::Value;

pub const JSON: &str = "application/json";
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
pub const APPLY: &str = "application/apply-patch+yaml";
pub const MERGE_PATCH: &str = "application/merge-patch+json";

/// What the server answered instead of doing it.
#[derive(Debug)]
pub struct ApiError {
    pub code: u16,
    pub reason: String,
    message: String,
    details: Value,
}

impl ApiError {
    fn from_body(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let message =
            status["message"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
        let reason = status["reason"].as_str().unwrap_or("Unknown").to_owned();
        Self { code, reason, message, details: status["details"].clone() }
    }
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.reason != "Invalid" {
            return write!(f, "Error from server ({}): {}", self.reason, self.message);
        }
        let text = |key: &str| self.details[key].as_str().unwrap_or_default();
        let causes: Vec<String> = self.details["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| {
                format!("{}: {}", c["field"].as_str().unwrap_or_default(), c["message"].as_str().unwrap_or_default())
            })
            .collect();
        write!(f, "The {} {:?} is invalid: ", text("kind"), text("name"))?;
        match causes.as_slice() {
            [] => f.write_str(&self.message),
            [one] => f.write_str(one),
            many => many.iter().try_for_each(|cause| write!(f, "\n* {cause}")),
        }
    }
}
impl std::error::Error for ApiError {}

/// The server's refusal, if that is what went wrong.
pub fn refusal(error: &anyhow::Error) -> Option<&ApiError> {
    error.downcast_ref()
}

/// A verb's end: what the server refused is told in its own words, without a prefix of ours.
pub fn finish(result: Result<ExitCode>) -> Result<ExitCode> {
    match result {
        Err(error) if refusal(&error).is_some() => {
            eprintln!("{error}");
            Ok(ExitCode::FAILURE)
        }
        other => other,
    }
}

/// A path with a query.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.push((key, value.to_string()));
        self
    }
    pub fn with_some(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
    fn on(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

#[derive(Clone)]
pub struct Server {
    client: Client,
}

impl Server {
    pub fn new(client: Client) -> Self {
        Self { client }
    }
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn get(&self, path: &str, query: &Query, accept: &str) -> Result<Value> {
        self.send(Method::GET, path, query, None, accept).await
    }

    /// `body`: its media type and the object.
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<(&str, &Value)>,
    ) -> Result<Value> {
        self.send(method, path, query, body, JSON).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<(&str, &Value)>,
        accept: &str,
    ) -> Result<Value> {
        let mut request = Request::builder().method(method).uri(query.on(path)).header(http::header::ACCEPT, accept);
        let bytes = match body {
            None => Vec::new(),
            Some((media_type, value)) => {
                request = request.header(http::header::CONTENT_TYPE, media_type);
                serde_json::to_vec(value)?
            }
        };
        let response =
            self.client.send(request.body(Body::from(bytes))?).await.context("failed to reach the server")?;
        for warning in response.headers().get_all(http::header::WARNING) {
            if let Some(text) = warning.to_str().ok().and_then(|w| w.split('"').nth(1)) {
                eprintln!("Warning: {text}");
            }
        }
        let code = response.status();
        let body = response.into_body().collect().await.context("failed to read the answer")?.to_bytes();
        if !code.is_success() {
            return Err(ApiError::from_body(code.as_u16(), &body).into());
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("the answer to {path} is not JSON"))
    }

    /// The lines of a stream: a watch's events, a container's log.
    pub async fn lines(
        &self,
        path: &str,
        query: &Query,
        accept: &str,
    ) -> Result<impl Stream<Item = Result<String>> + use<>> {
        let request = Request::get(query.on(path)).header(http::header::ACCEPT, accept).body(Vec::new())?;
        let stream = self.client.request_stream(request).await.map_err(from_kube)?;
        Ok(stream.lines().map_err(anyhow::Error::from))
    }

    /// The events of a watch; an error event ends it.
    pub async fn watch(
        &self,
        path: &str,
        query: &Query,
        accept: &str,
    ) -> Result<impl Stream<Item = Result<(String, Value)>> + use<>> {
        let lines = self.lines(path, &query.clone().with("watch", "true"), accept).await?;
        Ok(lines.and_then(|line| async move {
            let mut event: Value = serde_json::from_str(&line).context("the watch sent something that is no event")?;
            let object = event["object"].take();
            match event["type"].as_str() {
                Some("ERROR") => {
                    let code = object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
                    Err(ApiError::from_body(code, object.to_string().as_bytes()).into())
                }
                kind => Ok((kind.unwrap_or_default().to_owned(), object)),
            }
        }))
    }
}

/// The same form for what `kube` turned into an error of its own.
pub fn from_kube(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            let body = serde_json::to_vec(&*status).unwrap_or_default();
            ApiError::from_body(status.code, &body).into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_are_worded_as_kubectl_words_them() {
        let shown = |code, body: Value| ApiError::from_body(code, body.to_string().as_bytes()).to_string();
        assert_eq!(
            shown(404, json!({"reason": "NotFound", "message": "pods \"x\" not found"})),
            "Error from server (NotFound): pods \"x\" not found"
        );
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        assert_eq!(
            shown(422, json!({"reason": "Invalid", "details": {"kind": "Pod", "name": "p", "causes": [cause("a")]}})),
            "The Pod \"p\" is invalid: a: Required value"
        );
        assert_eq!(
            shown(
                422,
                json!({"reason": "Invalid", "details": {"kind": "Pod", "name": "p", "causes": [cause("a"), cause("b")]}})
            ),
            "The Pod \"p\" is invalid: \n* a: Required value\n* b: Required value"
        );
        assert_eq!(shown(502, json!("bad gateway")), "Error from server (Unknown): \"bad gateway\"");
    }
}
