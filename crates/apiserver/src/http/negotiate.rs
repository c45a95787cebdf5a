//! Media types: what the client sends and what it takes.

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use skiff_api::{Kind, Status, protobuf};

use crate::encode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// What an error about media types offers.
pub(crate) const OFFERED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Protobuf => protobuf::MEDIA_TYPE,
        }
    }

    pub(crate) fn encode(self, object: &Value) -> Result<(Bytes, &'static str), Status> {
        let bytes = match self {
            Self::Json => encode::json(object),
            Self::Yaml => serde_saphyr::to_string(object).map_err(Status::internal)?.into(),
            Self::Protobuf => protobuf::encode(object)?.into(),
        };
        Ok((bytes, self.content_type()))
    }

    /// From the JSON of an object.
    pub(crate) fn transcode(self, json: Bytes) -> Result<Bytes, Status> {
        match self {
            Self::Json => Ok(json),
            Self::Yaml | Self::Protobuf => Ok(self.encode(&crate::registry::parse(&json)?)?.0),
        }
    }
}

/// The form in which the client wants objects and lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Object,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata` and its list.
    Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub format: Format,
    pub shape: Shape,
}

impl Accepted {
    pub(crate) const JSON: Accepted = Accepted { format: Format::Json, shape: Shape::Object };

    /// The first clause of `Accept` that can be served, in the client's order of preference.
    ///
    /// Protobuf only for a kind that has a message, and not for tables, as it is JSON that clients take as well.
    ///
    /// # Errors
    /// 406 when none can.
    pub(crate) fn negotiate(headers: &HeaderMap, kind: &Kind) -> Result<Self, Status> {
        let mut clauses = Vec::new();
        for value in headers.get_all(header::ACCEPT) {
            let text = value.to_str().map_err(|_| Status::not_acceptable(OFFERED))?;
            clauses.extend(text.split(',').map(str::trim).filter(|c| !c.is_empty()).map(Clause::parse));
        }
        if clauses.is_empty() {
            return Ok(Self::JSON);
        }
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let found = clauses.iter().filter(|c| c.quality > 0.0).find_map(|c| c.served(kind));
        found.ok_or_else(|| Status::not_acceptable(OFFERED))
    }
}

/// Whether the client prefers discovery in one document.
pub(crate) fn wants_aggregated(headers: &HeaderMap) -> bool {
    let text = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    for clause in text.split(',').map(|c| Clause::parse(c.trim())).filter(|c| c.media == JSON) {
        match clause.shape.as_deref() {
            None => return false,
            Some("APIGroupDiscoveryList") if clause.group == "apidiscovery.k8s.io" && clause.version == "v2" => {
                return true;
            }
            Some(_) => {}
        }
    }
    false
}

#[derive(Debug)]
struct Clause {
    media: String,
    quality: f32,
    shape: Option<String>,
    group: String,
    version: String,
}

impl Clause {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let mut clause = Self { media, quality: 1.0, shape: None, group: String::new(), version: String::new() };
        for part in parts {
            match part.split_once('=') {
                Some(("q", q)) => clause.quality = q.parse().unwrap_or(1.0),
                Some(("as", shape)) => clause.shape = Some(shape.to_owned()),
                Some(("g", group)) => clause.group = group.to_owned(),
                Some(("v", version)) => clause.version = version.to_owned(),
                _ => {}
            }
        }
        clause
    }

    fn served(&self, kind: &Kind) -> Option<Accepted> {
        let format = match self.media.as_str() {
            JSON | "*/*" | "application/*" => Format::Json,
            YAML => Format::Yaml,
            protobuf::MEDIA_TYPE if protobuf::is_known(&kind.api_version(), &kind.kind) => Format::Protobuf,
            _ => return None,
        };
        let meta = self.group == "meta.k8s.io" && ["v1", "v1beta1"].contains(&self.version.as_str());
        let shape = match self.shape.as_deref() {
            None => Shape::Object,
            Some("Table") if meta => Shape::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => Shape::Metadata,
            // Discovery negotiates its own forms.
            Some(_) => return None,
        };
        // There is no message for a table.
        if format == Format::Protobuf && shape == Shape::Table {
            return None;
        }
        Some(Accepted { format, shape })
    }
}

/// The media type of the body; JSON when the client does not say.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or(JSON);
    let media = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if media.is_empty() { JSON.to_owned() } else { media }
}

/// The format of an object in the body.
///
/// # Errors
/// 415 for what is not one of them.
pub(crate) fn body_format(media: &str) -> Result<Format, Status> {
    match media {
        JSON => Ok(Format::Json),
        YAML | "application/x-yaml" | "text/yaml" => Ok(Format::Yaml),
        protobuf::MEDIA_TYPE => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(OFFERED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let table = Accepted { format: Format::Json, shape: Shape::Table };
        let metadata = Accepted { format: Format::Json, shape: Shape::Metadata };
        let protobuf = Accepted { format: Format::Protobuf, shape: Shape::Object };
        let yaml = Accepted { format: Format::Yaml, shape: Shape::Object };
        for (accept, expected) in [
            ("", Some(Accepted::JSON)),
            ("*/*", Some(Accepted::JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(table)),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Some(Accepted::JSON)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(metadata)),
            ("application/cbor,application/yaml", Some(yaml)),
            ("application/json;q=0.2, application/yaml;q=0.9", Some(yaml)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Accepted::JSON)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(protobuf)),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            let pods = skiff_api::kinds::find("", "v1", "pods").unwrap();
            assert_eq!(Accepted::negotiate(&headers, pods).ok(), expected, "{accept}");
        }
    }
}
