//! Discovery and OpenAPI: documents that are built once, sent with a tag, and not sent again to a client that has
//! them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use skiff_api::{Kind, Status, discovery, openapi};

use super::negotiate;
use crate::{encode, registry::Registry};

const JSON: &str = "application/json";
/// What Go clients ask for; older ones write `v2@v1.0`, newer ones `v2.v1.0`.
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2";

/// A document as it is sent.
#[derive(Debug)]
struct Document {
    bytes: Bytes,
    /// With quotes.
    tag: HeaderValue,
    hash: String,
}

impl Document {
    fn new(value: &Value) -> Arc<Self> {
        Self::of_bytes(encode::json(value))
    }

    fn of_bytes(bytes: Bytes) -> Arc<Self> {
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Arc::new(Self { bytes, tag, hash })
    }

    fn answer(&self, headers: &HeaderMap, content_type: &'static str) -> Response<Body> {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent == self.tag);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.bytes.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        out.insert(header::ETAG, self.tag.clone());
        out.insert(header::VARY, HeaderValue::from_static("Accept"));
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}

/// The documents of one set of kinds, each made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    aggregated_core: OnceLock<Arc<Document>>,
    aggregated_groups: OnceLock<Arc<Document>>,
    openapi_v2: OnceLock<Arc<Document>>,
    openapi_v2_protobuf: OnceLock<Arc<Document>>,
    openapi_v3_index: OnceLock<Arc<Document>>,
    openapi_v3: Mutex<HashMap<String, Arc<Document>>>,
}

fn kinds(registry: &Registry) -> impl Iterator<Item = &Kind> {
    registry.all().iter().map(|r| &r.kind)
}

impl Documents {
    /// `/api` and `/apis`.
    pub(crate) fn roots(&self, registry: &Registry, core: bool, headers: &HeaderMap) -> Response<Body> {
        if negotiate::wants_aggregated(headers) {
            let slot = if core { &self.aggregated_core } else { &self.aggregated_groups };
            let document = slot.get_or_init(|| Document::new(&discovery::aggregated(kinds(registry), core)));
            return document.answer(headers, discovery::AGGREGATED_MEDIA_TYPE);
        }
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
        let value = if core { discovery::core_versions(host) } else { discovery::group_list(kinds(registry)) };
        plain(&value, headers)
    }

    pub(crate) fn group(registry: &Registry, group: &str, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let found = discovery::group(kinds(registry), group);
        found.map(|v| plain(&v, headers)).ok_or_else(Status::no_such_resource)
    }

    pub(crate) fn resources(
        registry: &Registry,
        group: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let found = discovery::resource_list(kinds(registry), group, version);
        found.map(|v| plain(&v, headers)).ok_or_else(Status::no_such_resource)
    }

    pub(crate) fn openapi_v2(&self, registry: &Registry, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("");
        if accept.starts_with(OPENAPI_V2_PROTOBUF) {
            let document = self.openapi_v2_protobuf.get_or_init(|| {
                let document = openapi::v2::document(kinds(registry));
                Document::of_bytes(openapi::v2_protobuf::encode(&document).into())
            });
            return Ok(document.answer(headers, openapi::v2_protobuf::MEDIA_TYPE));
        }
        let document = self.openapi_v2.get_or_init(|| Document::new(&openapi::v2::document(kinds(registry))));
        Ok(document.answer(headers, JSON))
    }

    /// The index, or one document below it.
    pub(crate) fn openapi_v3(
        &self,
        registry: &Registry,
        document: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let Some(path) = document else {
            let hash =
                |path: &str| self.openapi_v3_document(registry, path).map(|d| d.hash.clone()).unwrap_or_default();
            let index = self.openapi_v3_index.get_or_init(|| Document::new(&openapi::v3::index(kinds(registry), hash)));
            return Ok(index.answer(headers, JSON));
        };
        let document = self.openapi_v3_document(registry, path).ok_or_else(Status::no_such_resource)?;
        Ok(document.answer(headers, JSON))
    }

    fn openapi_v3_document(&self, registry: &Registry, path: &str) -> Option<Arc<Document>> {
        if let Some(document) = self.openapi_v3.lock().get(path) {
            return Some(document.clone());
        }
        let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["api", version] => ("", *version),
            ["apis", group, version] => (*group, *version),
            _ => return None,
        };
        let document = Document::new(&openapi::v3::document(kinds(registry), group, version)?);
        self.openapi_v3.lock().insert(path.to_owned(), document.clone());
        Some(document)
    }
}

fn plain(value: &Value, headers: &HeaderMap) -> Response<Body> {
    Document::new(value).answer(headers, JSON)
}
